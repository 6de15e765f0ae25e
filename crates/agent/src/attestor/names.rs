//! Names of users and groups, asked from the system's name service.
//!
//! Invariant: a slow or dead name service costs at most [`DEADLINE`] and [`MAX_WAITING`] threads, and only ever a name.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

/// Where names come from; blocking.
pub(crate) trait NameService: Send + Sync + 'static {
    fn user(&self, uid: u32) -> Option<String>;
    fn group(&self, gid: u32) -> Option<String>;
}

/// Cached, time-boxed look-ups.
pub(crate) struct Names {
    service: Arc<dyn NameService>,
    cache: Arc<Mutex<Cache>>,
    slots: Arc<Semaphore>,
}

/// What is known of one process's names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) user: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) supplementary: Vec<String>,
    /// Whether the name service did not answer in time, so that there may be more.
    pub(crate) late: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Id {
    User(u32),
    Group(u32),
}

/// At most [`MAX_CACHED`] names.
#[derive(Default)]
struct Cache(HashMap<Id, (Option<String>, Instant)>);

impl Names {
    pub(crate) fn system() -> Self {
        Self::with(Arc::new(System))
    }

    pub(crate) fn with(service: Arc<dyn NameService>) -> Self {
        Self {
            service,
            cache: Arc::default(),
            slots: Arc::new(Semaphore::new(MAX_WAITING)),
        }
    }

    /// Names of a user, a group and further groups, as far as they can be had in time.
    pub(crate) async fn look_up(&self, uid: u32, gid: u32, supplementary: Vec<u32>) -> Found {
        let wanted = [Id::User(uid), Id::Group(gid)]
            .into_iter()
            .chain(supplementary.iter().copied().map(Id::Group));
        let now = Instant::now();
        let missing: Vec<Id> = {
            let cache = lock(&self.cache);
            wanted.filter(|id| cache.get(*id, now).is_none()).collect()
        };
        let late = !missing.is_empty() && !self.fill(missing).await;
        let cache = lock(&self.cache);
        let get = |id| cache.get(id, now).cloned().flatten();
        Found {
            user: get(Id::User(uid)),
            group: get(Id::Group(gid)),
            supplementary: supplementary
                .into_iter()
                .filter_map(|gid| get(Id::Group(gid)))
                .collect(),
            late,
        }
    }

    /// Asks for names; whether all answers came in time.
    async fn fill(&self, missing: Vec<Id>) -> bool {
        // A thread that hangs in the name service keeps its slot; when all hang, names are left out at once.
        let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
            return false;
        };
        let (service, cache) = (Arc::clone(&self.service), Arc::clone(&self.cache));
        let work = tokio::task::spawn_blocking(move || {
            for id in missing {
                let name = match id {
                    Id::User(uid) => service.user(uid),
                    Id::Group(gid) => service.group(gid),
                };
                lock(&cache).put(id, name.filter(|name| is_name(name)), Instant::now());
            }
            drop(slot);
        });
        timeout(DEADLINE, work).await.is_ok()
    }
}

impl Cache {
    fn get(&self, id: Id, now: Instant) -> Option<&Option<String>> {
        let (name, at) = self.0.get(&id)?;
        let age = now.saturating_duration_since(*at);
        (age < if name.is_some() { KEPT } else { ABSENCE_KEPT }).then_some(name)
    }

    fn put(&mut self, id: Id, name: Option<String>, now: Instant) {
        if self.0.len() >= MAX_CACHED {
            self.0
                .retain(|_, (_, at)| now.saturating_duration_since(*at) < ABSENCE_KEPT);
        }
        if self.0.len() >= MAX_CACHED {
            self.0.clear();
        }
        self.0.insert(id, (name, now));
    }
}

fn lock(cache: &Mutex<Cache>) -> std::sync::MutexGuard<'_, Cache> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 256 && !name.chars().any(char::is_control)
}

struct System;

impl NameService for System {
    fn user(&self, uid: u32) -> Option<String> {
        nix::unistd::User::from_uid(uid.into())
            .ok()
            .flatten()
            .map(|user| user.name)
    }

    fn group(&self, gid: u32) -> Option<String> {
        nix::unistd::Group::from_gid(gid.into())
            .ok()
            .flatten()
            .map(|group| group.name)
    }
}

const DEADLINE: Duration = Duration::from_millis(500);
const MAX_WAITING: usize = 4;
const MAX_CACHED: usize = 1024;
const KEPT: Duration = Duration::from_secs(60);
const ABSENCE_KEPT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
