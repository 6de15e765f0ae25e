//! Accepting without end.
//!
//! Invariant: no answer of the kernel ends the loop, and none makes it spin: after an error other than an aborted connection it
//! pauses, from 10 ms up to 500 ms, so that it recovers within a second.

use std::{io, time::Duration};

use tokio::net::{UnixListener, UnixStream};

/// What connections come from; scripted in tests.
pub(crate) trait Source {
    fn accept(&self) -> impl Future<Output = io::Result<UnixStream>> + Send;
}

impl Source for UnixListener {
    async fn accept(&self) -> io::Result<UnixStream> {
        Self::accept(self).await.map(|(stream, _)| stream)
    }
}

/// The pause that an error earns.
#[derive(Debug)]
pub(crate) struct Patience {
    pause: Duration,
}

impl Patience {
    pub(crate) fn new() -> Self {
        Self { pause: SHORTEST }
    }

    /// The next connection.
    pub(crate) async fn accept(&mut self, source: &impl Source) -> UnixStream {
        loop {
            match source.accept().await {
                Ok(stream) => {
                    self.pause = SHORTEST;
                    return stream;
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted
                    ) =>
                {
                    tokio::task::yield_now().await;
                }
                Err(error) => {
                    // Once an episode: the pause is at its shortest only for the first.
                    if self.pause == SHORTEST {
                        tracing::warn!(%error, "cannot accept connections, pausing between attempts");
                    }
                    let pause = self.pause;
                    self.pause = (pause * 2).min(LONGEST);
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}

const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    };

    use tokio::time::Instant;

    use super::*;

    struct Script {
        starved_until: Instant,
        error: fn() -> io::Error,
        attempts: AtomicUsize,
        stream: Mutex<Option<UnixStream>>,
    }

    impl Script {
        fn starved_for(time: Duration, error: fn() -> io::Error) -> Self {
            let stream = Mutex::new(Some(UnixStream::pair().unwrap().0));
            Self {
                starved_until: Instant::now() + time,
                error,
                attempts: AtomicUsize::new(0),
                stream,
            }
        }
    }

    impl Source for Script {
        async fn accept(&self) -> io::Result<UnixStream> {
            self.attempts.fetch_add(1, Ordering::Relaxed);
            if Instant::now() < self.starved_until {
                return Err((self.error)());
            }
            Ok(self.stream.lock().unwrap().take().unwrap())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn out_of_descriptors_it_neither_spins_nor_dies_and_recovers_within_a_second() {
        for errno in [
            nix::libc::EMFILE,
            nix::libc::ENFILE,
            nix::libc::ENOBUFS,
            nix::libc::ENOMEM,
        ] {
            assert!(io::Error::from_raw_os_error(errno).kind() != io::ErrorKind::ConnectionAborted);
        }
        let script = Script::starved_for(Duration::from_secs(60), || {
            io::Error::from_raw_os_error(nix::libc::EMFILE)
        });
        let mut patience = Patience::new();
        drop(patience.accept(&script).await);
        assert!(
            script.attempts.load(Ordering::Relaxed) < 150,
            "it spins: {:?} attempts in 60 s",
            script.attempts
        );
        assert!(
            Instant::now() - script.starved_until <= Duration::from_secs(1),
            "it recovers too late"
        );
        assert_eq!(patience.pause, SHORTEST, "a success ends the episode");
    }

    #[tokio::test(start_paused = true)]
    async fn an_aborted_connection_costs_no_pause() {
        let script = Script::starved_for(Duration::ZERO, || io::ErrorKind::ConnectionAborted.into());
        let before = Instant::now();
        drop(Patience::new().accept(&script).await);
        assert_eq!(Instant::now(), before);
    }
}
