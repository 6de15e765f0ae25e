//! The identity of a person who has logged in from another machine: `/landfast/person/<reference>/<login>`.
//!
//! Invariant: it leads to that person while that login is his without a break and he is active, and to nobody else ever. It says nothing of the login.

use landfast_identity::{SpiffeId, TrustDomain};
use ring::digest::{SHA256, digest};

use super::login::Login;
use super::names::{PersonRef, base32};
use super::person::{Granted, Person};
use crate::random;

/// What such an identity says; not yet whether it holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Session {
    pub(crate) person: PersonRef,
    login: String,
}

/// What makes the sessions of one grant of a login others than those of another. Random, so that nobody who has a session's ID can find out by guessing
/// which login it was begun by; it goes with the login, and is another when the person is activated again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Mark(String);

impl Mark {
    /// `None` when the random source fails.
    pub(super) fn random() -> Option<Self> {
        Some(Self(base32(&random::bytes::<17>()?, 26)))
    }

    /// As it is stored.
    pub(crate) fn of_store(text: String) -> Self {
        Self(text)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Session {
    /// Of this person, by this login; `None` when it is none of the person's, or the ID would be too long, which a trust domain of 255 letters cannot
    /// bring about.
    pub(crate) fn id(td: &TrustDomain, person: &Person, login: &Login) -> Option<SpiffeId> {
        let granted = person.logins.iter().find(|granted| granted.what == *login)?;
        SpiffeId::person(td, person.reference.as_str(), &named(granted)).ok()
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

    /// The login it was begun by, if that is still this person's, and was not given anew since.
    pub(crate) fn login(&self, person: &Person) -> Option<Login> {
        let mut logins = person.logins.iter();
        let login = logins.find(|login| named(login) == self.login)?;
        (person.reference == self.person).then(|| login.what.clone())
    }
}

/// 130 bits of a SHA-256 over both.
fn named(login: &Granted<Login>) -> String {
    let mark = login.mark.as_ref().map(|mark| format!("\n{}", mark.0));
    let both = format!("{}{}", login.what, mark.unwrap_or_default());
    base32(digest(&SHA256, both.as_bytes()).as_ref(), 26)
}
