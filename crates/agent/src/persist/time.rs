//! What is known of the time, over restarts.
//!
//! Invariant: a file that is not what we wrote is damaged, whatever it says: a number that is wrong in one place could keep a node from its
//! identities for years.

use std::time::Duration;

use landfast_identity::UnixTime;
use landfast_lifecycle::{Hour, Mark, TimeRecord, Unconfirmed};
use serde::{Deserialize, Serialize};

use super::{NodeFiles, PersistError, VERSION, Versioned};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TimeFile {
    version: u32,
    floor: i64,
    estimate: i64,
    boot_id: String,
    elapsed: Duration,
    told: bool,
    known: bool,
    anchor: MarkRow,
    unconfirmed: Option<UnconfirmedRow>,
    /// Of all that stands before it.
    digest: String,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MarkRow {
    time: i64,
    at: Duration,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UnconfirmedRow {
    since: Duration,
    last: Duration,
    voices: u32,
    before: MarkRow,
}

impl From<Mark> for MarkRow {
    fn from(mark: Mark) -> Self {
        Self {
            time: mark.time.as_secs(),
            at: mark.at,
        }
    }
}

impl From<MarkRow> for Mark {
    fn from(row: MarkRow) -> Self {
        Self {
            time: UnixTime::from_secs(row.time),
            at: row.at,
        }
    }
}

impl From<Unconfirmed> for UnconfirmedRow {
    fn from(unconfirmed: Unconfirmed) -> Self {
        let Hour { since, last, voices } = unconfirmed.hour;
        Self {
            since,
            last,
            voices,
            before: unconfirmed.before.into(),
        }
    }
}

impl From<UnconfirmedRow> for Unconfirmed {
    fn from(row: UnconfirmedRow) -> Self {
        let UnconfirmedRow {
            since, last, voices, ..
        } = row;
        Self {
            hour: Hour { since, last, voices },
            before: row.before.into(),
        }
    }
}

impl TimeFile {
    fn digest(&self) -> String {
        let all = format!(
            "{} {} {} {} {:?} {} {} {:?} {:?}",
            self.version,
            self.floor,
            self.estimate,
            self.boot_id,
            self.elapsed,
            self.told,
            self.known,
            self.anchor,
            self.unconfirmed
        );
        let digest = ring::digest::digest(&ring::digest::SHA256, all.as_bytes());
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Versioned for TimeFile {
    fn version(&self) -> u32 {
        self.version
    }
}

impl NodeFiles {
    /// What was known when the agent last ran.
    pub(crate) fn times(&self) -> Result<Option<TimeRecord>, PersistError> {
        let Some(bytes) = self.read(TIME)? else {
            return Ok(None);
        };
        let file: TimeFile = self.parse(TIME, &bytes)?;
        if file.digest != file.digest() {
            return Err(self.damaged(TIME, "its digest is of something else"));
        }
        Ok(Some(TimeRecord {
            floor: UnixTime::from_secs(file.floor),
            estimate: UnixTime::from_secs(file.estimate),
            boot_id: file.boot_id,
            elapsed: file.elapsed,
            told: file.told,
            known: file.known,
            anchor: file.anchor.into(),
            unconfirmed: file.unconfirmed.map(Unconfirmed::from),
        }))
    }

    pub(crate) fn save_times(&self, record: &TimeRecord) -> Result<(), PersistError> {
        let mut file = TimeFile {
            version: VERSION,
            floor: record.floor.as_secs(),
            estimate: record.estimate.as_secs(),
            boot_id: record.boot_id.clone(),
            elapsed: record.elapsed,
            told: record.told,
            known: record.known,
            anchor: record.anchor.into(),
            unconfirmed: record.unconfirmed.map(UnconfirmedRow::from),
            digest: String::new(),
        };
        file.digest = file.digest();
        self.write(TIME, &file)
    }
}

pub(crate) const TIME: &str = "time.json";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOON, at, td};
    use std::os::unix::fs::PermissionsExt as _;

    fn record() -> TimeRecord {
        TimeRecord {
            floor: NOON,
            estimate: at(500),
            boot_id: "5b1f".to_owned(),
            elapsed: Duration::new(77, 5),
            told: true,
            known: true,
            anchor: Mark {
                time: at(300),
                at: Duration::new(5, 7),
            },
            unconfirmed: Some(Unconfirmed {
                hour: Hour {
                    since: Duration::from_secs(3),
                    last: Duration::from_secs(4),
                    voices: 2,
                },
                before: Mark {
                    time: at(-9),
                    at: Duration::from_secs(2),
                },
            }),
        }
    }

    #[test]
    fn it_comes_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let open = || NodeFiles::open(dir.path(), &td()).unwrap();
        let files = open();
        assert_eq!(files.times().unwrap(), None);
        files.save_times(&record()).unwrap();
        drop(files);
        assert_eq!(open().times().unwrap(), Some(record()));
    }

    /// Each bit of the file, and each place where it may end.
    #[test]
    fn a_damaged_file_says_nothing_about_the_time() {
        let dir = tempfile::tempdir().unwrap();
        let files = NodeFiles::open(dir.path(), &td()).unwrap();
        files.save_times(&record()).unwrap();
        let path = dir.path().join(TIME);
        let good = std::fs::read(&path).unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test's own damage")]
        let write = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        };
        for length in 0..good.len() {
            write(&good[..length]);
            assert!(
                matches!(files.times(), Err(PersistError::Damaged { .. })),
                "{length}"
            );
        }
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            write(&bad);
            let read = files.times();
            assert!(
                matches!(read, Err(PersistError::Damaged { .. })),
                "{bit}: {read:?}"
            );
        }
        write(&good);
        assert_eq!(files.times().unwrap(), Some(record()));
    }
}
