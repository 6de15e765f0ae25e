//! Listeners that wait for a certificate to show. Invariant: none is given up, and for as long as one is closed somebody can see it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use landfast_daemon::TaskHandle;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;

use super::front::Front;

/// By default none.
#[derive(Default)]
pub(super) struct Closed {
    waiting: Vec<Waiting>,
    /// What keeps them closed; nothing when all are open.
    why: watch::Sender<Option<String>>,
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
        let why = "publish.listen is closed: its certificate cannot be used (the log says why)";
        self.why.send_replace(Some(why.to_owned()));
        Ok(address)
    }

    pub(super) fn map(&mut self, change: impl Fn(Front) -> Front) {
        for one in &mut self.waiting {
            one.front = change(one.front.clone());
        }
    }

    pub(super) fn why(&self) -> watch::Receiver<Option<String>> {
        self.why.subscribe()
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
            let why = self.waiting.first().map(|one| {
                format!(
                    "publish.listen is closed: somebody else listens at {}",
                    one.address
                )
            });
            self.why.send_replace(why);
            if self.waiting.is_empty() {
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
