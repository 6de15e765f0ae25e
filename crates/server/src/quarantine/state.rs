//! What is written down of a quarantine, and of how new the registry was. Invariant: it stands in files of its own beside the database, so that
//! a database that goes back does not take it along; what cannot be read counts as a quarantine.

use landfast_identity::UnixTime;
use serde::{Deserialize, Serialize};

use crate::registry::Revision;

/// The file: why nothing is signed, and what was decided before.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    /// Those that hold. Empty: there is no quarantine.
    pub(crate) causes: Vec<Cause>,
    /// What began before this (Unix seconds) and is not known here is accepted as lost.
    pub(crate) accepted: i64,
    /// The newest last; bounded by [`MAX_ENDED`].
    pub(crate) ended: Vec<Ended>,
}

/// Why a registry may have forgotten something.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cause {
    pub(crate) kind: CauseKind,
    /// Unix seconds.
    pub(crate) since: i64,
    /// For people.
    pub(crate) detail: String,
    /// Where the registry stood by the numbers that nodes have seen: what they know from after that is lost here.
    pub(crate) epoch: u64,
    pub(crate) number: u64,
    /// When the backup was made (Unix seconds).
    pub(crate) backup_made_at: Option<i64>,
    /// Whether all that comes back is among the findings.
    pub(crate) complete: bool,
    pub(crate) findings: Vec<Finding>,
}

/// How it was noticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CauseKind {
    /// `landfast-server restore`.
    Restored,
    /// The database is older than what this server has noted beside it.
    PutBack,
    /// Nodes show what this server must have made, and knows nothing of.
    RolledBack,
    /// The file of this cannot be read.
    Unreadable,
}

impl CauseKind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Restored => "restored",
            Self::PutBack => "put-back",
            Self::RolledBack => "rolled-back",
            Self::Unreadable => "unreadable",
        }
    }
}

/// One thing that was decided and is not so here.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Finding {
    pub(crate) kind: FindingKind,
    /// The ID of what it is about.
    pub(crate) object: String,
    /// For people.
    pub(crate) detail: String,
}

/// What it is about, and whether a right comes back. The weightiest first, of which there are few: where there is no room for all, these are kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FindingKind {
    /// An authority that was tainted, revoked or over verifies again.
    AuthorityGone,
    /// A node that was evicted is there again.
    NodeEvicted,
    /// An entry that was deleted is there again.
    EntryDeleted,
    /// An entry is as it was before a change.
    EntryChanged,
    /// A node that came since, or whose ban was lifted, is not known, or banned again: nothing comes back, something is lost.
    NodeLost,
}

impl FindingKind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::EntryDeleted => "entry-deleted",
            Self::EntryChanged => "entry-changed",
            Self::NodeEvicted => "node-evicted",
            Self::AuthorityGone => "authority-gone",
            Self::NodeLost => "node-lost",
        }
    }

    /// Whether a right comes back that was taken away.
    pub(crate) const fn comes_back(self) -> bool {
        !matches!(self, Self::NodeLost)
    }
}

/// A quarantine that somebody has ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ended {
    pub(crate) since: i64,
    pub(crate) ended: i64,
    pub(crate) by: String,
    pub(crate) reason: String,
    /// How many findings came back with it.
    pub(crate) came_back: u64,
}

/// The other file: how new the registry has been.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mark {
    pub(crate) epoch: u64,
    pub(crate) number: u64,
    /// Of the bundle.
    pub(crate) sequence: u64,
}

impl Mark {
    pub(crate) const fn new(revision: Revision, sequence: u64) -> Self {
        Self {
            epoch: revision.epoch,
            number: revision.number,
            sequence,
        }
    }

    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(&self).expect("numbers are JSON");
        bytes.push(b'\n');
        bytes
    }

    /// Whether a registry that stands at `now` has lost something of what it was when this was noted.
    pub(crate) fn is_ahead_of(&self, now: &Self) -> bool {
        let same = self.epoch == now.epoch;
        self.epoch > now.epoch || same && (self.number > now.number || self.sequence > now.sequence)
    }
}

impl State {
    /// What the file says; one that cannot be read is a cause of its own.
    pub(crate) fn read(bytes: Option<&[u8]>, now: UnixTime) -> Self {
        let Some(bytes) = bytes else {
            return Self::default();
        };
        serde_json::from_slice(bytes).unwrap_or_else(|error| Self {
            causes: vec![Cause {
                kind: CauseKind::Unreadable,
                since: now.as_secs(),
                detail: format!("the file {FILE} in the data directory cannot be read ({error})"),
                epoch: 0,
                number: 0,
                backup_made_at: None,
                complete: false,
                findings: Vec::new(),
            }],
            ..Self::default()
        })
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("strings and numbers are JSON");
        bytes.push(b'\n');
        bytes
    }

    /// One more cause. Of a kind that holds already the first stays: what it says of the time before is what counts.
    pub(crate) fn begin(&mut self, mut cause: Cause) {
        cause.complete &= cut(&mut cause.findings) == 0;
        let known = self.causes.iter().any(|known| known.kind == cause.kind);
        if !known || cause.kind == CauseKind::Restored {
            self.causes.push(cause);
        }
        // Of restorations on top of one another, the newest say it.
        let extra = self.causes.len().saturating_sub(MAX_CAUSES);
        self.causes.drain(..extra);
    }

