//! Evidence: who had access, by which rule and whose approval, and how far that can be believed, out of ledgers and nothing else.
//!
//! Invariant: a statement names the records it follows from, and only records that their log's key vouches for count.

mod answer;
#[cfg(test)]
mod at;
mod catalogue;
mod evidence;
mod gaps;
mod ledger;
mod pack;
mod page;
mod period;
mod quality;
mod record;
mod report;
mod rules;
mod tally;

pub use answer::{Asked, By, Credential, Entitlement, Line, Who, by, who};
pub use catalogue::{BUILT_IN, Catalogue, CatalogueError, Clause, ClauseStatus, Mapping, Wanted};
pub use evidence::{Evidence, Head};
pub use gaps::{Gap, GapKind, gaps};
pub use ledger::{Ledger, LedgerError, Ledgers, Opening};
pub use pack::{PackError, PackFinding, PackReport, Packed, Parts, STAGES, pack, verify_pack};
pub use page::catalogue_page;
pub use period::{Period, Span};
pub use quality::{Deduction, Quality};
pub use record::{Actor, Record, Ref};
pub use report::{Approval, Event, Identity, Numbers, Question, Report};
