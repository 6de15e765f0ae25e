//! The Workload API over real sockets.
