//! Persons in the registry. Invariant: whoever is asked about by a login is the person that has it now, on every server that has heard of the change.

use std::sync::Arc;

use landfast_identity::SpiffeId;

use super::{Registry, RegistryError};
use crate::datastore::DatastoreError;
use crate::people::{Done, Login, Person, PersonRef, Register, Session, Step};

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

    /// Who comes by this identity, active or not, and by which login: the identity itself, or the one that a session was begun by, which has to be
    /// that person's still.
    pub(crate) fn comes_by(&self, id: &SpiffeId) -> Option<(Arc<Person>, Login)> {
        let Some(session) = Session::of(id).filter(|_| *id.trust_domain() == self.trust_domain) else {
            let login = Login::Spiffe(id.clone());
            return self.holder(&login).map(|person| (person, login));
        };
        let person = self.read().people.person(&session.person).cloned()?;
        let login = session.login(&person)?;
        Some((person, login))
    }

    /// Whether the identity is a login, as far as this server has heard.
    pub(crate) fn is_login(&self, id: &SpiffeId) -> bool {
        self.read().people.holder(&Login::Spiffe(id.clone())).is_some()
    }

    /// A login whose entry hangs under this node, and whose it is.
    pub(super) fn login_below(&self, node: &SpiffeId) -> Option<(SpiffeId, String)> {
        let index = self.read();
        index.below(node).find_map(|found| {
            let id = &found.entry.spiffe_id;
            let holder = index.people.holder(&Login::Spiffe(id.clone()))?;
            Some((id.clone(), holder.reference.to_string()))
        })
    }

    /// Refuses what would let somebody show the certificate of an operator: whoever mints would be everybody. By the datastore's word: another server
    /// may have made it a login of somebody just now. For entries their transaction asks.
    ///
    /// # Errors
    /// The identity is a login, or the datastore fails.
    pub(crate) async fn is_no_login(&self, id: &SpiffeId) -> Result<(), RegistryError> {
        let register = self.people().await?;
        match register.holder(&Login::Spiffe(id.clone())) {
            None => Ok(()),
            Some(person) => Err(RegistryError::IsLogin {
                id: id.clone(),
                person: person.reference.to_string(),
            }),
        }
    }
}
