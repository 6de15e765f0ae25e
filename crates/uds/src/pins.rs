//! Processes pinned by their number, which somebody else gave.
//!
//! Invariant: what is handed out is the process that had the number when it was asked for, and never a later one.

use std::sync::Arc;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::{PinError, PinnedProcess, ProcDir, process::ProcessTable};

/// Pins processes; those of one number share a pidfd while they are the same process.
#[derive(Debug, Default)]
pub struct Pins(ProcessTable);

impl Pins {
    /// The process of this number, as this PID namespace counts, pinned and watched. Needs a tokio runtime.
    ///
    /// # Errors
    /// There is none (a thread is none), or it cannot be looked at.
    pub fn open(&self, pid: i32) -> Result<Arc<PinnedProcess>, PinError> {
        let raw = (pid > 0).then(|| Pid::from_raw(pid)).flatten();
        let raw = raw.ok_or(PinError::Exited { pid })?;
        // A thread that does not lead its process: EINVAL, or ENOENT since Linux 6.9.
        let pidfd = pidfd_open(raw, PidfdFlags::empty()).map_err(|errno| match errno {
            rustix::io::Errno::SRCH | rustix::io::Errno::INVAL | rustix::io::Errno::NOENT => {
                PinError::Exited { pid }
            }
            other => PinError::io("open the pidfd", pid)(other.into()),
        })?;
        // Whoever it runs as: nobody connected whose user it must be. Pinning compares, and looks whether the pidfd is alive after that.
        let status = ProcDir::open(pid)?.status()?;
        let fresh = PinnedProcess::pin(pid, pidfd, status.uid.effective, status.gid.effective)?;
        Ok(self.0.share(fresh))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Change;
    use std::process::{Child, Command};

    fn sleeper() -> Child {
        Command::new("sleep").arg("600").spawn().unwrap()
    }

    fn pid(child: &Child) -> i32 {
        i32::try_from(child.id()).unwrap()
    }

    #[tokio::test]
    async fn a_process_is_pinned_by_its_number_once_and_its_end_is_seen() {
        let pins = Pins::default();
        let mut child = sleeper();
        let (one, two) = (pins.open(pid(&child)).unwrap(), pins.open(pid(&child)).unwrap());
        assert!(Arc::ptr_eq(&one, &two), "they share a descriptor");
        assert_eq!(
            (one.pid(), one.uid()),
            (pid(&child), nix::unistd::geteuid().as_raw())
        );
        assert!(one.is_unchanged());
        child.kill().unwrap();
        // Not reaped yet: a zombie is no process any more.
        one.exited().await;
        assert_eq!(one.verify(), Some(Change::Exited));
        assert!(matches!(pins.open(pid(&child)), Err(PinError::Exited { .. })));
        child.wait().unwrap();
    }

    #[tokio::test]
    async fn what_is_no_process_is_not_pinned() {
        let pins = Pins::default();
        let mut child = sleeper();
        child.kill().unwrap();
        child.wait().unwrap();
        for none in [0, -1, i32::MIN, i32::MAX, pid(&child)] {
            assert!(pins.open(none).is_err(), "{none}");
        }
        let (tell, told) = std::sync::mpsc::channel();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            tell.send(nix::unistd::gettid().as_raw()).unwrap();
            let _ended = stopped.recv();
        });
        let tid = told.recv().unwrap();
        assert!(pins.open(tid).is_err(), "a thread is no process");
        drop(stop);
        thread.join().unwrap();
    }
}
