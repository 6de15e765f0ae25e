//! A log in a directory of its own.

use std::path::{Path, PathBuf};

use landfast_identity::UnixTime;
use landfast_store::faulty::Script;
use landfast_store::{DirFiles, Files, Store};
use tempfile::TempDir;

use crate::verify::{DirSource, Report, VerifierKey, verify};
use crate::{Actor, ActorClass, Category, CheckpointKey, Log, LogError, Record, Recovered, TimeQuality};

pub(crate) struct Rig {
    dir: TempDir,
    der: Vec<u8>,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            der: CheckpointKey::generate().unwrap().to_vec(),
        }
    }

    /// The same key, and a copy of all files: what whoever has the server has.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self {
            dir: tempfile::tempdir().unwrap(),
            der: self.der.clone(),
        };
        copy_all(self.dir.path(), copy.dir.path());
        copy
    }

    /// The same key, and nothing else.
    pub(crate) fn empty_copy(&self) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            der: self.der.clone(),
        }
    }

    pub(crate) fn key(&self) -> CheckpointKey {
        CheckpointKey::from_pkcs8_der("plant.test/landfast/ledger", &self.der).unwrap()
    }

    pub(crate) fn verifier_key(&self) -> VerifierKey {
        VerifierKey::parse(&self.key().verifier_key()).unwrap()
    }

    pub(crate) fn store(&self) -> Store {
        Store::open(&self.path("")).unwrap()
    }

    pub(crate) fn begin(&self) -> Log {
        Log::begin(self.store(), self.key()).unwrap()
    }

    pub(crate) fn open(&self) -> Result<(Log, Recovered), LogError> {
        Log::open(self.store(), self.key())
    }

    pub(crate) fn open_with(&self, script: &Script) -> Result<(Log, Recovered), LogError> {
        self.open_on(super::faulty(script))
    }

    pub(crate) fn open_on<F: Files + 'static>(
        &self,
        wrap: impl FnOnce(DirFiles) -> F,
    ) -> Result<(Log, Recovered), LogError> {
        let store = Store::open_with(&self.path(""), wrap)?;
        Log::open(store, self.key())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("log").join(name)
    }

    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        use std::io::Write as _;
        let mut file = std::fs::File::create(self.path(name)).unwrap();
        file.write_all(bytes).unwrap();
    }

    pub(crate) fn checkpoint(&self) -> Vec<u8> {
        std::fs::read(self.path("checkpoint")).unwrap()
    }

    pub(crate) fn verify(&self, kept: &[Vec<u8>]) -> Report {
        let kept: Vec<_> = kept
            .iter()
            .map(|note| ("kept".to_owned(), note.clone()))
            .collect();
        verify(&DirSource::new(&self.path("")), &self.verifier_key(), &kept)
    }

    /// The first `count` records are those of [`record`].
    pub(crate) fn assert_holds(&self, count: u64) {
        self.assert_holds_all(&(0..count).map(|n| (n, n)).collect::<Vec<_>>());
    }

    /// What each of these sequence numbers records.
    pub(crate) fn assert_holds_all(&self, expected: &[(u64, u64)]) {
        let all = self.read_all();
        for (sequence, what) in expected {
            let found = all.get(usize::try_from(*sequence).unwrap()).map(Vec::as_slice);
            assert_eq!(found, Some(&record(*what).encode(*sequence)[..]), "{sequence}");
        }
    }

    /// All records that the checkpoint names.
    pub(crate) fn read_all(&self) -> Vec<Vec<u8>> {
        let text = String::from_utf8(self.checkpoint()).unwrap();
        let size: u64 = text.lines().nth(1).unwrap().parse().unwrap();
        let mut all = Vec::new();
        for index in 0..size.div_ceil(256) {
            let width = 256.min(size - index * 256);
            let bytes = std::fs::read(self.path(&crate::tile::entries(index, width))).unwrap();
            all.extend(unframed(&bytes));
        }
        all
    }
}

pub(crate) fn unframed(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut all) = (bytes, Vec::new());
    while let Some((length, after)) = rest.split_first_chunk() {
        let (record, after) = after.split_at(u16::from_be_bytes(*length).into());
        all.push(record.to_vec());
        rest = after;
    }
    all
}

pub(crate) fn record(what: u64) -> Record {
    let actor = Actor::new(ActorClass::Node, Some("spiffe://plant.test/spire/agent/x".into()));
    Record {
        time: Some(UnixTime::from_secs(1_795_420_800)),
        time_quality: TimeQuality::Unconfirmed,
        subject: Some("spiffe://plant.test/line/4".into()),
        ..Record::new(Category::AccessControl, "svid.issued", actor)
    }
    .with("serial", what)
}

pub(crate) fn of_type(kind: &'static str) -> Record {
    Record {
        time: record(0).time,
        ..Record::new(Category::AuditLog, kind, Actor::new(ActorClass::Server, None))
    }
}

pub(crate) fn records(first: u64, count: u64) -> Vec<Record> {
    (first..first + count).map(record).collect()
}

fn copy_all(from: &Path, to: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::create_dir_all(to).unwrap();
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o700)).unwrap();
    for found in std::fs::read_dir(from).unwrap() {
        let found = found.unwrap();
        let target = to.join(found.file_name());
        match found.file_type().unwrap().is_dir() {
            true => copy_all(&found.path(), &target),
            false => drop(std::fs::copy(found.path(), target).unwrap()),
        }
    }
}
