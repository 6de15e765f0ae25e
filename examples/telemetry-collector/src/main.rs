//! Telemetry collector.
fn main() {}
