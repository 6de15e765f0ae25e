//! Decisions over time: clocks, renewal, back-off, jitter.
