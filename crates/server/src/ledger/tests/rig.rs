//! A server's ledger on a disk that fails, and what is there afterwards.

use super::*;

/// A ledger on a disk that fails on script, and a core in memory that records there.
pub(super) struct Faulty {
    pub(super) dir: TempDir,
    pub(super) script: Script,
    /// Of the data directory, where the mark of a gap is.
    pub(super) data: Script,
    der: Vec<u8>,
    pub(super) ledger: Ledger,
}

impl Faulty {
    pub(super) fn new() -> Self {
        let (dir, script) = (tempfile::tempdir().unwrap(), Script::default());
        let der = CheckpointKey::generate().unwrap().to_vec();
        let log = Log::begin(store(dir.path(), &script), checkpoint_key(&der)).unwrap();
        let clock = Arc::new(SimClock::new(START));
        let data = Script::default();
        let missed = Missed::new(marks(dir.path(), &data));
        let ledger = {
            let (log, room) = ((log, Recovered::default()), Room::new(dir.path(), None));
            Ledger::start(log, clock, (missed, None), room).unwrap()
        };
        Self {
            dir,
            script,
            data,
            der,
            ledger,
        }
    }

    /// The directory as it is while the server runs, which then is killed.
    pub(super) fn copied(self) -> Self {
        let dir = tempfile::tempdir().unwrap();
        crate::core::fixture::copy(self.dir.path(), dir.path());
        Self { dir, ..self }
    }

    /// With the ledger that the next start has, on a disk that is first made to fail.
    pub(super) fn restarted(self, fail: impl FnOnce(&Script, &Script)) -> Result<Self, OpenLedgerError> {
        let (script, data) = (Script::default(), Script::default());
        let (log, missed) = (store(self.dir.path(), &script), marks(self.dir.path(), &data));
        fail(&script, &data);
        let begun = Log::open(log, checkpoint_key(&self.der))?;
        let room = Room::new(self.dir.path(), None);
        let clock = Arc::new(SimClock::new(START));
        let ledger = Ledger::start(begun, clock, (Missed::new(missed), None), room)?;
        Ok(Self {
            script,
            data,
            ledger,
            ..self
        })
    }

    /// Killed, and started on a disk that is full.
    pub(super) fn killed(self) -> Self {
        let full = |script: &Script, _: &Script| script.break_down(Verb::Write, ErrorKind::StorageFull);
        self.copied().restarted(full).expect("a start in the gap")
    }

    pub(super) async fn core(&self) -> Core {
        let mut params = CoreParams::in_memory(td(), Arc::new(SimClock::new(START)));
        params.reserve.longest = Duration::from_secs(3 * 86_400);
        let db = Arc::new(SqliteDatastore::in_memory(&td()).unwrap());
        let keys = Arc::new(MemoryKeys::default());
        Core::assemble_recording(params, db, keys, self.ledger.clone())
            .await
            .unwrap()
    }

    /// What is there when all of it has ended.
    pub(super) fn end(self) -> Vec<Value> {
        drop(self.ledger);
        let dir = self.dir.path().join("ledger");
        let log = Log::open(Store::open(&dir).unwrap(), checkpoint_key(&self.der)).unwrap();
        drop(log);
        read(&dir)
    }
}

fn store(dir: &Path, script: &Script) -> Store {
    let script = script.clone();
    Store::open_with(&dir.join("ledger"), |files| FaultyFiles::new(files, script)).unwrap()
}

pub(super) fn marks(dir: &Path, script: &Script) -> Store {
    let script = script.clone();
    Store::open_with(&dir.join("data"), |files| FaultyFiles::new(files, script)).unwrap()
}

fn checkpoint_key(der: &[u8]) -> CheckpointKey {
    CheckpointKey::from_pkcs8_der("plant.example/landfast/ledger", der).unwrap()
}
