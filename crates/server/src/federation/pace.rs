//! When an endpoint is asked again. Invariant: between a minute and a day, whatever the peer says (T-26).

use std::time::Duration;

use landfast_identity::TrustDomain;
use ring::digest::{SHA256, digest};

/// After success and failure alike: who does not answer is not asked harder (SPIFFE Federation §6.2). Up to a tenth earlier than the hint,
/// by a part that is drawn from the two names, so that not all sites ask one at once, and each keeps its time.
pub(super) fn interval(hint: Option<Duration>, ours: &TrustDomain, theirs: &TrustDomain) -> Duration {
    let wanted = hint.unwrap_or(DEFAULT).clamp(LEAST, MOST);
    let names = digest(&SHA256, format!("{ours}\n{theirs}").as_bytes());
    let part = names.as_ref().first().copied().unwrap_or(0);
    wanted
        .saturating_sub(wanted / 10 * u32::from(part) / 255)
        .max(LEAST)
}

const DEFAULT: Duration = Duration::from_secs(300);
const LEAST: Duration = Duration::from_secs(60);
const MOST: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_clamped_and_spread_by_a_tenth() {
        let td = |name: &str| TrustDomain::parse(name).unwrap();
        let ours = td("plant.example");
        let seconds = Duration::from_secs;
        for (hint, least, most) in [
            (None, 270, 300),
            (Some(0), 60, 60),
            (Some(1), 60, 60),
            (Some(600), 540, 600),
            (Some(1_000_000_000_000_000_000), 77_760, 86_400),
            (Some(u64::MAX), 77_760, 86_400),
        ] {
            let mut seen = std::collections::BTreeSet::new();
            for n in 0..50 {
                let theirs = td(&format!("site{n}.example"));
                let found = interval(hint.map(seconds), &ours, &theirs);
                assert_eq!(found, interval(hint.map(seconds), &ours, &theirs));
                assert!(
                    (seconds(least)..=seconds(most)).contains(&found),
                    "{hint:?}: {found:?}"
                );
                seen.insert(found);
            }
            assert!(least == most || seen.len() > 20, "{hint:?}: {seen:?}");
        }
    }
}
