//! A process that cannot be confused with a later one of the same pid, and the table by which connections share it.
//!
//! Invariant: one pidfd and one check a second for each process, however many connections it has; once a process has exited,
//! executed another program or changed its user, it stays [`Change`]d.

use std::{
    collections::HashMap,
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec};
use tokio::{io::unix::AsyncFd, sync::watch, task::JoinHandle};

use crate::{PinError, ProcDir, search::Budgets};

/// Why a process is no longer the one that was attested.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// It has exited.
    Exited,
    /// It runs another executable, or none any more: an exit can show as this for a moment before it is [`Self::Exited`].
    Executed,
    /// Its real, effective, saved or file system user or group is another.
    UserChanged,
}

/// A process held by its pidfd.
#[derive(Debug)]
pub struct PinnedProcess {
    subject: Arc<Subject>,
    changed: watch::Receiver<Option<Change>>,
    monitor: Option<JoinHandle<()>>,
}

/// What the monitor shares with the process.
#[derive(Debug)]
struct Subject {
    pid: i32,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    pidfd: OwnedFd,
    baseline: Baseline,
    change: watch::Sender<Option<Change>>,
}

/// What a process must keep. `exe` is `None` where we may not look (no CAP_SYS_PTRACE).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Baseline {
    exe: Option<(u64, u64)>,
    uid: crate::procdir::Ids,
    gid: crate::procdir::Ids,
}

impl PinnedProcess {
    /// Pins `pid`, to which `pidfd` belongs and which connected as `uid` and `gid`.
    pub(crate) fn pin(pid: i32, pidfd: OwnedFd, uid: u32, gid: u32) -> Result<Self, PinError> {
        let dir = ProcDir::open(pid)?;
        let exited = |error| {
            if alive(&pidfd) {
                error
            } else {
                PinError::Exited { pid }
            }
        };
        let status = dir.status().map_err(exited)?;
        let exe = dir.exe_id().ok();
        // After the reads: what was read belongs to the process of the pidfd only if that is alive now.
        if !alive(&pidfd) {
            return Err(PinError::Exited { pid });
        }
        let (now_uid, now_gid) = (status.uid.effective, status.gid.effective);
        if (now_uid, now_gid) != (uid, gid) {
            return Err(PinError::CredentialsDiffer {
                pid,
                peer_uid: uid,
                peer_gid: gid,
                now_uid,
                now_gid,
            });
        }
        let baseline = Baseline {
            exe,
            uid: status.uid,
            gid: status.gid,
        };
        let (change, changed) = watch::channel(None);
        let subject = Arc::new(Subject {
            pid,
            uid,
            gid,
            groups: status.groups,
            pidfd,
            baseline,
            change,
        });
        Ok(Self {
            subject,
            changed,
            monitor: None,
        })
    }

    /// Starts the check. Without it only [`Self::verify`] notices anything.
    fn monitored(mut self) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "one check a process; aborted when its last holder drops it"
        )]
        let monitor = tokio::spawn(monitor(self.subject.clone()));
        self.monitor = Some(monitor);
        self
    }

    /// The process's ID in our namespace.
    pub fn pid(&self) -> i32 {
        self.subject.pid
    }

    /// The effective user it connected as.
    pub fn uid(&self) -> u32 {
        self.subject.uid
    }

    /// The effective group it connected as.
    pub fn gid(&self) -> u32 {
        self.subject.gid
    }

    /// The supplementary groups it connected with.
    pub fn groups(&self) -> &[u32] {
        &self.subject.groups
    }

    /// Whether it runs still, asked of the kernel now.
    pub fn is_alive(&self) -> bool {
        alive(&self.subject.pidfd)
    }

    /// Opens its `/proc` folder, for a short time.
    ///
    /// # Errors
    /// It has exited, or `/proc` cannot be read.
    pub fn proc_dir(&self) -> Result<ProcDir, PinError> {
        self.subject.proc_dir()
    }

    /// What has become of it as far as is known, without a system call.
    pub fn change(&self) -> Option<Change> {
        *self.changed.borrow()
    }

    /// Looks now, and remembers what it finds. For the moment before something secret is handed out.
    pub fn verify(&self) -> Option<Change> {
        self.subject.verify()
    }

    /// Whether it was seen just now to be the process that connected. When that cannot be seen (no descriptor is left, say) the answer
    /// is no: nothing secret goes to a caller that cannot be looked at.
    pub fn is_unchanged(&self) -> bool {
        self.change().is_none() && self.is_alive() && self.subject.remember(self.subject.look())
    }

    /// Ends when the process has exited, executed or changed its user; at most about a second later.
    pub async fn changed(&self) -> Change {
        let mut changed = self.changed.clone();
        match changed.wait_for(Option::is_some).await {
            Ok(change) => change.unwrap_or(Change::Exited),
            // The sender lives in `self`: cannot happen, and the safe answer is that nobody is there.
            Err(_) => Change::Exited,
        }
    }

    /// Ends when the process has exited.
    pub async fn exited(&self) {
        let mut changed = self.changed.clone();
        drop(changed.wait_for(|change| *change == Some(Change::Exited)).await);
    }
}

impl Drop for PinnedProcess {
    fn drop(&mut self) {
        if let Some(monitor) = &self.monitor {
            monitor.abort();
        }
    }
}

