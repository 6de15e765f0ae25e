//! Record numbers as people read them. Invariant: bounded, and says when it is cut.

use crate::record::Ref;

/// `3, 7 to 12 and 40 more`.
pub(crate) fn numbers(records: &[Ref]) -> String {
    let mut sorted = records.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut runs: Vec<(Ref, Ref)> = Vec::new();
    for at in sorted {
        match runs.last_mut() {
            Some((_, last)) if last.ledger == at.ledger && last.record + 1 == at.record => *last = at,
            _ => runs.push((at, at)),
        }
    }
    let shown = runs
        .iter()
        .take(MOST_RUNS)
        .map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first} to {last}"),
        });
    let shown = shown.collect::<Vec<_>>().join(", ");
    match runs.len() {
        0 => "none".to_owned(),
        more if more > MOST_RUNS => format!("{shown} and {} more", more - MOST_RUNS),
        _ => shown,
    }
}

/// `1 record`, `3 records`.
pub(crate) fn counted(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count if what.ends_with('y') && !what.ends_with("ey") => {
            format!("{count} {}ies", &what[..what.len() - 1])
        }
        count => format!("{count} {what}s"),
    }
}

const MOST_RUNS: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_said_as_runs() {
        let at = |record| Ref { ledger: 1, record };
        assert_eq!(numbers(&[at(9), at(3), at(4), at(5)]), "3 to 5, 9");
        assert_eq!(numbers(&[]), "none");
        assert_eq!(counted(1, "record"), "1 record");
        assert_eq!(counted(2, "identity"), "2 identities");
        let far: Vec<Ref> = (0..40).map(|n| at(n * 2)).collect();
        assert!(numbers(&far).ends_with("and 28 more"));
    }
}
