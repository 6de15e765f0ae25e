//! The command that `landfast dev -- COMMAND` runs.
//!
//! Invariant: we end when it ends, with its status, however it ends.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

use crate::failure::Failure;

pub(super) async fn run(command: &[OsString], environment: &super::Environment) -> Result<u8, Failure> {
    // Before the start: a signal that comes early waits here instead of ending us alone.
    let mut streams = Streams::open().map_err(|error| {
        Failure::failed(
            format!("cannot listen for signals: {error}"),
            "please report this",
        )
    })?;
    let (program, arguments) = command
        .split_first()
        .ok_or_else(|| Failure::usage("no command", "landfast dev -- COMMAND"))?;
    let shown = program.to_string_lossy();
    let mut child = Command::new(program)
        .args(arguments)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            Failure::failed(
                format!("cannot run {shown}: {error}"),
                "is it installed, and executable?",
            )
        })?;
    loop {
        tokio::select! {
            ended = child.wait() => {
                let status = ended.map_err(|error| Failure::failed(format!("lost {shown}: {error}"), "please report this"))?;
                return Ok(code(status));
            }
            received = streams.next() => {
                let from_terminal = matches!(received, Signal::SIGINT | Signal::SIGQUIT) && in_foreground();
                if let (Some(pid), false) = (child.id().and_then(|pid| i32::try_from(pid).ok()), from_terminal) {
                    // It may have ended in this moment; then `wait` says so.
                    let _gone = kill(Pid::from_raw(pid), received);
                }
            }
        }
    }
}

/// Whether a terminal sends us its ^C and ^\: it does so to the whole foreground group, the command included, and twice would be once too
/// often. There, somebody's `kill` cannot be told from it; whoever wants to end the command sends SIGTERM.
fn in_foreground() -> bool {
    std::fs::read_to_string("/proc/self/stat").is_ok_and(|stat| leads_terminal(&stat))
}

/// proc_pid_stat(5): after the name, which may hold anything, come state, parent, group, session, terminal, and its foreground group.
fn leads_terminal(stat: &str) -> bool {
    let rest = stat.rsplit_once(") ").map_or("", |(_name, rest)| rest);
    let fields: Vec<&str> = rest.split(' ').collect();
    matches!(fields.as_slice(), [_, _, group, _, _, foreground, ..] if group == foreground)
}

/// As a shell reports it: 128 and the signal's number.
fn code(status: std::process::ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

struct Streams {
    terminate: Stream,
    interrupt: Stream,
    hangup: Stream,
    quit: Stream,
    user1: Stream,
    user2: Stream,
}

impl Streams {
    fn open() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::SIGTERM,
            _ = self.interrupt.recv() => Signal::SIGINT,
            _ = self.hangup.recv() => Signal::SIGHUP,
            _ = self.quit.recv() => Signal::SIGQUIT,
            _ = self.user1.recv() => Signal::SIGUSR1,
            _ = self.user2.recv() => Signal::SIGUSR2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_terminals_foreground_group_is_recognised() {
        assert!(leads_terminal("7 (a) 1 2 3 (b) S 1 70 70 34816 70 4194304 9"));
        assert!(!leads_terminal(
            "7 (in the background) S 1 70 60 34816 71 4194304 9"
        ));
        assert!(!leads_terminal("7 (without a terminal) S 1 70 60 0 -1 4194304 9"));
        assert!(!leads_terminal(""));
    }
}