impl Subject {
    fn proc_dir(&self) -> Result<ProcDir, PinError> {
        let dir = ProcDir::open(self.pid)?;
        if alive(&self.pidfd) {
            Ok(dir)
        } else {
            Err(PinError::Exited { pid: self.pid })
        }
    }

    fn verify(&self) -> Option<Change> {
        let known = *self.change.borrow();
        if known == Some(Change::Exited) {
            return known;
        }
        let found = if alive(&self.pidfd) {
            known.or_else(|| self.compare())
        } else {
            Some(Change::Exited)
        };
        if let Some(found) = found {
            self.note(found);
        }
        *self.change.borrow()
    }

    /// What was found once stays found, also when another look found nothing meanwhile; only an exit is later than a change.
    fn note(&self, found: Change) {
        self.change.send_if_modified(|known| {
            let news = known.is_none() || (found == Change::Exited && *known != Some(Change::Exited));
            if news {
                *known = Some(found);
            }
            news
        });
    }

    /// Whether the look was clear and found nothing; a change is remembered.
    fn remember(&self, look: Look) -> bool {
        if let Look::Changed(change) = look {
            self.note(change);
        }
        look == Look::Same
    }

    fn compare(&self) -> Option<Change> {
        match self.look() {
            Look::Changed(change) => Some(change),
            // The next look decides.
            Look::Same | Look::Unknown => None,
        }
    }

    fn look(&self) -> Look {
        let exited_or_unknown = || match alive(&self.pidfd) {
            true => Look::Unknown,
            false => Look::Changed(Change::Exited),
        };
        let Ok(dir) = self.proc_dir() else {
            return exited_or_unknown();
        };
        let Ok(status) = dir.status() else {
            return exited_or_unknown();
        };
        if (status.uid, status.gid) != (self.baseline.uid, self.baseline.gid) || status.groups != self.groups
        {
            return Look::Changed(Change::UserChanged);
        }
        match (self.baseline.exe, dir.exe_id()) {
            (Some(then), Ok(now)) if then != now => Look::Changed(Change::Executed),
            // What we could look at before we cannot now: a set-user-ID program, one that forbids being looked at, or the
            // moment of an exec by a thread. Each is another program, or about to be one.
            (Some(_), Err(_)) => Look::Changed(Change::Executed),
            (None, Ok(_)) => Look::Changed(Change::Executed),
            _ => Look::Same,
        }
    }
}

/// What one look at a process showed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Look {
    Same,
    Changed(Change),
    Unknown,
}

async fn monitor(subject: Arc<Subject>) {
    #[expect(
        deprecated,
        reason = "its successor is unsafe and this crate has none; what that demands holds: the subject owns one pidfd to its end"
    )]
    let exit = AsyncFd::with_interest(SharedFd(subject.clone()), tokio::io::Interest::READABLE);
    // It has just been pinned.
    let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + CHECK_EVERY, CHECK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        match &exit {
            Ok(exit) => tokio::select! {
                ready = exit.readable() => drop(ready),
                _ = tick.tick() => {}
            },
            // Not registered with epoll: the check each second sees the exit too.
            Err(_) => drop(tick.tick().await),
        }
        if subject.verify() == Some(Change::Exited) {
            return;
        }
    }
}

struct SharedFd(Arc<Subject>);

impl AsRawFd for SharedFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.pidfd.as_raw_fd()
    }
}

/// A pidfd becomes readable when its process exits.
pub(crate) fn alive(pidfd: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    loop {
        match rustix::event::poll(
            &mut fds,
            Some(&Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            }),
        ) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(0) => return true,
            _ => return false,
        }
    }
}

/// The pinned processes of one listener.
#[derive(Debug, Default)]
pub(crate) struct ProcessTable {
    /// At most twice the number of open connections: dead entries are swept when it has doubled.
    processes: Mutex<(HashMap<i32, Weak<PinnedProcess>>, usize)>,
    pub(crate) searches: Budgets,
}

impl ProcessTable {
    /// The pinned process of `fresh`'s pid: the one we have if that is alive and the same, else `fresh`, now monitored.
    pub(crate) fn share(&self, fresh: PinnedProcess) -> Arc<PinnedProcess> {
        let mut guard = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        let (processes, sweep_at) = &mut *guard;
        if let Some(known) = processes.get(&fresh.pid()).and_then(Weak::upgrade)
            // Both alive under one pid: the same process. The baseline differs when it has executed since: not shared then.
            && known.is_alive()
            && known.change().is_none()
            && known.subject.baseline == fresh.subject.baseline
            && (known.uid(), known.gid(), known.groups()) == (fresh.uid(), fresh.gid(), fresh.groups())
        {
            return known;
        }
        let fresh = Arc::new(fresh.monitored());
        processes.insert(fresh.pid(), Arc::downgrade(&fresh));
        if processes.len() > *sweep_at {
            processes.retain(|_, process| process.strong_count() > 0);
            *sweep_at = (processes.len() * 2).max(SWEEP_AT_LEAST);
        }
        fresh
    }
}

const CHECK_EVERY: Duration = Duration::from_secs(1);
const SWEEP_AT_LEAST: usize = 64;

#[cfg(test)]
mod tests;
