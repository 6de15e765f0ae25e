//! The registry, over a real database in memory.

mod agents;
mod bundles;
mod entries;
mod index;
mod policies;
mod relationships;
mod third_party;
mod tokens;
