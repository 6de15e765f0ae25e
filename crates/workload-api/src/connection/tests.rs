//! When a look at a process is over, and what the next one adds.

use landfast_identity::Selector;

use super::*;

fn found(selectors: &[&str], incomplete: bool) -> Attested {
    Attested {
        incomplete,
        ..Attested::complete(
            selectors
                .iter()
                .map(|text| Selector::parse(text).unwrap())
                .collect(),
        )
    }
}

#[tokio::test(start_paused = true)]
async fn only_what_is_incomplete_or_outdated_is_over() {
    let (whole, part) = (found(&["a:1"], false), found(&["a:1"], true));
    let outdated = whole.outdated.clone();
    let (whole, part) = (Held::new(whole, None), Held::new(part, None));
    assert!(!whole.is_over() && !part.is_over());
    part.over().await;
    assert!(part.is_over() && !whole.is_over());
    outdated.cancel();
    whole.over().await;
    assert!(whole.is_over());
}

#[test]
fn an_incomplete_look_takes_nothing_away() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    let first = Held::new(found(&["a:1", "b:2"], true), None);
    let second = Held::new(found(&["a:1", "c:3"], true), Some(&first));
    assert_eq!(second.selectors, found(&["a:1", "b:2", "c:3"], true).selectors);
    let third = Held::new(found(&["a:1"], false), Some(&second));
    assert_eq!(
        third.selectors,
        found(&["a:1"], true).selectors,
        "a whole look does"
    );
}
