//! Tables as any database can have them: for backups, and on the way to another database. Invariant: what is read out and written in again is
//! the same table.

use landfast_identity::chain::SignedStep;

use crate::authority::Journal;
use crate::datastore::{DatastoreError, Snapshot};
use crate::issuance::IssuanceRecord;

/// What a table looks like.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) columns: Vec<Column>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: ColumnKind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ColumnKind {
    Integer,
    Text,
    Blob,
}

/// What stands in a column of a row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Value {
    Null,
    Integer(i64),
    Text(String),
    Blob(Vec<u8>),
}

/// Another database, which nobody writes to.
pub(crate) trait Source {
    fn snapshot(&self) -> Result<Snapshot, DatastoreError>;
    fn journal(&self) -> Result<Journal, DatastoreError>;
    /// The bundle chain, in its order.
    fn steps(&self) -> Result<Vec<SignedStep>, DatastoreError>;
    /// Who made an entry.
    fn created_by(&self, id: &str) -> Result<String, DatastoreError>;
    /// Hash, end, alias, when it was redeemed, by which key, for which agent, and whether it is revoked.
    fn tokens(&self) -> Result<Vec<[Value; 7]>, DatastoreError>;
    /// Agent, when it was heard, whether a person is to decide, and the rest.
    fn recoveries(&self) -> Result<Vec<RecoveryRow>, DatastoreError>;
    /// References and names.
    fn person_names(&self) -> Result<Vec<(String, String)>, DatastoreError>;
    /// Of persons: IDs and texts.
    fn proposals(&self) -> Result<Vec<(String, String)>, DatastoreError>;
    /// Records after this number, with their numbers, in their order.
    fn records(&self, after: i64, limit: i64) -> Result<Vec<(i64, IssuanceRecord)>, DatastoreError>;
}

/// See [`Source::recoveries`].
pub(crate) type RecoveryRow = (String, Option<i64>, bool, String);

/// What is different in a database that comes from a backup.
#[derive(Clone, Debug)]
pub(crate) struct Restoration {
    /// The epoch is this at least, and greater than the stored one.
    pub(crate) epoch: i64,
    /// The sequence of the bundle is this at least.
    pub(crate) least_sequence: i64,
    /// Hashes of tokens that were redeemed or voided since.
    pub(crate) spent: Vec<Vec<u8>>,
    /// How nodes stand with their device keys by the old data; whoever is not among them is doubted.
    pub(crate) recoveries: Vec<RecoveryRow>,
    /// Tokens that nobody has redeemed are of no use any more: somebody may have, after the backup.
    pub(crate) void_tokens: bool,
    /// An agent may show an SVID that is not stored, if it begins at this time or later.
    pub(crate) renewed_since: i64,
    /// Our authorities are gone: new ones are made at the start.
    pub(crate) forget_authorities: bool,
}

/// By how much the sequence of the bundle grows at a restoration: more than authorities change between two backups, so that nobody who
/// follows it has seen a later one.
pub(crate) const SEQUENCE_STEP: i64 = 1000;
