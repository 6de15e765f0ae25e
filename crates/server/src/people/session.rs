//! The identity of a person who has logged in from another machine: `/landfast/person/<reference>/<login>`.
//!
//! Invariant: it leads to that person while that login is his, and to nobody else ever. It says of the login only a digest.

use landfast_identity::{SpiffeId, TrustDomain};
use ring::digest::{SHA256, digest};

use super::login::Login;
use super::names::{PersonRef, base32};
use super::person::Person;

/// What such an identity says; not yet whether it holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Session {
    pub(crate) person: PersonRef,
    login: String,
}

impl Session {
    /// Of this person, by this login; `None` when the ID would be too long, which a trust domain of 255 letters cannot bring about.
    pub(crate) fn id(td: &TrustDomain, person: &PersonRef, login: &Login) -> Option<SpiffeId> {
        SpiffeId::person(td, person.as_str(), &named(login)).ok()
    }

    /// Reads one; `None` when it is no such identity.
    pub(crate) fn of(id: &SpiffeId) -> Option<Self> {
        let mut segments = id.path().strip_prefix("/landfast/person/")?.split('/');
        let (person, login) = (segments.next()?, segments.next()?);
        let session = Self {
            person: PersonRef::parse(person).ok()?,
            login: login.to_owned(),
        };
        segments.next().is_none().then_some(session)
    }

    /// The login it was begun by, if that is still this person's.
    pub(crate) fn login(&self, person: &Person) -> Option<Login> {
        let mut logins = person.logins.iter().map(|granted| &granted.what);
        let login = logins.find(|login| named(login) == self.login)?;
        (person.reference == self.person).then(|| login.clone())
    }
}

/// 130 bits of its SHA-256.
fn named(login: &Login) -> String {
    base32(digest(&SHA256, login.to_string().as_bytes()).as_ref(), 26)
}
