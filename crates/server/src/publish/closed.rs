//! Listeners that wait for a certificate to show. Invariant: none is given up, and for as long as one is closed somebody can see it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use landfast_daemon::TaskHandle;
use tokio::net::{TcpListener, TcpSocket};

use super::front::Front;

/// By default none.
#[derive(Default)]
pub(super) struct Closed {
    waiting: Vec<Waiting>,
    any: Arc<AtomicBool>,
}

struct Waiting {
    front: Front,
    address: SocketAddr,
    /// Bound and refusing connections. Somebody else can listen there all the same: then it is bound anew for each try.
    socket: Option<TcpSocket>,
    complained: bool,
}

impl Closed {
    /// Returns the address with its real port.
    pub(super) fn reserve(&mut self, front: Front, wanted: SocketAddr) -> io::Result<SocketAddr> {
        let socket = bind(wanted)?;
        let address = socket.local_addr()?;
        self.waiting.push(Waiting {
            front,
            address,
            socket: Some(socket),
            complained: false,
        });
        self.any.store(true, Ordering::Release);
        Ok(address)
    }

    pub(super) fn map(&mut self, change: impl Fn(Front) -> Front) {
        for one in &mut self.waiting {
            one.front = change(one.front.clone());
        }
    }

    /// Whether there is one still.
    pub(super) fn any(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.any)
    }

    /// Opens them all, now that there is a certificate, however long it takes.
    pub(super) async fn open(mut self, tasks: &TaskHandle) {
        loop {
            self.waiting.retain_mut(|one| match one.listen() {
                Ok(listener) => {
                    if one.complained {
                        tracing::info!(address = %one.address, "publishing there now");
                    }
                    one.front.clone().listen(listener, tasks);
                    false
                }
                Err(error) => {
                    one.complain(&error);
                    true
                }
            });
            if self.waiting.is_empty() {
                self.any.store(false, Ordering::Release);
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

impl Waiting {
    fn listen(&mut self) -> io::Result<TcpListener> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => bind(self.address)?,
        };
        socket.listen(BACKLOG)
    }

    fn complain(&mut self, error: &io::Error) {
        if std::mem::replace(&mut self.complained, true) {
            return;
        }
        tracing::error!(
            %error,
            address = %self.address,
            "cannot listen where the bundle is to be published: somebody else has taken the address; trying again until it is free"
        );
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?; // as a listener has it
    socket.bind(address)?;
    Ok(socket)
}

/// Connections that the kernel holds for us, as those of other listeners.
const BACKLOG: u32 = 1024;
const AGAIN: Duration = Duration::from_secs(1);
