//! Who operates the trust domain: persons, by which logins they come, and what they may do.
//!
//! Invariant: a login belongs to one person; nothing is granted but by a role of an active one; what is told and recorded of a person is a
//! reference, never a name.

mod error;
mod login;
mod names;
mod person;
mod register;
mod session;
mod standing;
mod step;
mod told;

pub use error::PeopleError;
pub use login::{Login, OidcSubject};
pub use names::{NameError, PersonRef};
pub(crate) use names::{is_proposal_id, proposal_id};
pub(crate) use person::{Agreement, Granted, Person};
pub(crate) use person::{Role, Verb};
pub(crate) use register::{Proposal, Register, Write};
pub(crate) use session::{Mark, Session};
pub(crate) use standing::{Audit, LocalLogin, Operator, Standing};
pub(crate) use step::{Change, Done, Step};
pub(crate) use told::{Event, Outcome, told};

#[cfg(test)]
mod tests;
