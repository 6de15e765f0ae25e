//! Selectors: one reading of each text, and sets that are sets.
#![no_main]

use landfast_identity::{Selector, SelectorSet};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let parsed = Selector::parse(text);
    assert_eq!(parsed.is_ok(), is_selector(text), "{text:?}: {parsed:?}");
    if let Ok(selector) = &parsed {
        assert_eq!(selector.to_string(), text);
        assert!(!selector.kind().contains(':'));
        let again = Selector::new(selector.kind(), selector.value());
        assert_eq!(again.as_ref(), Ok(selector));
    }
    let several: Vec<Selector> = text
        .split('\n')
        .take(16)
        .filter_map(|line| Selector::parse(line).ok())
        .collect();
    let set: SelectorSet = several.iter().cloned().collect();
    let reversed: SelectorSet = several.iter().rev().chain(&several).cloned().collect();
    assert_eq!(set, reversed);
    assert!(several.iter().all(|one| set.contains(one)));
    assert!(set.iter().zip(set.iter().skip(1)).all(|(a, b)| a < b));
    let half: SelectorSet = several.iter().step_by(2).cloned().collect();
    assert!(half.is_subset_of(&set));
    assert_eq!(set.is_subset_of(&half), set == half);
});

fn is_selector(text: &str) -> bool {
    let Some(at) = text.find(':') else {
        return false;
    };
    let (kind, value) = (&text[..at], &text[at + 1..]);
    (1..=255).contains(&kind.len())
        && (1..=8192).contains(&value.len())
        && !text.chars().any(char::is_control)
}
