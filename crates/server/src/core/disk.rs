//! How full the disk is. Invariant: the alarm is given once each time the mark is passed, not once a look.

use std::path::Path;

/// Tells of passing the mark, upwards and downwards.
#[derive(Debug, Default)]
pub(super) struct Watermark {
    above: bool,
}

/// What to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Passed {
    Above,
    Below,
}

impl Watermark {
    pub(super) fn observe(&mut self, used_percent: u64) -> Option<Passed> {
        // Two points of slack, so that a disk at the mark does not chatter.
        let (above, passed) = match self.above {
            false if used_percent >= MARK => (true, Some(Passed::Above)),
            true if used_percent + 2 < MARK => (false, Some(Passed::Below)),
            same => (same, None),
        };
        self.above = above;
        passed
    }
}

/// How much of what an ordinary user may fill is filled.
pub(crate) fn used_percent(dir: &Path) -> Result<u64, rustix::io::Errno> {
    let found = rustix::fs::statvfs(dir)?;
    let used = found.f_blocks.saturating_sub(found.f_bfree);
    let all = used.saturating_add(found.f_bavail);
    Ok(used.saturating_mul(100).div_ceil(all.max(1)).min(100))
}

const MARK: u64 = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alarm_sounds_once_each_time_the_mark_is_passed() {
        let mut mark = Watermark::default();
        let said: Vec<_> = [79, 80, 95, 79, 78, 77, 50, 80].map(|p| mark.observe(p)).into();
        assert_eq!(
            said,
            [
                None,
                Some(Passed::Above),
                None,
                None,
                None,
                Some(Passed::Below),
                None,
                Some(Passed::Above)
            ]
        );
    }

    #[test]
    fn the_disk_under_a_directory_has_a_measure() {
        assert!(used_percent(&std::env::temp_dir()).unwrap() <= 100);
        assert!(used_percent(Path::new("/nowhere/at/all")).is_err());
    }
}
