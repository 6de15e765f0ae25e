//! Who holds how many connections and streams.
//!
//! Invariant: every permit that was given is in the counts until it is dropped; entries without permits are gone, so the maps are
//! bounded by `connections_total`.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use landfast_uds::PinnedProcess;
use tokio::{sync::Semaphore, time::Instant};

use crate::{Gauges, Limits, limits::Limit};

#[derive(Debug)]
pub(crate) struct Ledger {
    limits: Limits,
    gauges: Arc<Gauges>,
    counts: Mutex<Counts>,
    /// When each limit and each kind of complaint was last logged.
    logged: Mutex<HashMap<&'static str, Instant>>,
}

#[derive(Debug, Default)]
struct Counts {
    processes: HashMap<Holder, Count>,
    uids: HashMap<u32, Count>,
    connections: u32,
    streams: u32,
}

#[derive(Debug)]
struct Count {
    connections: u32,
    streams: u32,
    turns: Turns,
}

/// What the requests of one user take turns at.
#[derive(Clone, Debug)]
struct Turns {
    /// So that one user's slow attestations do not keep the others waiting.
    attestations: Arc<Semaphore>,
    /// Requests that are not complete yet: each holds memory, before anything is known of its caller.
    arriving: Arc<Semaphore>,
}

impl Count {
    fn new(limits: &Limits) -> Self {
        Self {
            connections: 0,
            streams: 0,
            turns: Turns {
                attestations: Arc::new(Semaphore::new(ATTESTATIONS_PER_UID)),
                // A request at a time on each connection is what every client may do.
                arriving: Arc::new(Semaphore::new(limits.connections_per_uid as usize)),
            },
        }
    }
}

/// A process by its pid. Connections of a dead one end within a second, so two of one pid share a count for no longer.
type Holder = i32;

impl Ledger {
    pub(crate) fn new(limits: Limits, gauges: Arc<Gauges>) -> Arc<Self> {
        Arc::new(Self {
            limits,
            gauges,
            counts: Mutex::default(),
            logged: Mutex::default(),
        })
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Charges a connection.
    pub(crate) fn connection(self: &Arc<Self>, process: &PinnedProcess) -> Result<ConnectionPermit, Limit> {
        let (holder, uid) = (process.pid(), process.uid());
        let mut counts = self.lock();
        if counts.connections >= self.limits.connections_total {
            return Err(Limit::ConnectionsTotal);
        }
        if counts
            .uids
            .get(&uid)
            .is_some_and(|count| count.connections >= self.limits.connections_per_uid)
        {
            return Err(Limit::ConnectionsPerUid);
        }
        if counts
            .processes
            .get(&holder)
            .is_some_and(|count| count.connections >= self.limits.connections_per_process)
        {
            return Err(Limit::ConnectionsPerProcess);
        }
        counts.connections += 1;
        let fresh = || Count::new(&self.limits);
        counts.processes.entry(holder).or_insert_with(fresh).connections += 1;
        let of_uid = counts.uids.entry(uid).or_insert_with(fresh);
        of_uid.connections += 1;
        let turns = of_uid.turns.clone();
        self.publish(&counts);
        Ok(ConnectionPermit {
            ledger: self.clone(),
            holder,
            uid,
            turns,
        })
    }

    /// Logs that a limit was reached, once in ten seconds for each.
    pub(crate) fn report(&self, limit: Limit, process: &PinnedProcess) {
        metrics::counter!("landfast_workload_refused_total", "limit" => limit.name()).increment(1);
        if self.due(limit.name()) {
            tracing::warn!(
                limit = limit.name(),
                pid = process.pid(),
                uid = process.uid(),
                "a limit of the Workload API is reached"
            );
        }
    }

    /// Logs what went wrong for a caller, of each kind once in a while: a caller must not be able to fill the log.
    pub(crate) fn complain(&self, kind: &'static str, process: &PinnedProcess, reason: &str) {
        if self.may_log(kind) {
            tracing::warn!(
                kind,
                pid = process.pid(),
                uid = process.uid(),
                reason,
                "a caller of the Workload API was not served"
            );
        }
    }

    /// As [`Self::complain`], for a caller who is served by what could be seen of him.
    pub(crate) fn left_out(&self, process: &PinnedProcess, what: &str) {
        if self.may_log("left-out") {
            tracing::warn!(
                pid = process.pid(),
                uid = process.uid(),
                what,
                "attestation left something out"
            );
        }
    }

    /// As [`Self::complain`], for a caller that is no process we know.
    pub(crate) fn may_log(&self, kind: &'static str) -> bool {
        metrics::counter!("landfast_workload_complaints_total", "kind" => kind).increment(1);
        self.due(kind)
    }

    /// Whether a line of this kind may be logged now: callers choose how often things happen, not how often they are told.
    pub(crate) fn due(&self, kind: &'static str) -> bool {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let due = logged.get(kind).is_none_or(|last| now - *last >= LOG_EVERY);
        if due {
            logged.insert(kind, now);
        }
        due
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, counts: &Counts) {
        self.gauges
            .set(counts.connections, counts.streams, counts.processes.len() as u32);
    }
}

/// One connection's place. Its streams are charged to it.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    ledger: Arc<Ledger>,
    holder: Holder,
    uid: u32,
    turns: Turns,
}

