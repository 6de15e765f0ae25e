//! What becomes of a batch: which of it is new, and what is wrong with it.
//!
//! Invariant: pure. Nothing is taken twice; a hole is told where it is; and where a journal contradicts what it said before, nothing of it is taken under
//! its name any more.

use super::line::{Hash, Line};

/// What the ledger of this server has of a node's journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) journal: String,
    pub(super) next: u64,
    pub(super) chain: Hash,
    pub(super) broken: bool,
}

/// What is to be recorded, in this order.
#[derive(Debug)]
pub(super) enum Told {
    /// A line of the journal; of a count, from this number on.
    Line { line: Line, from: u64 },
    /// The node has another journal than before.
    Other { before: Known },
    /// These numbers never came here. Of a node that had them acknowledged elsewhere, that ledger has them.
    Hole { from: u64, to: u64 },
    /// From this number on it contradicts itself.
    Broken { at: u64 },
}

/// The records, and what is known with them. Lines come in the order of their numbers.
pub(super) fn step(before: Option<&Known>, journal: &str, lines: Vec<Line>) -> (Vec<Told>, Known) {
    let mut told = Vec::new();
    let same = before.filter(|known| known.journal == journal);
    if let (Some(before), None) = (before, same) {
        told.push(Told::Other {
            before: before.clone(),
        });
    }
    let mut known = same.cloned().unwrap_or_else(|| Known {
        journal: journal.to_owned(),
        next: 0,
        chain: [0; 32],
        broken: false,
    });
    if known.broken {
        return (Vec::new(), known);
    }
    for line in lines {
        if line.last < known.next {
            // The last that is known has to be the same; of those before, the chain says so.
            if line.last + 1 == known.next && line.chain != known.chain {
                return broken(told, known, line.last);
            }
            continue;
        }
        if line.first > known.next {
            told.push(Told::Hole {
                from: known.next,
                to: line.first - 1,
            });
        }
        if line.first == known.next && line.prev != known.chain {
            return broken(told, known, line.first);
        }
        let from = line.first.max(known.next);
        (known.next, known.chain) = (line.last + 1, line.chain);
        told.push(Told::Line { line, from });
    }
    (told, known)
}

fn broken(mut told: Vec<Told>, mut known: Known, at: u64) -> (Vec<Told>, Known) {
    told.push(Told::Broken { at });
    known.broken = true;
    (told, known)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A journal as an agent writes it.
    fn lines(count: u64) -> Vec<Line> {
        let (mut prev, mut lines) = ([0; 32], Vec::new());
        for number in 0..count {
            let text = format!(
                r#"{{"v":1,"seq":{number},"prev":"{}","type":"svid.denied","quality":"confirmed"}}"#,
                crate::random::hex(&prev)
            );
            let line = Line::parse(text.as_bytes()).unwrap();
            prev = line.chain;
            lines.push(line);
        }
        lines
    }

    fn numbers(told: &[Told]) -> Vec<u64> {
        let taken = told.iter().filter_map(|told| match told {
            Told::Line { line, .. } => Some(line.first),
            _ => None,
        });
        taken.collect()
    }

    #[test]
    fn what_comes_again_is_taken_once() {
        let (told, known) = step(None, "a", lines(5));
        assert_eq!(numbers(&told), [0, 1, 2, 3, 4]);
        let (told, known) = step(Some(&known), "a", lines(8));
        assert_eq!((numbers(&told), told.len(), known.next), (vec![5, 6, 7], 3, 8));
        let (told, again) = step(Some(&known), "a", lines(8));
        assert!(told.is_empty());
        assert_eq!(again, known);
    }

    #[test]
    fn a_hole_is_told_with_its_numbers() {
        let (_, known) = step(None, "a", lines(3));
        let (told, after) = step(Some(&known), "a", lines(10).split_off(6));
        assert!(matches!(told[0], Told::Hole { from: 3, to: 5 }), "{told:?}");
        assert_eq!((numbers(&told), after.next), (vec![6, 7, 8, 9], 10));
    }

    #[test]
    fn a_journal_that_contradicts_what_it_said_is_taken_no_more() {
        let (_, known) = step(None, "a", lines(3));
        let other = |from: usize| {
            let mut others = lines(9);
            for line in &mut others {
                line.chain[0] ^= 1;
            }
            for line in &mut others[1..] {
                line.prev[0] ^= 1;
            }
            others.split_off(from)
        };
        // Also where the disk was put back and the journal has not come as far again.
        for from in [2, 3] {
            let (told, after) = step(Some(&known), "a", other(from));
            assert!(matches!(told[..], [Told::Broken { .. }]), "{told:?}");
            assert!(after.broken && after.next == 3);
            let (told, still) = step(Some(&after), "a", lines(9));
            assert!(told.is_empty() && still == after);
        }
        let mut within = lines(6);
        within[4].prev[5] ^= 1;
        let (told, after) = step(Some(&known), "a", within);
        assert_eq!((numbers(&told), after.broken), (vec![3], true));
    }

    #[test]
    fn another_journal_is_told_and_begins_anew() {
        let (_, known) = step(None, "a", lines(3));
        let (told, after) = step(Some(&known), "b", lines(2));
        assert!(matches!(&told[0], Told::Other { before } if before.next == 3));
        assert_eq!((numbers(&told), after.next), (vec![0, 1], 2));
    }

    #[test]
    fn a_count_that_has_grown_counts_what_is_not_known_yet() {
        let (_, known) = step(None, "a", lines(4));
        let text = format!(
            r#"{{"v":1,"seq":2,"last":7,"prev":"{0}","chain":"{0}","type":"journal.gap","counts":{{"svid.denied":6}}}}"#,
            crate::random::hex(&[7; 32])
        );
        let gap = Line::parse(text.as_bytes()).unwrap();
        let (told, after) = step(Some(&known), "a", vec![gap]);
        assert!(matches!(told[..], [Told::Line { from: 4, .. }]), "{told:?}");
        assert_eq!((after.next, after.chain), (8, [7; 32]));
        for wrong in ["\"last\":8", "\"last\":1"] {
            assert!(Line::parse(text.replace("\"last\":7", wrong).as_bytes()).is_err());
        }
        // Of the fuzzer: a hash has one spelling.
        assert!(Line::parse(text.replacen("07", "+7", 1).as_bytes()).is_err());
    }
}
