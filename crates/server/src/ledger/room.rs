//! How much room the ledger takes, and what was pruned of it. Invariant: each mark is told of once each time it is passed; and who writes never waits
//! until all files are counted.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::Instant;

use crate::core::used_percent;

/// Looked at by the thread that writes.
#[derive(Debug)]
pub(super) struct Room {
    dir: PathBuf,
    /// Bytes it may take; `None`: as many as there are.
    limit: Option<u64>,
    mark: u64,
    pruned: u64,
    own: Own,
}

/// What the ledger takes itself: counted now and then in a thread of its own, and what was written since.
#[derive(Debug, Default)]
struct Own {
    counted: Option<u64>,
    /// Since the count began.
    grown: u64,
    /// Of that, before the count that is under way began.
    before: u64,
    began: Option<Instant>,
    count: Option<JoinHandle<u64>>,
}

/// What is to be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It has passed this mark, upwards.
    Above { mark: u64, used: u64 },
    /// It has room again.
    Below { used: u64 },
    /// It begins with this record now.
    Pruned { before: u64 },
}

impl Room {
    pub(super) fn new(dir: &Path, limit: Option<u64>) -> Self {
        Self {
            dir: dir.to_owned(),
            limit,
            mark: 0,
            pruned: pruned(dir),
            own: Own::default(),
        }
    }

    /// So many bytes of records were written.
    pub(super) fn grew(&mut self, bytes: u64) {
        self.own.grown += bytes;
    }

    /// The first record that there is.
    pub(super) fn pruned(&self) -> u64 {
        self.pruned
    }

    /// The mark that is passed; 0: none.
    pub(super) fn mark(&self) -> u64 {
        self.mark
    }

    /// Percent of what it may take, and what to say of it; `None`: nobody knows.
    pub(super) fn look(&mut self) -> (Option<u64>, Vec<Seen>) {
        let disk = used_percent(&self.dir).ok();
        let before = pruned(&self.dir);
        let own = self.limit.and_then(|limit| {
            let bytes = self.own.look(&self.dir, before != self.pruned)?;
            Some(bytes.saturating_mul(100).div_ceil(limit.max(1)))
        });
        let used = disk.into_iter().chain(own).max();
        let mut seen: Vec<_> = used.and_then(|used| self.observe(used)).into_iter().collect();
        if before != self.pruned {
            self.pruned = before;
            seen.push(Seen::Pruned { before });
        }
        (used, seen)
    }

    fn observe(&mut self, used: u64) -> Option<Seen> {
        let reached = MARKS.into_iter().rev().find(|mark| used >= *mark).unwrap_or(0);
        // Two points of slack, so that a disk at a mark does not chatter.
        let stays = reached < self.mark && used + 2 >= self.mark;
        if reached == self.mark || stays {
            return None;
        }
        let before = std::mem::replace(&mut self.mark, reached);
        match reached {
            0 => Some(Seen::Below { used }),
            mark if mark > before => Some(Seen::Above { mark, used }),
            // From the upper to the lower: said when there is room.
            _ => None,
        }
    }
}

impl Own {
    /// As far as it is known; `None`: nobody has counted yet. `anew`: something was taken away.
    fn look(&mut self, dir: &Path, anew: bool) -> Option<u64> {
        if let Some(count) = self.count.take_if(|count| count.is_finished())
            && let Ok(counted) = count.join()
        {
            self.counted = Some(counted);
            self.grown -= self.before;
        }
        if anew {
            self.began = None;
        }
        let is_due = self.began.is_none_or(|began| began.elapsed() >= COUNT);
        if is_due && self.count.is_none() {
            let dir = dir.to_owned();
            let thread = std::thread::Builder::new().name("ledger-room".to_owned());
            // One that cannot be begun is begun at the next look.
            self.count = thread.spawn(move || size(&dir)).ok();
            (self.before, self.began) = (self.grown, self.count.is_some().then(Instant::now));
        }
        self.counted.map(|counted| counted + self.grown)
    }
}

/// What `landfast audit prune` has written.
fn pruned(dir: &Path) -> u64 {
    let text = std::fs::read_to_string(dir.join("pruned")).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// Of all files below; one that goes meanwhile counts as nothing.
fn size(dir: &Path) -> u64 {
    let Ok(found) = std::fs::read_dir(dir) else {
        return 0;
    };
    let each = found.flatten().map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => size(&entry.path()),
        Ok(kind) if kind.is_file() => entry.metadata().map_or(0, |file| file.len()),
        _ => 0,
    });
    each.sum()
}

/// In percent. `docs/operations.md` and the rules of `examples/monitoring` have them too.
const MARKS: [u64; 2] = [70, UPPER];
/// Above this one what can wait has to.
pub(super) const UPPER: u64 = 90;
/// Between two counts of all files.
const COUNT: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks until so much is used; gives what was said.
    fn wait(room: &mut Room, is_so: impl Fn(u64) -> bool) -> Vec<Seen> {
        let (mut told, until) = (Vec::new(), Instant::now() + Duration::from_secs(60));
        loop {
            let (used, seen) = room.look();
            told.extend(seen);
            if room.own.counted.is_some() && is_so(used.unwrap()) {
                return told;
            }
            assert!(Instant::now() < until, "{used:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn each_mark_is_told_of_once_each_time_it_is_passed() {
        let mut room = Room::new(Path::new("/nowhere"), None);
        let said: Vec<_> = [69, 70, 71, 69, 68, 67, 95, 89, 80, 91, 50]
            .map(|used| room.observe(used))
            .into();
        let above = |mark, used| Some(Seen::Above { mark, used });
        assert_eq!(
            said,
            [
                None,
                above(70, 70),
                None,
                None,
                None,
                Some(Seen::Below { used: 67 }),
                above(90, 95),
                None,
                None,
                above(90, 91),
                Some(Seen::Below { used: 50 }),
            ]
        );
    }

    #[test]
    fn a_limit_counts_what_the_ledger_takes_and_a_prune_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("tile")).unwrap();
        let put = |name: &str, bytes: &[u8]| {
            use std::io::Write as _;
            let mut file = std::fs::File::create(dir.path().join(name)).unwrap();
            file.write_all(bytes).unwrap();
        };
        put("tile/000", &[0; 9500]);
        let mut room = Room::new(dir.path(), Some(10_000));
        let told = wait(&mut room, |used| used >= 95);
        assert!(matches!(told[..], [.., Seen::Above { mark: 90, .. }]), "{told:?}");
        // What is written counts before anybody has counted it.
        room.grew(500);
        assert_eq!(room.look().0, Some(100));
        let disk = used_percent(dir.path()).unwrap();
        put("tile/000", b"");
        put("pruned", b"512\n");
        let told = wait(&mut room, |used| used <= disk.max(6));
        assert_eq!(told[0], Seen::Pruned { before: 512 });
        assert_eq!(room.look().1, []);
        assert_eq!(Room::new(dir.path(), None).pruned(), 512, "a start knows it");
    }
}
