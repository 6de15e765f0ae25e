//! Prints an error with its causes, once, where it is handled.

use std::error::Error;
use std::fmt::Write as _;

/// The error and its sources, outermost first, joined by `": "`. A cause that says the same as the one before is left out.
#[must_use]
pub fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut last = text.clone();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if said != last {
            write!(text, ": {said}").expect("writing to a String cannot fail");
            last = said;
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{what}")]
    struct Layer {
        what: &'static str,
        source: Option<Box<Self>>,
    }

    fn layers(texts: &[&'static str]) -> Layer {
        Layer {
            what: texts[0],
            source: (texts.len() > 1).then(|| Box::new(layers(&texts[1..]))),
        }
    }

    #[test]
    fn causes_follow_outermost_first() {
        assert_eq!(
            error_chain(&layers(&["cannot start", "cannot bind", "in use"])),
            "cannot start: cannot bind: in use"
        );
    }

    #[test]
    fn a_cause_that_repeats_its_effect_is_said_once() {
        assert_eq!(
            error_chain(&layers(&["cannot start", "in use", "in use"])),
            "cannot start: in use"
        );
    }
}
