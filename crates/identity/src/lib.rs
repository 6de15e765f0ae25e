//! SPIFFE identities as values: parse, build, verify. No I/O, no clock, no tokio.
