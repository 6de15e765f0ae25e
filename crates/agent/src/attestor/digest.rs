//! SHA-256 of programs: through the process's own handle, cached, rate-limited, off the async threads, in turns.
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

use super::threads::{Stuck, Threads, is_forbidden};
use super::{BoxError, Subject};

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
    #[error("hashing took longer than {LONGEST_HASH:?}")]
    TooSlow,
    #[error(transparent)]
    Stuck(#[from] Stuck),
}

impl DigestError {
    /// Whether the same program may have a digest another time.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Open(error) => !is_forbidden(error),
            Self::TooLarge { .. } | Self::Nameless => false,
            Self::Read(_) | Self::Changed | Self::OverBudget { .. } | Self::TooSlow | Self::Stuck(_) => true,
        }
    }
}

/// Cached digests and the budgets for new ones.
pub(crate) struct Digests {
    limits: HashLimits,
    known: Mutex<HashMap<FileKey, (String, u64)>>,
    /// At most [`MAX_BUDGETS`].
    budgets: Mutex<HashMap<u32, Budget>>,
    /// For reading.
    threads: Threads,
    /// For computing: of two cores one stays free for serving. Turns go round among the users, a chunk each.
    turns: Arc<Semaphore>,
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
    /// One program at a time for each uid, so that each has the same share of the turns.
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
    pub(crate) fn new(limits: HashLimits, threads: Threads) -> Self {
        Self {
            limits,
            known: Mutex::default(),
            budgets: Mutex::default(),
            threads,
            turns: Arc::new(Semaphore::new(1)),
            uses: std::sync::atomic::AtomicU64::new(0),
        }
    }

    /// The digest, in hex, of the program a process runs.
    pub(crate) async fn of(&self, subject: &Subject) -> Result<String, DigestError> {
        let files = Arc::clone(&subject.files);
        let open = move || files.open_program().map_err(DigestError::Open);
        self.of_file(subject.uid, open).await
    }

    async fn of_file(
        &self,
        uid: u32,
        open: impl FnOnce() -> Result<File, DigestError> + Send + 'static,
    ) -> Result<String, DigestError> {
        let deadline = Instant::now() + LONGEST_HASH;
        let opened = self.threads.run(uid, move || {
            let file = open()?;
            let meta = file.metadata().map_err(DigestError::Read)?;
            Ok::<_, DigestError>((file, meta))
        });
        let (file, meta) = opened.await??;
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
        let patience = Instant::now() + LONGEST_WAIT;
        let over = || DigestError::OverBudget { uid };
        let turn = self.turn_of(uid).ok_or_else(over)?;
        let Ok(Ok(_turn)) = timeout_at(patience, turn.acquire_owned()).await else {
            return Err(over());
        };
        // Somebody of the same uid may have hashed it while we waited for our turn.
        if let Some(hex) = self.cached(&key) {
            return Ok(hex);
        }
        let wait = self.charge(uid, key.size, patience).ok_or_else(over)?;
        tokio::time::sleep(wait).await;
        let hashed = timeout_at(deadline, self.hash(uid, file, key)).await;
        let hex = hashed.map_err(|_elapsed| DigestError::TooSlow)??;
        self.remember(key, hex.clone());
        Ok(hex)
    }

    /// As if the user had just had his share.
    #[cfg(test)]
    pub(crate) fn spend(&self, uid: u32) {
        let deadline = Instant::now() + LONGEST_WAIT;
        drop(self.turn_of(uid));
        assert!(self.charge(uid, self.limits.max_size, deadline).is_some());
    }

    async fn hash(&self, uid: u32, file: File, before: FileKey) -> Result<String, DigestError> {
        let (file, hex) = self.hash_all(uid, file, before.size).await?;
        let after = self.threads.run(uid, move || file.metadata()).await?;
        if FileKey::new(&after.map_err(DigestError::Read)?) != before {
            return Err(DigestError::Changed);
        }
        Ok(hex)
    }

    /// Reads without a turn, for reading may hang, and computes with one.
    async fn hash_all<R>(&self, uid: u32, mut from: R, size: u64) -> Result<(R, String), DigestError>
    where
        R: Read + Send + 'static,
    {
        let ended = |error| DigestError::Read(std::io::Error::other(error));
        let mut context = Context::new(&SHA256);
        let mut buffer = vec![0_u8; CHUNK];
        let mut left = size;
        loop {
            let read = self.threads.run(uid, move || {
                let filled = fill(&mut from, &mut buffer);
                (from, buffer, filled)
            });
            let filled;
            (from, buffer, filled) = read.await?;
            let filled = filled?;
            // A file that grows under us would be read beyond what was paid for.
            left = left.checked_sub(filled as u64).ok_or(DigestError::Changed)?;
            if filled == 0 {
                break;
            }
            let turn = Arc::clone(&self.turns).acquire_owned().await;
            let computed = tokio::task::spawn_blocking(move || {
                context.update(&buffer[..filled]);
                drop(turn);
                (context, buffer)
            });
            (context, buffer) = computed.await.map_err(ended)?;
        }
        if left != 0 {
            return Err(DigestError::Changed);
        }
        let digest = context.finish();
        let hex = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok((from, hex))
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

    /// `None` when there is no room for one more user.
    fn turn_of(&self, uid: u32) -> Option<Arc<Semaphore>> {
        let mut budgets = lock(&self.budgets);
        if budgets.len() >= MAX_BUDGETS && !budgets.contains_key(&uid) {
            // The fullest goes: forgetting it gives its user the least. One that is in use stays.
            let now = Instant::now();
            let idle = budgets
                .iter()
                .filter(|(_, budget)| Arc::strong_count(&budget.turn) == 1);
            let left = idle.map(|(uid, budget)| (*uid, budget.refilled(now, self.limits)));
            let (fullest, _) = left.max_by(|(_, a), (_, b)| a.total_cmp(b))?;
            budgets.remove(&fullest);
        }
        let budget = budgets.entry(uid);
        let budget = budget.or_insert_with(|| Budget::full(self.limits));
        Some(Arc::clone(&budget.turn))
    }

    /// Takes the bytes from the uid's budget, which may go below zero; answers how long to wait until it is paid.
    /// `None`, and nothing taken, when that is past the deadline. To be called with the uid's turn in hand.
    fn charge(&self, uid: u32, size: u64, deadline: Instant) -> Option<Duration> {
        let mut budgets = lock(&self.budgets);
        let now = Instant::now();
        let budget = budgets.get_mut(&uid)?;
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

/// Fills the buffer, if there is so much.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> Result<usize, DigestError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(DigestError::Read(error)),
        }
    }
    Ok(filled)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Digests kept.
const MAX_KNOWN: usize = 1024;
/// Uids with a budget of their own.
const MAX_BUDGETS: usize = 1024;
/// A millisecond or two on a slow processor: as long others wait for each of those before them.
const CHUNK: usize = 256 * 1024;
/// A workload waits no longer for its budget; it then gets no sha256 selector.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Nor for everything together. Below the limit of an attestation, so that its other selectors count.
const LONGEST_HASH: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests;
