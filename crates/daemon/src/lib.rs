//! The skeleton of every process: configuration, tasks, signals, logging, metrics.
