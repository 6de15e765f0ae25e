//! What an entry asks for in case the server is away.
//!
//! Invariant: whatever the server says, an entry whose policy is privileged has nothing of it, and no more tokens are kept than [`MAX_TOKENS`].
//! Of an entry that is privileged itself the index knows: [`super::EntryIndex::offline`].

use std::time::Duration;

use landfast_proto::landfast::entry::v1 as wire;

/// See above. The default asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offline {
    /// For how long there shall be X.509-SVIDs; zero for as long as one lives.
    pub(crate) reserve: Duration,
    /// For which audiences a JWT-SVID shall be there, and how long each shall live.
    pub(crate) tokens: Vec<(String, Duration)>,
}

/// As the default.
pub(super) static NOTHING: Offline = Offline {
    reserve: Duration::ZERO,
    tokens: Vec::new(),
};

impl Offline {
    /// From the server's words, of which those that no policy of ours has are passed over.
    pub(crate) fn of(policy: Option<&wire::EntryPolicy>) -> Self {
        let Some(policy) = policy.filter(|policy| !policy.privileged) else {
            return Self::default();
        };
        let mut tokens: Vec<_> = policy
            .jwt_offline
            .iter()
            .filter(|one| !one.audience.is_empty() && one.audience.len() <= MAX_AUDIENCE && one.seconds > 0)
            .map(|one| {
                (
                    one.audience.clone(),
                    Duration::from_secs(one.seconds.into()).min(LONGEST_TOKEN),
                )
            })
            .collect();
        tokens.sort();
        tokens.dedup_by(|two, one| two.0 == one.0);
        tokens.truncate(MAX_TOKENS);
        Self {
            reserve: Duration::from_secs(policy.offline_reserve_seconds.into()),
            tokens,
        }
    }

    /// The same words again.
    pub(crate) fn to_policy(&self, entry_id: &str) -> Option<wire::EntryPolicy> {
        let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let tokens = self.tokens.iter().map(|(audience, life)| wire::JwtOffline {
            audience: audience.clone(),
            seconds: seconds(*life),
        });
        (*self != Self::default()).then(|| wire::EntryPolicy {
            entry_id: entry_id.to_owned(),
            offline_reserve_seconds: seconds(self.reserve),
            jwt_offline: tokens.collect(),
            ..Default::default()
        })
    }
}

/// Of one entry.
const MAX_TOKENS: usize = 16;
const MAX_AUDIENCE: usize = 512;
const LONGEST_TOKEN: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> wire::EntryPolicy {
        let token = |audience: &str, seconds| wire::JwtOffline {
            audience: audience.to_owned(),
            seconds,
        };
        wire::EntryPolicy {
            offline_reserve_seconds: 259_200,
            jwt_offline: vec![
                token("b", 28_800),
                token("a", 1_000_000),
                token("", 1),
                token("c", 0),
                token("a", 5),
            ],
            ..Default::default()
        }
    }

    #[test]
    fn a_policy_is_read_within_bounds_and_written_as_it_was_read() {
        let read = Offline::of(Some(&policy()));
        assert_eq!(read.reserve, Duration::from_secs(72 * 3600));
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        assert_eq!(
            read.tokens.iter().map(|one| one.0.as_str()).collect::<Vec<_>>(),
            ["a", "b"]
        );
        assert_eq!(read.tokens[1].1, hours(8));
        assert!(read.tokens[0].1 <= hours(24));
        assert_eq!(Offline::of(read.to_policy("e").as_ref()), read);
        assert_eq!(Offline::default().to_policy("e"), None);
        let many = (0..100).map(|n| wire::JwtOffline {
            audience: n.to_string(),
            seconds: 60,
        });
        let many = wire::EntryPolicy {
            jwt_offline: many.collect(),
            ..policy()
        };
        assert_eq!(Offline::of(Some(&many)).tokens.len(), MAX_TOKENS);
    }

    #[test]
    fn a_privileged_entry_has_no_reserve_whatever_else_is_said() {
        let privileged = wire::EntryPolicy {
            privileged: true,
            ..policy()
        };
        assert_eq!(Offline::of(Some(&privileged)), Offline::default());
        assert_eq!(Offline::of(None), Offline::default());
    }
}
