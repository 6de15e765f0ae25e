//! A process that dies at each of its calls to the disk: that one is done by half, and none after it.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use landfast_store::{Contents, DirFiles, Files, Growing};

use super::rig::{Rig, record};

#[derive(Debug, Clone)]
struct Dying {
    files: Arc<dyn Files>,
    left: Arc<AtomicU64>,
}

impl Dying {
    fn lives(&self) -> io::Result<()> {
        let left = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        left.map(drop).map_err(|_dead| io::ErrorKind::BrokenPipe.into())
    }
}

impl Files for Dying {
    fn read(&self, name: &str, limit: u64) -> io::Result<Option<Contents>> {
        self.lives()?;
        self.files.read(name, limit)
    }
    fn create_temp(&self, name: &str) -> io::Result<File> {
        self.lives()?;
        self.files.create_temp(name)
    }
    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        let was_alive = self.left.load(Ordering::Relaxed) > 0;
        match self.lives() {
            Ok(()) => self.files.write(file, bytes),
            // The blow falls in the middle of the first call that fails.
            Err(dead) => {
                if was_alive || self.left.swap(0, Ordering::Relaxed) == 0 {
                    self.files.write(file, &bytes[..bytes.len() / 2])?;
                }
                Err(dead)
            }
        }
    }
    fn sync(&self, file: &File) -> io::Result<()> {
        self.lives()?;
        self.files.sync(file)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.lives()?;
        self.files.rename(from, to)
    }
    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.lives()?;
        self.files.link(from, to)
    }
    fn sync_dir(&self) -> io::Result<()> {
        self.lives()?;
        self.files.sync_dir()
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.lives()?;
        self.files.remove(name)
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.lives()?;
        self.files.list()
    }
    fn append(&self, name: &str) -> io::Result<Growing> {
        self.lives()?;
        self.files.append(name)
    }
    fn within(&self, name: &str) -> io::Result<Arc<dyn Files>> {
        self.lives()?;
        Ok(Arc::new(Self {
            files: self.files.within(name)?,
            left: Arc::clone(&self.left),
        }))
    }
}

#[test]
fn whenever_it_dies_what_was_acknowledged_is_found() {
    let mut died = 0;
    for calls in 0.. {
        let rig = Rig::new();
        drop(rig.begin());
        let left = Arc::new(AtomicU64::new(calls));
        let dying = |files: DirFiles| Dying {
            files: Arc::new(files),
            left: Arc::clone(&left),
        };
        let (mut acknowledged, mut kept) = (Vec::new(), vec![rig.checkpoint()]);
        if let Ok((mut log, _)) = rig.open_on(dying) {
            let mut what = 0;
            for batch in [1, 3, 260, 2] {
                let records: Vec<_> = (what..what + batch).map(record).collect();
                if let Ok(committed) = log.append(&records) {
                    acknowledged.extend(committed.records.zip(what..));
                }
                what += batch;
                if log.checkpoint().is_ok() || log.signed() > 0 {
                    kept.push(rig.checkpoint());
                }
            }
        }
        let lived = left.load(Ordering::Relaxed) > 0;
        let (log, _) = rig.open().unwrap();
        rig.assert_holds_all(&acknowledged);
        drop(log);
        let report = rig.verify(&kept);
        assert!(report.is_good(), "{calls}: {:?}", report.findings);
        if lived {
            break;
        }
        died += 1;
    }
    assert!(died > 60, "{died}");
}
