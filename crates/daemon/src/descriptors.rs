//! How many descriptors this process may have open. Invariant: only the soft limit is changed, and never lowered.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard one, which systemd and most shells leave far above it, and says in the log when that is less than
/// `wanted`. Once, at the start.
pub fn raise_descriptor_limit(wanted: u64, for_what: &str) {
    let limits = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limits.maximum,
        maximum: limits.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open descriptors stays as it was");
    }
    let limit = descriptor_limit();
    if limit < wanted {
        tracing::warn!(
            limit,
            wanted,
            for_what,
            "too few descriptors may be open: raise the hard limit (LimitNOFILE= in the unit, or ulimit -Hn), or lower what needs them"
        );
    }
}

/// The soft limit of now.
#[must_use]
pub fn descriptor_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one_and_stays_there() {
        let hard = getrlimit(Resource::Nofile).maximum;
        let low = Rlimit {
            current: hard.map(|hard| hard - 1),
            maximum: hard,
        };
        setrlimit(Resource::Nofile, low).unwrap();
        for wanted in [0, u64::MAX] {
            raise_descriptor_limit(wanted, "a test");
            assert_eq!(descriptor_limit(), hard.unwrap_or(u64::MAX));
            assert_eq!(getrlimit(Resource::Nofile).maximum, hard);
        }
    }
}
