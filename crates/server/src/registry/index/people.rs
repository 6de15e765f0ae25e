//! Persons by reference and by login. Invariant: a login leads to the person that has it now.

use std::collections::HashMap;
use std::sync::Arc;

use super::table::Table;
use crate::people::{Login, Person, PersonRef};

#[derive(Default)]
pub(in crate::registry) struct People {
    persons: Table<Person>,
    by_login: HashMap<Login, Arc<Person>>,
}

impl People {
    pub(super) fn put(&mut self, person: Arc<Person>) {
        let old = self.persons.put(Arc::clone(&person));
        for login in old.iter().flat_map(|old| &old.logins) {
            self.by_login.remove(&login.what);
        }
        for login in &person.logins {
            self.by_login.insert(login.what.clone(), Arc::clone(&person));
        }
    }

    pub(in crate::registry) fn is_empty(&self) -> bool {
        self.persons.iter().next().is_none()
    }

    pub(in crate::registry) fn person(&self, reference: &PersonRef) -> Option<&Arc<Person>> {
        self.persons.get(reference.as_str())
    }

    /// Whether this reference is that of a person who is there, and neither shut out nor forgotten.
    pub(in crate::registry) fn is_active(&self, reference: &str) -> bool {
        self.persons
            .get(reference)
            .is_some_and(|person| person.active && !person.forgotten)
    }

    pub(in crate::registry) fn holder(&self, login: &Login) -> Option<&Arc<Person>> {
        self.by_login.get(login)
    }
}

impl FromIterator<Arc<Person>> for People {
    fn from_iter<I: IntoIterator<Item = Arc<Person>>>(persons: I) -> Self {
        let mut people = Self::default();
        for person in persons {
            people.put(person);
        }
        people
    }
}