impl ConnectionPermit {
    /// Charges a request.
    pub(crate) fn stream(&self) -> Result<StreamPermit, Limit> {
        let (holder, uid) = (self.holder, self.uid);
        let limits = &self.ledger.limits;
        let mut counts = self.ledger.lock();
        if counts
            .uids
            .get(&uid)
            .is_some_and(|count| count.streams >= limits.streams_per_uid)
        {
            return Err(Limit::StreamsPerUid);
        }
        if counts
            .processes
            .get(&holder)
            .is_some_and(|count| count.streams >= limits.streams_per_process)
        {
            return Err(Limit::StreamsPerProcess);
        }
        counts.streams += 1;
        let fresh = || Count::new(limits);
        counts.processes.entry(holder).or_insert_with(fresh).streams += 1;
        counts.uids.entry(uid).or_insert_with(fresh).streams += 1;
        self.ledger.publish(&counts);
        Ok(StreamPermit {
            ledger: self.ledger.clone(),
            holder,
            uid,
        })
    }

    /// The turns of this user at attestation.
    pub(crate) fn attestations(&self) -> &Semaphore {
        &self.turns.attestations
    }

    /// The turns of this user for requests that are not complete.
    pub(crate) fn arriving(&self) -> Arc<Semaphore> {
        self.turns.arriving.clone()
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut counts = self.ledger.lock();
        counts.connections = counts.connections.saturating_sub(1);
        release(&mut counts.processes, self.holder, |count| &mut count.connections);
        release(&mut counts.uids, self.uid, |count| &mut count.connections);
        self.ledger.publish(&counts);
    }
}

/// One request's place.
#[derive(Debug)]
pub(crate) struct StreamPermit {
    ledger: Arc<Ledger>,
    holder: Holder,
    uid: u32,
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut counts = self.ledger.lock();
        counts.streams = counts.streams.saturating_sub(1);
        release(&mut counts.processes, self.holder, |count| &mut count.streams);
        release(&mut counts.uids, self.uid, |count| &mut count.streams);
        self.ledger.publish(&counts);
    }
}

fn release<K: Hash + Eq>(map: &mut HashMap<K, Count>, key: K, which: fn(&mut Count) -> &mut u32) {
    if let Entry::Occupied(mut entry) = map.entry(key) {
        let number = which(entry.get_mut());
        *number = number.saturating_sub(1);
        if entry.get().connections == 0 && entry.get().streams == 0 {
            entry.remove();
        }
    }
}

const ATTESTATIONS_PER_UID: usize = 8;
const LOG_EVERY: Duration = Duration::from_secs(10);
