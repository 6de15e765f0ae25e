//! How many are connected.
//!
//! Invariant: only the [`crate::ledger::Ledger`] writes here, under its lock.

use std::sync::atomic::{AtomicU32, Ordering};

/// Readable at any time; also published as metrics, unless it says otherwise.
#[derive(Debug, Default)]
pub struct Gauges {
    connections: AtomicU32,
    streams: AtomicU32,
    processes: AtomicU32,
    unpublished: bool,
}

impl Gauges {
    /// Not published as metrics: those are the Workload API's.
    pub fn unpublished() -> Self {
        Self {
            unpublished: true,
            ..Self::default()
        }
    }

    /// Open connections.
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Requests in progress, open streams included.
    pub fn streams(&self) -> u32 {
        self.streams.load(Ordering::Relaxed)
    }

    /// Processes with at least one connection.
    pub fn processes(&self) -> u32 {
        self.processes.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, connections: u32, streams: u32, processes: u32) {
        self.connections.store(connections, Ordering::Relaxed);
        self.streams.store(streams, Ordering::Relaxed);
        self.processes.store(processes, Ordering::Relaxed);
        if self.unpublished {
            return;
        }
        metrics::gauge!("landfast_workload_connections").set(connections);
        metrics::gauge!("landfast_workload_streams").set(streams);
        metrics::gauge!("landfast_workload_processes").set(processes);
    }
}
