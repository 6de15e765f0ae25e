//! The list of differences that somebody has explained. Invariant: a line holds for exactly as many cases as it says, so that
//! nothing slips in under a pattern and the list shrinks when a difference is gone.

use crate::BoxError;
use crate::case::{Answer, Case, Expected};

/// The lines of the list: `suite pattern count answer reason`.
pub(crate) struct Allowed(Vec<Line>);

struct Line {
    number: usize,
    suite: String,
    /// A case ID; `*` stands for anything.
    pattern: String,
    count: usize,
    answer: String,
    reason: String,
    seen: usize,
}

/// What is to be said of one case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Accepted, as the suite wants.
    Accepted,
    /// Refused, as the suite wants.
    Refused,
    /// The suite takes either answer.
    Either,
    /// The suite wants a refusal because of the name of the peer. We identify by SPIFFE ID, so the name was not asked.
    Name,
    /// It differs, and the list says why.
    Explained(String),
    /// It differs.
    Failing,
}

impl Verdict {
    pub(crate) fn fails(&self) -> bool {
        *self == Self::Failing
    }
}

impl Allowed {
    pub(crate) fn parse(text: &str) -> Result<Self, BoxError> {
        let mut lines = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let number = at + 1;
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            lines.push(Line::parse(number, line).ok_or_else(|| {
                format!("allow.txt:{number}: expected «suite pattern count answer reason», count above 0")
            })?);
        }
        Ok(Self(lines))
    }

    /// Judges a case, and charges it to the first line that explains it.
    pub(crate) fn judge(&mut self, case: &Case) -> Verdict {
        match (case.expected, &case.answer) {
            (Expected::Either, _) => return Verdict::Either,
            (Expected::Accept, Answer::Accepted | Answer::AcceptedButNamed) => return Verdict::Accepted,
            (Expected::Refuse, Answer::Refused(_)) => return Verdict::Refused,
            (Expected::Refuse, Answer::AcceptedButNamed)
            | (Expected::Accept, Answer::Refused(_))
            | (Expected::Refuse, Answer::Accepted) => {}
        }
        match self.0.iter_mut().find(|line| line.covers(case)) {
            Some(line) => {
                line.seen += 1;
                match case.answer {
                    Answer::AcceptedButNamed => Verdict::Name,
                    _ => Verdict::Explained(line.reason.clone()),
                }
            }
            None => Verdict::Failing,
        }
    }

    /// The lines that do not hold for as many cases as they say.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let wrong = self.0.iter().filter(|line| line.seen != line.count);
        wrong
            .map(|line| {
                let advice = match line.seen {
                    0 => "remove the line",
                    n if n < line.count => "lower the count",
                    _ => "look at the new cases, then raise the count",
                };
                let (number, seen, count) = (line.number, line.seen, line.count);
                format!(
                    "allow.txt:{number}: {} {} explains {seen} differences, not {count}: {advice}",
                    line.suite, line.pattern
                )
            })
            .collect()
    }
}

impl Line {
    fn parse(number: usize, line: &str) -> Option<Self> {
        let mut rest = line;
        let mut word = || {
            let (word, after) = rest.split_once(' ')?;
            rest = after.trim_start();
            Some(word.to_owned())
        };
        let (suite, pattern, count, answer) = (word()?, word()?, word()?.parse().ok()?, word()?);
        (count > 0 && !rest.is_empty()).then(|| Self {
            number,
            suite,
            pattern,
            count,
            answer,
            reason: rest.to_owned(),
            seen: 0,
        })
    }

    fn covers(&self, case: &Case) -> bool {
        self.suite == case.suite && self.answer == case.answer.text() && matches(&self.pattern, &case.id)
    }
}

fn matches(pattern: &str, id: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == id,
        Some((before, after)) => id.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices()
                .map(|(at, _)| &rest[at..])
                .chain([""])
                .any(|tail| matches(after, tail))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(id: &str, expected: Expected, answer: Answer) -> Case {
        let (suite, id) = ("s", id.to_owned());
        Case {
            suite,
            id,
            expected,
            answer,
        }
    }

    fn wrongly_accepted(id: &str) -> Case {
        case(id, Expected::Refuse, Answer::Accepted)
    }

    #[test]
    fn agreement_needs_no_line_and_a_difference_does() {
        let mut none = Allowed::parse("# only a comment\n\n").unwrap();
        let refused = || Answer::Refused("Expired/Leaf".to_owned());
        for (expected, answer, verdict) in [
            (Expected::Accept, Answer::Accepted, Verdict::Accepted),
            (Expected::Refuse, refused(), Verdict::Refused),
            (Expected::Either, refused(), Verdict::Either),
            (Expected::Refuse, Answer::AcceptedButNamed, Verdict::Failing),
            (Expected::Refuse, Answer::Accepted, Verdict::Failing),
            (Expected::Accept, refused(), Verdict::Failing),
        ] {
            assert_eq!(none.judge(&case("a", expected, answer)), verdict);
        }
        assert!(none.complaints().is_empty());
        // Names that nobody asked for are counted too: else a chain that we begin to take wrongly could hide among them.
        let mut named = Allowed::parse("s * 1 named because").unwrap();
        let case = case("a", Expected::Refuse, Answer::AcceptedButNamed);
        assert_eq!(named.judge(&case), Verdict::Name);
        assert!(named.complaints().is_empty());
    }

    #[test]
    fn a_line_explains_its_suite_its_pattern_and_its_answer_only() {
        let mut list = Allowed::parse("s a::* 1 accepted because").unwrap();
        assert_eq!(list.judge(&wrongly_accepted("b::x")), Verdict::Failing);
        let other = Case {
            suite: "t",
            ..wrongly_accepted("a::x")
        };
        assert_eq!(list.judge(&other), Verdict::Failing);
        let refused = case("a::x", Expected::Accept, Answer::Refused("Key".to_owned()));
        assert_eq!(list.judge(&refused), Verdict::Failing);
        assert!(!list.complaints().is_empty());
        let explained = Verdict::Explained("because".to_owned());
        assert_eq!(list.judge(&wrongly_accepted("a::x")), explained);
        assert!(list.complaints().is_empty());
    }

    #[test]
    fn a_line_that_explains_fewer_or_more_cases_than_it_says_is_a_failure() {
        let mut list = Allowed::parse("s a* 2 accepted because").unwrap();
        assert!(list.complaints()[0].ends_with("remove the line"));
        assert_ne!(list.judge(&wrongly_accepted("a1")), Verdict::Failing);
        assert!(list.complaints()[0].ends_with("lower the count"));
        assert_ne!(list.judge(&wrongly_accepted("a2")), Verdict::Failing);
        assert!(list.complaints().is_empty());
        assert_ne!(list.judge(&wrongly_accepted("a3")), Verdict::Failing);
        assert!(list.complaints()[0].ends_with("raise the count"));
    }

    #[test]
    fn a_line_without_count_or_reason_is_refused() {
        for bad in [
            "s a",
            "s a accepted because",
            "s a 1 accepted",
            "s a 0 accepted because",
            "s a 1 accepted ",
        ] {
            assert!(Allowed::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, id, yes) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "a", true),
            ("a*c", "abbc", true),
            ("a*c", "abcd", false),
            ("*b*", "abc", true),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, id), yes, "{pattern} {id}");
        }
    }
}
