//! Persons in the registry. Invariant: whoever is asked about by a login is the person that has it now, on every server that has heard of the change.

use std::sync::Arc;

use landfast_identity::SpiffeId;

use super::{Registry, RegistryError};
use crate::datastore::DatastoreError;
use crate::people::{Done, Login, Person, PersonRef, Register, Step};

impl Registry {
    /// Takes the step, durably, as this person.
    ///
    /// # Errors
    /// The register refuses, or the datastore fails.
    pub(crate) async fn change_people(
        &self,
        step: Step,
        by: Option<PersonRef>,
    ) -> Result<Done, RegistryError> {
        let (td, now) = (self.trust_domain.clone(), self.now()?);
        self.datastore.change_people(td, step, by, now).await
    }

    /// All of it, with names and proposals.
    pub(crate) async fn people(&self) -> Result<Register, DatastoreError> {
        self.datastore.register(self.trust_domain.clone()).await
    }

    /// Whether there is any person: from the first one on, nobody administers by being where he is.
    pub(crate) fn has_people(&self) -> bool {
        !self.read().people.is_empty()
    }

    /// Whose login this is, active or not.
    pub(crate) fn holder(&self, login: &Login) -> Option<Arc<Person>> {
        self.read().people.holder(login).cloned()
    }

    /// Refuses what would let somebody show the certificate of an operator: whoever makes entries would be everybody.
    ///
    /// # Errors
    /// The identity is a login.
    pub(crate) fn is_no_login(&self, id: &SpiffeId) -> Result<(), RegistryError> {
        match self.read().people.holder(&Login::Spiffe(id.clone())) {
            None => Ok(()),
            Some(person) => Err(RegistryError::IsLogin {
                id: id.clone(),
                person: person.reference.to_string(),
            }),
        }
    }
}
