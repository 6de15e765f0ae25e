//! A person as a record. Invariant: it has no name; each login and each role says who agreed to it.

use std::collections::BTreeSet;
use std::fmt;

use landfast_identity::{IdPattern, SpiffeId, TrustDomain, UnixTime};

use super::login::Login;
use super::names::PersonRef;
use super::session::Mark;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Person {
    pub(crate) reference: PersonRef,
    pub(crate) active: bool,
    /// Its name and its logins were erased, for good.
    pub(crate) forgotten: bool,
    pub(crate) agreed: Agreement,
    /// At most [`Person::MAX_LOGINS`].
    pub(crate) logins: Vec<Granted<Login>>,
    /// At most [`Person::MAX_ROLES`].
    pub(crate) roles: Vec<Granted<Role>>,
}

/// Something that somebody was given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Granted<T> {
    pub(crate) what: T,
    pub(crate) agreed: Agreement,
    /// Of a login: what its sessions are known by. `None`: of a role, or from before there were any.
    pub(crate) mark: Option<Mark>,
}

/// Who agreed. Fewer than two: it took effect before two could be asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Agreement {
    pub(crate) persons: BTreeSet<PersonRef>,
    pub(crate) at: UnixTime,
}

/// What a method does, for who may do it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Verb {
    /// Changes nothing. Whoever has any other verb for something has this one for it.
    Read,
    /// Says yes or no to what somebody else asks for.
    Approve,
    /// Makes and changes entries and join tokens.
    Enrol,
    /// Takes entries and nodes away.
    Revoke,
    /// Everything about the trust domain itself: authorities, federation, persons.
    Administer,
}

/// A verb, for these identities.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Role {
    pub(crate) verb: Verb,
    pub(crate) pattern: IdPattern,
}

impl Person {
    pub(crate) const MAX_LOGINS: usize = 16;
    pub(crate) const MAX_ROLES: usize = 64;

    /// Whether it may do this to what has this identity.
    pub(crate) fn may(&self, verb: Verb, id: &SpiffeId) -> bool {
        self.any(verb, |role| role.pattern.matches(id))
    }

    /// Whether it may do this to the trust domain as a whole.
    pub(crate) fn may_all(&self, verb: Verb, td: &TrustDomain) -> bool {
        self.any(verb, |role| role.is_whole(td))
    }

    /// Whether there is anything to which it may do this.
    pub(crate) fn may_some(&self, verb: Verb) -> bool {
        self.any(verb, |_| true)
    }

    fn any(&self, verb: Verb, covers: impl Fn(&Role) -> bool) -> bool {
        let gives = |role: &Role| (verb == Verb::Read || role.verb == verb) && covers(role);
        self.active && self.roles.iter().any(|role| gives(&role.what))
    }

    /// Whether it counts as one of two, for the whole of the trust domain.
    pub(crate) fn may_confirm(&self, td: &TrustDomain) -> bool {
        !self.logins.is_empty() && (self.may_all(Verb::Administer, td) || self.may_all(Verb::Approve, td))
    }

    pub(crate) fn has(&self, login: &Login) -> bool {
        self.logins.iter().any(|known| known.what == *login)
    }
}

impl Agreement {
    /// Whether fewer than two have agreed.
    pub(crate) fn is_alone(&self) -> bool {
        self.persons.len() < 2
    }
}

impl Role {
    /// Whether it is for everything of this trust domain.
    pub(crate) fn is_whole(&self, td: &TrustDomain) -> bool {
        self.pattern.to_string() == whole(td)
    }

    /// Whether it is for something of this trust domain.
    pub(crate) fn is_of(&self, td: &TrustDomain) -> bool {
        let text = self.pattern.to_string();
        let base = text.strip_suffix("/*").unwrap_or(&text);
        SpiffeId::parse(base).is_ok_and(|base| base.trust_domain() == td)
    }
}

/// The pattern of a whole trust domain.
pub(super) fn whole(td: &TrustDomain) -> String {
    format!("spiffe://{td}/*")
}

impl Verb {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Read, "read"),
        (Self::Approve, "approve"),
        (Self::Enrol, "enrol"),
        (Self::Revoke, "revoke"),
        (Self::Administer, "administer"),
    ];
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = Self::ALL.iter().find(|(verb, _)| verb == self);
        f.write_str(found.map_or("", |(_, name)| name))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.verb, self.pattern)
    }
}

/// A text of the datastore that does not read back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no such login or role was ever stored")]
pub(crate) struct Unreadable;

impl Role {
    /// As it is displayed.
    pub(crate) fn parse(text: &str) -> Result<Self, Unreadable> {
        let (verb, pattern) = text.split_once(':').ok_or(Unreadable)?;
        let verb = Verb::ALL
            .iter()
            .find(|(_, name)| *name == verb)
            .ok_or(Unreadable)?
            .0;
        let pattern = IdPattern::parse(pattern).map_err(|_bad| Unreadable)?;
        Ok(Self { verb, pattern })
    }
}
