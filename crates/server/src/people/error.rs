//! Why the register of persons refuses.

use super::login::Login;
use super::names::{NameError, PersonRef};
use super::person::Person;
use super::register::{MAX_PERSONS, MAX_PROPOSALS};

/// Why a change of persons was not made. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PeopleError {
    /// A reference or a name is none.
    #[error(transparent)]
    Name {
        /// Which rule.
        #[from]
        source: NameError,
    },
    /// No such person.
    #[error("no person {person}")]
    NoSuchPerson {
        /// The reference.
        person: PersonRef,
    },
    /// The name was erased: the reference stays what it was.
    #[error("{person} was forgotten, for good: add the person anew")]
    Forgotten {
        /// The reference.
        person: PersonRef,
    },
    /// The login belongs to somebody.
    #[error("{login} belongs to {person} already: a login has one person")]
    LoginTaken {
        /// Which.
        login: Login,
        /// Whose.
        person: PersonRef,
    },
    /// Root is nobody in particular.
    #[error(
        "uid 0 is no login of a person: give the uid that the person logs in with, sudo does not hide it"
    )]
    RootLogin,
    /// A login of machines.
    #[error(
        "{login} cannot be a login of a person: it is not of this trust domain, or it is that of a server, an agent or a session"
    )]
    BadLogin {
        /// Which.
        login: Login,
    },
    /// A role for something that is not ours.
    #[error("the role {role} is for another trust domain")]
    ForeignRole {
        /// Which.
        role: String,
    },
    /// Nothing would change.
    #[error("nothing would change")]
    Nothing,
    /// Somebody has to be able to go on.
    #[error(
        "the first person has to be able to add the second: give a login, and the role administer without a pattern"
    )]
    FirstAdministers,
    /// A bound.
    #[error(
        "a person has at most {} logins and {} roles",
        Person::MAX_LOGINS,
        Person::MAX_ROLES
    )]
    TooMuchOfOne,
    /// A bound.
    #[error("there are {MAX_PERSONS} persons already, more are not accepted")]
    TooManyPersons,
    /// A bound.
    #[error("{MAX_PROPOSALS} proposals wait already: confirm or reject some")]
    TooManyProposals,
    /// No such proposal, or no more.
    #[error("no proposal {id}: it was confirmed, rejected, or is over")]
    NoSuchProposal {
        /// Which.
        id: String,
    },
    /// The same person again.
    #[error("you have agreed to {id} already: another person has to confirm it")]
    SamePerson {
        /// Which.
        id: String,
    },
    /// The random source failed.
    #[error("the random source failed: nothing was changed")]
    Random,
    /// Not one of those who can.
    #[error("only an active person with the role administer or approve, without a pattern, confirms")]
    MayNotConfirm,
}

impl PeopleError {
    /// As records have it for good: without who somebody is at a provider, which may be his name, and without texts that were given with the request.
    pub(crate) fn recorded(&self) -> String {
        match self {
            Self::LoginTaken { login, person } => format!("{} belongs to {person} already", login.recorded()),
            Self::BadLogin { login } => format!("{} cannot be a login of a person", login.recorded()),
            Self::NoSuchProposal { .. } => {
                "there is no such proposal: it was confirmed, rejected, or is over".to_owned()
            }
            Self::ForeignRole { .. } => "the role is for another trust domain".to_owned(),
            other => other.to_string(),
        }
    }
}
