//! Objects in the order of their names, which stand in the objects themselves: a row costs a pointer.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use landfast_identity::Bundle;

use crate::people::Person;
use crate::registry::{AgentRecord, Relationship, Versioned};

/// What a table is ordered by; it never changes while an object is in one.
pub(super) trait Name {
    fn name(&self) -> &str;
}

impl Name for Versioned {
    fn name(&self) -> &str {
        &self.entry.id
    }
}

impl Name for AgentRecord {
    fn name(&self) -> &str {
        self.id.as_str()
    }
}

impl Name for Bundle {
    fn name(&self) -> &str {
        self.trust_domain().as_str()
    }
}

impl Name for Relationship {
    fn name(&self) -> &str {
        self.trust_domain.as_str()
    }
}

impl Name for Person {
    fn name(&self) -> &str {
        self.reference.as_str()
    }
}

/// One object for each name.
pub(super) struct Table<T>(BTreeSet<Row<T>>);

impl<T: Name> Table<T> {
    pub(super) fn get(&self, name: &str) -> Option<&Arc<T>> {
        self.0.get(name).map(|row| &row.0)
    }

    /// Returns what stood there.
    pub(super) fn put(&mut self, object: Arc<T>) -> Option<Arc<T>> {
        self.0.replace(Row(object)).map(|row| row.0)
    }

    pub(super) fn take(&mut self, name: &str) -> Option<Arc<T>> {
        self.0.take(name).map(|row| row.0)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.0.iter().map(|row| &row.0)
    }

    /// From the one after `after` on.
    pub(super) fn after<'a>(&'a self, after: Option<&str>) -> impl Iterator<Item = &'a Arc<T>> + use<'a, T> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.0.range::<str, _>((from, Bound::Unbounded)).map(|row| &row.0)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(BTreeSet::new())
    }
}

/// Built at once, its nodes are full.
impl<T: Name> FromIterator<Arc<T>> for Table<T> {
    fn from_iter<I: IntoIterator<Item = Arc<T>>>(objects: I) -> Self {
        Self(objects.into_iter().map(Row).collect())
    }
}

struct Row<T>(Arc<T>);

impl<T: Name> Borrow<str> for Row<T> {
    fn borrow(&self) -> &str {
        self.0.name()
    }
}

impl<T: Name> Ord for Row<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.name().cmp(other.0.name())
    }
}

impl<T: Name> PartialOrd for Row<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Name> PartialEq for Row<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.name() == other.0.name()
    }
}

impl<T: Name> Eq for Row<T> {}