    /// More of what comes back, with the cause that holds.
    pub(crate) fn note(&mut self, found: Vec<Finding>) {
        let known: Vec<_> = self.causes.iter().flat_map(|cause| &cause.findings).collect();
        let is_new = |one: &Finding| {
            let mut known = known.iter();
            !known.any(|known| (known.kind, &known.object) == (one.kind, &one.object))
        };
        let new: Vec<_> = found.into_iter().filter(is_new).collect();
        if let Some(cause) = self.causes.last_mut() {
            cause.findings.extend(new);
            cause.findings.sort();
            cause.complete &= cut(&mut cause.findings) == 0;
        }
    }

    /// All of it is over.
    pub(crate) fn end(&mut self, by: &str, reason: &str, came_back: u64, now: UnixTime) {
        let since = self.causes.iter().map(|cause| cause.since).min();
        self.causes.clear();
        self.accepted = self.accepted.max(now.as_secs());
        self.ended.push(Ended {
            since: since.unwrap_or_else(|| now.as_secs()),
            ended: now.as_secs(),
            by: by.to_owned(),
            reason: reason.to_owned(),
            came_back,
        });
        let extra = self.ended.len().saturating_sub(MAX_ENDED);
        self.ended.drain(..extra);
    }

    /// Whether nodes have to be told that this registry is newer than what they have seen.
    pub(crate) fn needs_epoch(&self) -> bool {
        // A restoration has begun one already.
        let kinds = self.causes.iter().map(|cause| cause.kind);
        kinds.into_iter().any(|kind| kind != CauseKind::Restored)
    }
}

/// Leaves the first [`MAX_FINDINGS`], and says how many rights that come back are not among them.
pub(crate) fn cut(findings: &mut Vec<Finding>) -> usize {
    let over = findings.iter().skip(MAX_FINDINGS);
    let over = over.filter(|finding| finding.kind.comes_back()).count();
    findings.truncate(MAX_FINDINGS);
    over
}

/// In the data directory.
pub(crate) const FILE: &str = "quarantine.json";
pub(crate) const MARK: &str = "newest.json";
/// A registry has 100,000 entries perhaps; nobody reads more than this.
pub(crate) const MAX_FINDINGS: usize = 1000;
const MAX_CAUSES: usize = 8;
const MAX_ENDED: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(epoch: u64, number: u64, sequence: u64) -> Mark {
        Mark {
            epoch,
            number,
            sequence,
        }
    }

    fn cause(kind: CauseKind, detail: &str) -> Cause {
        Cause {
            kind,
            since: 7,
            detail: detail.to_owned(),
            epoch: 1,
            number: 2,
            backup_made_at: None,
            complete: true,
            findings: Vec::new(),
        }
    }

    #[test]
    fn a_registry_that_lost_a_revision_or_a_sequence_is_behind_its_mark() {
        let noted = mark(5, 10, 3);
        for (now, lost) in [
            (mark(5, 10, 3), false),
            (mark(5, 11, 4), false),
            (mark(6, 0, 0), false),
            (mark(5, 9, 3), true),
            (mark(5, 11, 2), true),
            (mark(4, 99, 99), true),
        ] {
            assert_eq!(noted.is_ahead_of(&now), lost, "{now:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_and_what_cannot_be_read_holds() {
        let now = UnixTime::from_secs(100);
        let mut state = State::default();
        state.begin(cause(CauseKind::Restored, "of yesterday"));
        assert_eq!(State::read(Some(&state.to_bytes()), now), state);
        assert_eq!(State::read(None, now), State::default());
        for bad in ["", "{}", "{\"causes\":[],\"accepted\":0,\"ended\":[],\"more\":1}"] {
            let read = State::read(Some(bad.as_bytes()), now);
            assert_eq!(read.causes.len(), 1, "{bad}");
            assert_eq!(read.causes[0].kind, CauseKind::Unreadable);
        }
    }

    #[test]
    fn what_is_cut_is_not_all_unless_nothing_of_it_comes_back() {
        let finding = |kind| Finding {
            kind,
            object: "x".to_owned(),
            detail: String::new(),
        };
        for (last, complete) in [(FindingKind::EntryChanged, false), (FindingKind::NodeLost, true)] {
            let mut state = State::default();
            let mut findings = vec![finding(FindingKind::EntryDeleted); MAX_FINDINGS];
            findings.push(finding(last));
            state.begin(Cause {
                findings,
                ..cause(CauseKind::Restored, "of yesterday")
            });
            let begun = &state.causes[0];
            assert_eq!((begun.findings.len(), begun.complete), (MAX_FINDINGS, complete));
        }
    }

    #[test]
    fn ending_accepts_what_began_before_and_never_less() {
        let mut state = State {
            accepted: 500,
            ..State::default()
        };
        state.begin(cause(CauseKind::RolledBack, "first"));
        state.begin(cause(CauseKind::RolledBack, "second"));
        assert_eq!(state.causes.len(), 1);
        assert_eq!(state.causes[0].detail, "first");
        assert!(state.needs_epoch());
        state.end("me", "looked", 3, UnixTime::from_secs(400));
        assert_eq!((state.causes.len(), state.accepted), (0, 500));
        assert_eq!((state.ended[0].since, state.ended[0].came_back), (7, 3));
        for round in 0..100 {
            state.begin(cause(CauseKind::Restored, "again"));
            assert!(!state.needs_epoch());
            state.end("me", "again", 0, UnixTime::from_secs(1000 + round));
        }
        assert_eq!((state.ended.len(), state.accepted), (MAX_ENDED, 1099));
    }
}
