//! Node aliases by their selectors. Invariant: looking for those of a node costs what its selectors lead to, however many aliases there are.
//!
//! An alias stands on the path of its selectors, in their order: at the first place with room, or at the end. A node walks only paths of
//! selectors that it has.

use std::collections::BTreeMap;
use std::sync::Arc;

use landfast_identity::{Selector, SelectorSet};

use super::table::Table;
use crate::registry::Versioned;

#[derive(Default)]
pub(super) struct Aliases {
    here: Table<Versioned>,
    further: BTreeMap<Selector, Self>,
}

impl Aliases {
    pub(super) fn put(&mut self, alias: Arc<Versioned>) {
        let entry = Arc::clone(&alias.entry);
        let mut place = self;
        for selector in &entry.selectors {
            if place.here.len() < ROOM {
                break;
            }
            place = place.further.entry(selector.clone()).or_default();
        }
        place.here.put(alias);
    }

    pub(super) fn take(&mut self, alias: &Versioned) {
        self.take_along(alias.entry.selectors.iter().as_slice(), &alias.entry.id);
    }

    fn take_along(&mut self, path: &[Selector], id: &str) {
        if self.here.take(id).is_some() {
            return;
        }
        if let Some((first, rest)) = path.split_first()
            && let Some(next) = self.further.get_mut(first)
        {
            next.take_along(rest, id);
            if next.is_empty() {
                self.further.remove(first);
            }
        }
    }

    /// All whose selectors the node has; and how much was looked at for them.
    pub(super) fn of(&self, attested: &SelectorSet) -> (Vec<&Arc<Versioned>>, usize) {
        let mut found = Vec::new();
        let looked = self.walk(attested, attested.iter().as_slice(), &mut found);
        (found, looked)
    }

    fn walk<'a>(
        &'a self,
        attested: &SelectorSet,
        rest: &[Selector],
        found: &mut Vec<&'a Arc<Versioned>>,
    ) -> usize {
        let all_of = |alias: &&Arc<Versioned>| alias.entry.selectors.is_subset_of(attested);
        found.extend(self.here.iter().filter(all_of));
        let mut looked = self.here.len();
        if self.further.len() < rest.len() {
            for (selector, next) in &self.further {
                looked += 1;
                if let Ok(at) = rest.binary_search(selector) {
                    looked += next.walk(attested, &rest[at + 1..], found);
                }
            }
        } else {
            for (at, selector) in rest.iter().enumerate() {
                looked += 1;
                if let Some(next) = self.further.get(selector) {
                    looked += next.walk(attested, &rest[at + 1..], found);
                }
            }
        }
        looked
    }

    pub(super) fn is_empty(&self) -> bool {
        self.here.is_empty() && self.further.is_empty()
    }
}

/// A place costs more than an alias, so those whose path goes on stay where they are few.
const ROOM: usize = 4;
