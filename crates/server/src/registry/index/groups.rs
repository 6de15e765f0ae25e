//! Entries by an ID that they share: parent, or the ID they grant. Invariant: no group is empty.

use std::collections::HashMap;
use std::sync::Arc;

use landfast_identity::SpiffeId;

use super::table::Table;
use crate::registry::Versioned;

#[derive(Default)]
pub(super) struct Groups(HashMap<SpiffeId, Group>);

/// Most IDs are granted by one entry: those need no table.
enum Group {
    One(Arc<Versioned>),
    Many(Table<Versioned>),
}

impl Groups {
    pub(super) fn put(&mut self, id: &SpiffeId, entry: Arc<Versioned>) {
        let Some(group) = self.0.get_mut(id) else {
            self.0.insert(id.clone(), Group::One(entry));
            return;
        };
        match group {
            Group::One(there) if there.entry.id == entry.entry.id => *there = entry,
            Group::One(there) => *group = Group::Many([Arc::clone(there), entry].into_iter().collect()),
            Group::Many(table) => {
                table.put(entry);
            }
        }
    }

    pub(super) fn drop_from(&mut self, id: &SpiffeId, entry: &str) {
        let gone = match self.0.get_mut(id) {
            None => false,
            Some(Group::One(there)) => there.entry.id == entry,
            Some(Group::Many(table)) => {
                table.take(entry);
                table.is_empty()
            }
        };
        if gone {
            self.0.remove(id);
        }
    }

    /// In the order of their IDs, from the one after `after` on.
    pub(super) fn of<'a>(
        &'a self,
        id: &SpiffeId,
        after: Option<&str>,
    ) -> impl Iterator<Item = &'a Arc<Versioned>> + use<'a> {
        let (one, many) = match self.0.get(id) {
            None => (None, None),
            Some(Group::One(entry)) => {
                let later = after.is_none_or(|after| *entry.entry.id > *after);
                (Some(entry).filter(|_| later), None)
            }
            Some(Group::Many(table)) => (None, Some(table.after(after))),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
