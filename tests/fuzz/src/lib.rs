//! What the fuzz targets share. Invariant: everything here is the same in every run, so that an input that fails fails again.

pub mod agent;
pub mod calls;
pub mod der;
pub mod fixed;
pub mod plant;
pub mod raw;
pub mod vectors;
pub mod workload;
