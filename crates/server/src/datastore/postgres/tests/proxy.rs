//! Stands between a server and its database, and loses the answer to a COMMIT when it is told to.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

pub(crate) struct Proxy {
    pub(crate) dir: PathBuf,
    pub(crate) lose: Arc<AtomicBool>,
    pub(crate) lost: Arc<AtomicUsize>,
    /// COMMITs that are answered before.
    pub(crate) spare: Arc<AtomicUsize>,
}

impl Proxy {
    pub(crate) fn start(database: &Path) -> Self {
        let dir = database.join("proxy");
        std::fs::create_dir(&dir).unwrap();
        let listener = UnixListener::bind(dir.join(".s.PGSQL.5432")).unwrap();
        let (lose, lost) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let spare = Arc::new(AtomicUsize::new(0));
        let (losing, losses, sparing) = (Arc::clone(&lose), Arc::clone(&lost), Arc::clone(&spare));
        let behind = database.join(".s.PGSQL.5432");
        // Ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), UnixStream::connect(&behind).unwrap());
                let (back, forth) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                let (losing, losses) = (Arc::clone(&losing), Arc::clone(&losses));
                let sparing = Arc::clone(&sparing);
                let mute = Arc::new(AtomicBool::new(false));
                let muted = Arc::clone(&mute);
                // It is committed; nobody hears of it.
                let passes = move |bytes: &[u8]| !(has_commit(bytes) && muted.load(Ordering::SeqCst));
                std::thread::spawn(move || pump(back, forth, passes));
                std::thread::spawn(move || {
                    pump(client, server, |bytes| {
                        let less = |left: usize| left.checked_sub(1);
                        let lose = has_commit(bytes)
                            && losing.load(Ordering::SeqCst)
                            && sparing
                                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
                                .is_err();
                        if lose && losing.swap(false, Ordering::SeqCst) {
                            mute.store(true, Ordering::SeqCst);
                            losses.fetch_add(1, Ordering::SeqCst);
                        }
                        true
                    });
                });
            }
        });
        Self {
            dir,
            lose,
            lost,
            spare,
        }
    }
}

/// The order as well as its answer.
fn has_commit(bytes: &[u8]) -> bool {
    bytes.windows(7).any(|part| part == b"COMMIT\0")
}

fn pump(mut from: UnixStream, mut to: UnixStream, pass: impl Fn(&[u8]) -> bool) {
    let mut buffer = [0; 65536];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if !pass(&buffer[..read]) || to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    to.shutdown(Shutdown::Both).ok();
}
