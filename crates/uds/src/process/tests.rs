//! Pinning real processes: this one, and shells that exit, execute and wait.

use std::{
    io::{Read as _, Write as _},
    process::{Child, Command, Stdio},
};

use super::*;

/// A shell that does `script` when it is told to go on.
struct Shell(Child);

impl Shell {
    fn start(script: &str) -> Self {
        let child = Command::new("/bin/sh")
            .args(["-c", &format!("echo; read line; {script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut shell = Self(child);
        let mut started = [0];
        shell.0.stdout.as_mut().unwrap().read_exact(&mut started).unwrap();
        shell
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    fn go_on(&mut self) {
        self.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    fn pin(&self) -> PinnedProcess {
        let (uid, gid) = ids();
        PinnedProcess::pin(self.pid(), pidfd(self.pid()), uid, gid).unwrap()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect("it is not noticed")
}

fn ids() -> (u32, u32) {
    (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    )
}

fn pidfd(pid: i32) -> OwnedFd {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap()
}

#[tokio::test]
async fn an_exit_is_seen() {
    let mut shell = Shell::start("exit 0");
    let process = shell.pin().monitored();
    assert!(process.is_alive());
    assert_eq!((process.verify(), process.change()), (None, None));
    shell.go_on();
    // In the middle of an exit the executable is gone already and the pidfd not yet readable.
    assert!(matches!(
        soon(process.changed()).await,
        Change::Exited | Change::Executed
    ));
    soon(process.exited()).await;
    assert_eq!(process.verify(), Some(Change::Exited));
    assert!(!process.is_alive());
    assert!(matches!(process.proc_dir(), Err(PinError::Exited { .. })));
}

#[tokio::test]
async fn another_program_in_the_same_process_is_seen() {
    let mut shell = Shell::start("exec sleep 1000");
    let process = shell.pin().monitored();
    assert_eq!(process.verify(), None);
    shell.go_on();
    assert_eq!(soon(process.changed()).await, Change::Executed);
    assert!(process.is_alive());
    assert_eq!(
        process.verify(),
        Some(Change::Executed),
        "a change is not forgotten"
    );
}

#[tokio::test]
async fn other_credentials_than_those_that_connected_are_refused() {
    let shell = Shell::start("exit 0");
    let (uid, gid) = ids();
    for (uid, gid) in [(uid + 1, gid), (uid, gid + 1)] {
        let refused = PinnedProcess::pin(shell.pid(), pidfd(shell.pid()), uid, gid);
        assert!(
            matches!(refused, Err(PinError::CredentialsDiffer { .. })),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn a_pid_whose_pidfd_has_exited_is_refused_even_if_the_pid_lives() {
    // The pidfd of a process that is gone, with the pid of one that lives: what a reused pid looks like.
    let mut gone = Shell::start("exit 0");
    let pidfd = pidfd(gone.pid());
    gone.go_on();
    gone.0.wait().unwrap();
    let (uid, gid) = ids();
    let refused = PinnedProcess::pin(std::process::id() as i32, pidfd, uid, gid);
    assert!(matches!(refused, Err(PinError::Exited { .. })), "{refused:?}");
}

#[tokio::test]
async fn connections_of_one_process_share_one_pin() {
    let shell = Shell::start("exit 0");
    let other = Shell::start("exit 0");
    let table = ProcessTable::default();
    let first = table.share(shell.pin());
    let second = table.share(shell.pin());
    let third = table.share(other.pin());
    assert!(Arc::ptr_eq(&first, &second));
    assert!(!Arc::ptr_eq(&first, &third));
}

#[tokio::test]
async fn a_connection_made_after_exec_is_not_taken_for_the_one_before() {
    let mut shell = Shell::start("exec sleep 1000");
    let table = ProcessTable::default();
    let before = table.share(shell.pin());
    shell.go_on();
    soon(before.changed()).await;
    let after = table.share(shell.pin());
    assert!(!Arc::ptr_eq(&before, &after));
    assert_eq!((before.change(), after.change()), (Some(Change::Executed), None));
}

#[tokio::test]
async fn the_table_forgets_those_who_left() {
    let table = ProcessTable::default();
    for _ in 0..SWEEP_AT_LEAST {
        drop(table.share(Shell::start("exit 0").pin()));
    }
    table.processes.lock().unwrap().1 = 1;
    let kept = table.share(Shell::start("exit 0").pin());
    assert_eq!(table.processes.lock().unwrap().0.len(), 1);
    drop(kept);
}
