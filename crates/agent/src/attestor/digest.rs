//! SHA-256 of programs: through the process's own handle, cached, rate-limited, off the async threads.
//!
//! Invariant: a file's bytes are charged to the caller's uid before the first one is read, so nobody can make the agent
//! hash faster than its budget; and a digest is kept only for a file that did not change while it was read.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ring::digest::{Context, SHA256};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::{BoxError, ProcFiles};

/// How much may be hashed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HashLimits {
    /// Larger programs are not hashed.
    pub(crate) max_size: u64,
    /// Bytes a second, for each uid.
    pub(crate) rate: u64,
}

/// Why there is no digest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DigestError {
    #[error("the program cannot be opened (CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH allow it)")]
    Open(#[source] BoxError),
    #[error("the program cannot be read")]
    Read(#[source] std::io::Error),
    #[error("the program has {size} bytes, more than max_hash_size")]
    TooLarge { size: u64 },
    #[error("the program is deleted, or not a file")]
    Nameless,
    #[error("the program changed while it was read")]
    Changed,
    #[error("uid {uid} has used up its budget for hashing (hash_rate)")]
    OverBudget { uid: u32 },
}

/// Cached digests and the budgets for new ones.
pub(crate) struct Digests {
    limits: HashLimits,
    known: Mutex<HashMap<FileKey, (String, u64)>>,
    budgets: Mutex<HashMap<u32, Budget>>,
    threads: Arc<Semaphore>,
    uses: std::sync::atomic::AtomicU64,
}

/// What a file is, as far as the kernel tells; any write changes the times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct FileKey {
    dev: u64,
    ino: u64,
    size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

struct Budget {
    bytes: f64,
    at: Instant,
    /// One at a time for each uid, so that one uid never has more than one of the threads.
    turn: Arc<Semaphore>,
}

impl FileKey {
    fn new(meta: &Metadata) -> Self {
        Self {
            dev: meta.dev(),
            ino: meta.ino(),
            size: meta.size(),
            mtime: (meta.mtime(), meta.mtime_nsec()),
            ctime: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

impl Digests {
    pub(crate) fn new(limits: HashLimits) -> Self {
        Self {
            limits,
            known: Mutex::default(),
            budgets: Mutex::default(),
            threads: Arc::new(Semaphore::new(THREADS)),
            uses: std::sync::atomic::AtomicU64::new(0),
        }
    }

    /// The digest, in hex, of the program a process runs.
    pub(crate) async fn of(&self, uid: u32, files: &dyn ProcFiles) -> Result<String, DigestError> {
        let file = files.open_program().map_err(DigestError::Open)?;
        self.of_file(uid, file).await
    }

    pub(crate) async fn of_file(&self, uid: u32, file: File) -> Result<String, DigestError> {
        let meta = file.metadata().map_err(DigestError::Read)?;
        if !meta.is_file() || meta.nlink() == 0 {
            return Err(DigestError::Nameless);
        }
        if meta.size() > self.limits.max_size {
            return Err(DigestError::TooLarge { size: meta.size() });
        }
        let key = FileKey::new(&meta);
        if let Some(hex) = self.cached(&key) {
            return Ok(hex);
        }
        let deadline = Instant::now() + LONGEST_WAIT;
        let over = DigestError::OverBudget { uid };
        let turn = self.turn_of(uid);
        let Ok(Ok(_turn)) = timeout_at(deadline, turn.acquire_owned()).await else {
            return Err(over);
        };
        // Somebody of the same uid may have hashed it while we waited for our turn.
        if let Some(hex) = self.cached(&key) {
            return Ok(hex);
        }
        let wait = self.charge(uid, key.size, deadline).ok_or(over)?;
        tokio::time::sleep(wait).await;
        let over = DigestError::OverBudget { uid };
        let Ok(Ok(thread)) = timeout_at(deadline, Arc::clone(&self.threads).acquire_owned()).await else {
            return Err(over);
        };
        let hashed = tokio::task::spawn_blocking(move || {
            let hashed = hash(file, key);
            drop(thread);
            hashed
        });
        let hex = hashed
            .await
            .map_err(|error| DigestError::Read(std::io::Error::other(error)))??;
        self.remember(key, hex.clone());
        Ok(hex)
    }

    fn cached(&self, key: &FileKey) -> Option<String> {
        let mut known = lock(&self.known);
        let (hex, used) = known.get_mut(key)?;
        *used = self.tick();
        Some(hex.clone())
    }

    fn remember(&self, key: FileKey, hex: String) {
        let mut known = lock(&self.known);
        if known.len() >= MAX_KNOWN
            && let Some(oldest) = known
                .iter()
                .min_by_key(|(_, (_, used))| *used)
                .map(|(key, _)| *key)
        {
            known.remove(&oldest);
        }
        known.insert(key, (hex, self.tick()));
    }

    fn tick(&self) -> u64 {
        self.uses.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    }

    fn turn_of(&self, uid: u32) -> Arc<Semaphore> {
        let mut budgets = lock(&self.budgets);
        if budgets.len() >= MAX_BUDGETS {
            let now = Instant::now();
            let full = self.limits.max_size as f64;
            budgets.retain(|_, budget| {
                budget.refilled(now, self.limits) < full || Arc::strong_count(&budget.turn) > 1
            });
        }
        Arc::clone(
            &budgets
                .entry(uid)
                .or_insert_with(|| Budget::full(self.limits))
                .turn,
        )
    }

    /// Takes the bytes from the uid's budget, which may go below zero; answers how long to wait until it is paid.
    /// `None`, and nothing taken, when that is past the deadline.
    fn charge(&self, uid: u32, size: u64, deadline: Instant) -> Option<Duration> {
        let mut budgets = lock(&self.budgets);
        let now = Instant::now();
        let budget = budgets.entry(uid).or_insert_with(|| Budget::full(self.limits));
        let left = budget.refilled(now, self.limits) - size as f64;
        let wait = Duration::try_from_secs_f64(-left.min(0.0) / self.limits.rate.max(1) as f64).ok()?;
        if now + wait > deadline {
            return None;
        }
        (budget.bytes, budget.at) = (left, now);
        Some(wait)
    }
}

impl Budget {
    /// A full budget is one program of the largest size.
    fn full(limits: HashLimits) -> Self {
        Self {
            bytes: limits.max_size as f64,
            at: Instant::now(),
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    fn refilled(&self, now: Instant, limits: HashLimits) -> f64 {
        let earned = now.saturating_duration_since(self.at).as_secs_f64() * limits.rate as f64;
        (self.bytes + earned).min(limits.max_size as f64)
    }
}

fn hash(mut file: File, before: FileKey) -> Result<String, DigestError> {
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0_u8; CHUNK];
    let mut read = 0_u64;
    loop {
        let n = file.read(&mut buffer).map_err(DigestError::Read)?;
        read += n as u64;
        if n == 0 {
            break;
        }
        // A file that grows under us would be read beyond what was paid for.
        if read > before.size {
            return Err(DigestError::Changed);
        }
        context.update(&buffer[..n]);
    }
    let after = file.metadata().map_err(DigestError::Read)?;
    if FileKey::new(&after) != before || read != before.size {
        return Err(DigestError::Changed);
    }
    Ok(context
        .finish()
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Digests kept.
const MAX_KNOWN: usize = 1024;
/// Uids with a budget of their own; full budgets are forgotten first.
const MAX_BUDGETS: usize = 1024;
/// Of two cores one stays free for serving.
const THREADS: usize = 1;
const CHUNK: usize = 64 * 1024;
/// A workload waits no longer for its budget; it then gets no sha256 selector.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
