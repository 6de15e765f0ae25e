//! What is known of the time, over restarts.
//!
//! Invariant: a file that is not what we wrote is damaged, whatever it says: a number that is wrong in one place could keep a node from its
//! identities for years.

use std::time::Duration;

use landfast_identity::UnixTime;
use landfast_lifecycle::{Candidate, Hour, Mark, TimeRecord};
use serde::{Deserialize, Serialize};

use super::{NodeFiles, PersistError, VERSION, Versioned};

/// Times in seconds since 1970; of the boot clock, in milliseconds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TimeFile {
    version: u32,
    floor: i64,
    estimate: MarkRow,
    boot_id: String,
    told: bool,
    witness: bool,
    anchor: MarkRow,
    candidate: Option<CandidateRow>,
    /// Of this file as it is without it.
    digest: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MarkRow {
    time: i64,
    at: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CandidateRow {
    said: MarkRow,
    since: u64,
    last: u64,
    voices: u32,
    counts: bool,
}

impl From<Mark> for MarkRow {
    fn from(mark: Mark) -> Self {
        Self {
            time: mark.time.as_secs(),
            at: millis(mark.at),
        }
    }
}

impl From<MarkRow> for Mark {
    fn from(row: MarkRow) -> Self {
        Self {
            time: UnixTime::from_secs(row.time),
            at: Duration::from_millis(row.at),
        }
    }
}

impl From<Candidate> for CandidateRow {
    fn from(candidate: Candidate) -> Self {
        let Hour { since, last, voices } = candidate.hour;
        Self {
            said: candidate.said.into(),
            since: millis(since),
            last: millis(last),
            voices,
            counts: candidate.counts,
        }
    }
}

impl From<CandidateRow> for Candidate {
    fn from(row: CandidateRow) -> Self {
        Self {
            said: row.said.into(),
            hour: Hour {
                since: Duration::from_millis(row.since),
                last: Duration::from_millis(row.last),
                voices: row.voices,
            },
            counts: row.counts,
        }
    }
}

fn millis(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
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
        let digest = file.digest.clone();
        let file = self.sealed(file)?;
        if file.digest != digest {
            return Err(self.damaged(TIME, "its digest is of something else"));
        }
        Ok(Some(TimeRecord {
            floor: UnixTime::from_secs(file.floor),
            estimate: file.estimate.into(),
            boot_id: file.boot_id,
            told: file.told,
            witness: file.witness,
            anchor: file.anchor.into(),
            candidate: file.candidate.map(Candidate::from),
        }))
    }

    pub(crate) fn save_times(&self, record: &TimeRecord) -> Result<(), PersistError> {
        let file = TimeFile {
            version: VERSION,
            floor: record.floor.as_secs(),
            estimate: record.estimate.into(),
            boot_id: record.boot_id.clone(),
            told: record.told,
            witness: record.witness,
            anchor: record.anchor.into(),
            candidate: record.candidate.map(CandidateRow::from),
            digest: String::new(),
        };
        self.write(TIME, &self.sealed(file)?)
    }

    /// With the digest that it has to have.
    fn sealed(&self, mut file: TimeFile) -> Result<TimeFile, PersistError> {
        file.digest.clear();
        let bytes =
            serde_json::to_vec(&file).map_err(|_cause| self.damaged(TIME, "it does not serialise"))?;
        let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
        file.digest = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(file)
    }
}

pub(crate) const TIME: &str = "time.json";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::td;
    use std::os::unix::fs::PermissionsExt as _;

    fn record() -> TimeRecord {
        let mark = |secs, at| Mark {
            time: UnixTime::from_secs(secs),
            at: Duration::from_millis(at),
        };
        TimeRecord {
            floor: UnixTime::from_secs(1_793_491_200),
            estimate: mark(1_793_494_800, 77_005),
            boot_id: "5b1f".to_owned(),
            told: true,
            witness: true,
            anchor: mark(1_793_494_500, 5007),
            candidate: Some(Candidate {
                said: mark(1_793_577_600, 77_005),
                hour: Hour {
                    since: Duration::from_secs(3),
                    last: Duration::from_secs(4),
                    voices: 2,
                },
                counts: true,
            }),
        }
    }

    /// As released versions write it: a node must not lose it with an update.
    #[test]
    fn the_format_is_what_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let files = NodeFiles::open(dir.path(), &td()).unwrap();
        files.save_times(&record()).unwrap();
        let written = std::fs::read_to_string(dir.path().join(TIME)).unwrap();
        assert_eq!(written, include_str!("fixtures/time-1.json").trim_end());
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
