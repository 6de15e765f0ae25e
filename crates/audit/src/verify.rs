//! The verifier: whether a log is what its key has signed, record by record, and what is wrong when it is not.
//!
//! Invariant: it uses nothing of the writer, not even a path, and believes nothing that the key has not signed.

mod finding;
mod merkle;
mod note;
mod pruned;
mod read;
mod source;
mod whole;

pub use finding::{Finding, Kind, Report};
pub use merkle::{verify_consistency, verify_inclusion};
pub use note::{NoteError, SignedHead, VerifierKey};
pub use read::{ReadError, read};
pub use source::{DirSource, LayeredSource, Source};
pub use whole::verify;

#[cfg(test)]
mod tests;
