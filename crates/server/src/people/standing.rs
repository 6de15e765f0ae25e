//! As whom an operator is let in, and what he may do. Invariant: the default is nothing; root administers and approves nothing; a user can become
//! nobody else by what he writes into his own process.

use std::fmt;
use std::sync::Arc;

use landfast_identity::{SpiffeId, TrustDomain, UnixTime};
use landfast_proto::Reason;
use landfast_uds::{PeerInfo, PinError};

use super::login::Login;
use super::person::{Person, Verb};

/// See the module.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// No person is in the register: whoever is let in administers, as ever.
    Administrator,
    /// uid 0 of the server's machine, with nobody behind it.
    Root,
    Person(Arc<Person>),
    #[default]
    Nobody,
}

/// Who operates: in the extensions of a request as part of its caller.
#[derive(Clone, Default, Debug)]
pub(crate) struct Operator {
    pub(crate) standing: Standing,
    /// By which a person was looked for.
    pub(crate) login: Option<Login>,
    /// When the certificate ends that was shown for it.
    pub(crate) ends: Option<UnixTime>,
    /// Over the admin socket.
    pub(crate) local: bool,
    /// Why, in his words.
    pub(crate) reason: Option<Reason>,
}

impl Standing {
    pub(crate) fn may(&self, verb: Verb, id: &SpiffeId) -> bool {
        self.judge(verb, |person| person.may(verb, id))
    }

    pub(crate) fn may_all(&self, verb: Verb, td: &TrustDomain) -> bool {
        self.judge(verb, |person| person.may_all(verb, td))
    }

    pub(crate) fn may_some(&self, verb: Verb) -> bool {
        self.judge(verb, |person| person.may_some(verb))
    }

    fn judge(&self, verb: Verb, person_may: impl Fn(&Person) -> bool) -> bool {
        match self {
            Self::Administrator => true,
            Self::Root => verb != Verb::Approve,
            Self::Person(person) => person_may(person),
            Self::Nobody => false,
        }
    }

    pub(crate) fn person(&self) -> Option<&Arc<Person>> {
        match self {
            Self::Person(person) => Some(person),
            Self::Administrator | Self::Root | Self::Nobody => None,
        }
    }
}

/// Who is at the other end of the admin socket, by the kernel's word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LocalLogin {
    pub(crate) uid: u32,
    pub(crate) audit: Audit,
}

/// As whom the process was logged in, whatever user it is now (`/proc/PID/loginuid`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Audit {
    Uid(u32),
    /// Nobody has logged in: a daemon, or a kernel without audit.
    Unset,
    /// It cannot be told: the process has gone, or is not to be seen from here.
    Unknown,
}

impl LocalLogin {
    /// One small file of `/proc`, which waits for nothing.
    pub(crate) fn of(peer: &PeerInfo) -> Self {
        let audit = match (peer.process(), peer.unpinned()) {
            (Some(process), _) => {
                let read = process.proc_dir().ok().map(|dir| dir.read("loginuid"));
                // After the read: what was read is of the process that connected.
                match (read, process.is_alive()) {
                    (Some(read), true) => audit(read),
                    _ => Audit::Unknown,
                }
            }
            // Its process table is another's, and so are its logins.
            (None, Some(PinError::ForeignNamespace)) => Audit::Unset,
            (None, _) => Audit::Unknown,
        };
        Self { uid: peer.uid, audit }
    }

    /// Of this very process.
    pub(crate) fn own() -> Self {
        Self {
            uid: nix::unistd::getuid().as_raw(),
            audit: audit(std::fs::read("/proc/self/loginuid")),
        }
    }

    /// The login by which the person is looked for.
    pub(crate) fn login(self) -> Login {
        Login::Uid(match self.audit {
            Audit::Uid(uid) if self.uid == 0 => uid,
            _ => self.uid,
        })
    }

    /// When there are persons. A process in which nobody has logged in may write any number into its own loginuid, and a program that root has started
    /// for somebody else keeps root's: so of a user who is not root both count, and they have to be of one person.
    pub(crate) fn standing(self, holder: impl Fn(&Login) -> Option<Arc<Person>>) -> Standing {
        let of = |uid| holder(&Login::Uid(uid)).filter(|person| person.active);
        let person = match (self.uid, self.audit) {
            (_, Audit::Unknown) => None,
            (0, Audit::Unset | Audit::Uid(0)) => return Standing::Root,
            (0, Audit::Uid(login)) => of(login),
            (uid, Audit::Unset) => of(uid),
            (uid, Audit::Uid(login)) => of(uid).filter(|person| person.has(&Login::Uid(login))),
        };
        person.map_or(Standing::Nobody, Standing::Person)
    }
}

fn audit(read: std::io::Result<Vec<u8>>) -> Audit {
    let text = match read {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Audit::Unset,
        Err(_unreadable) => return Audit::Unknown,
    };
    let number = std::str::from_utf8(&text).ok();
    match number.and_then(|text| text.trim().parse().ok()) {
        Some(u32::MAX) => Audit::Unset,
        Some(uid) => Audit::Uid(uid),
        None => Audit::Unknown,
    }
}

impl fmt::Display for LocalLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.audit {
            Audit::Uid(uid) => write!(f, "loginuid {uid}"),
            Audit::Unset => f.write_str("loginuid unset"),
            Audit::Unknown => f.write_str("loginuid unknown"),
        }
    }
}
