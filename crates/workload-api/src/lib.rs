//! The SPIFFE Workload API: server over any source, limits, client.
