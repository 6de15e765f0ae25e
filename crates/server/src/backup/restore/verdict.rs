//! Whether the server starts in quarantine after a restoration. Invariant: it does, unless nothing comes back or that is accepted.

use landfast_identity::UnixTime;
use landfast_store::Store;

use super::lost::{Lost, Old};
use super::{Choice, Target};
use crate::backup::error::BackupError;
use crate::backup::manifest::Manifest;
use crate::datastore::rows::RecoveryRow;
use crate::datastore::sqlite::SqliteDatastore;
use crate::quarantine::state::{Cause, CauseKind, FILE, Finding, MARK, Mark, State};

/// What the data directory knows before anything is replaced.
pub(super) struct Before {
    old: Result<Old, String>,
    mark: Option<Mark>,
    state: State,
}

/// What a restoration undoes, for people.
#[derive(Clone, Debug)]
pub(in crate::backup) struct Undone {
    /// Why it is not known whole; `None`: it is.
    pub(in crate::backup) unknown: Option<String>,
    /// Nodes whose bans were taken over from the old data.
    pub(in crate::backup) bans: Vec<String>,
    pub(in crate::backup) findings: Vec<Finding>,
    /// Whether the server starts in quarantine.
    pub(in crate::backup) quarantine: bool,
}

impl Before {
    pub(super) fn read(
        lock: &Store,
        target: &Target<'_>,
        manifest: &Manifest,
        now: UnixTime,
    ) -> Result<Self, BackupError> {
        let mark = lock.read(MARK)?;
        let mark = mark.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Ok(Self {
            old: Old::read(target.data_dir, target.trust_domain, manifest, mark),
            mark,
            state: State::read(lock.read(FILE)?.as_deref().map(Vec::as_slice), now),
        })
    }

    /// How new this registry has been, as far as it is known here.
    pub(super) fn newest(&self) -> Mark {
        let (mark, old) = (self.mark.unwrap_or_default(), self.old.as_ref().ok());
        let old = old.map(Old::mark).unwrap_or_default();
        Mark {
            epoch: mark.epoch.max(old.epoch),
            number: 0,
            sequence: mark.sequence.max(old.sequence),
        }
    }

    pub(super) fn spent(&self) -> Vec<Vec<u8>> {
        self.old.as_ref().map(|old| old.spent.clone()).unwrap_or_default()
    }

    pub(super) fn recoveries(&self) -> Vec<RecoveryRow> {
        self.old
            .as_ref()
            .map(|old| old.recoveries.clone())
            .unwrap_or_default()
    }

    pub(super) async fn carry_into(&self, new: &SqliteDatastore, now: UnixTime) -> Result<Lost, BackupError> {
        match &self.old {
            Ok(old) => old.carry_into(new, now).await,
            Err(why) => Ok(Lost {
                unknown: Some(why.clone()),
                ..Lost::default()
            }),
        }
    }

    /// What comes of it, and what is written down beside the new database.
    pub(super) fn judge(
        &self,
        lost: Lost,
        manifest: &Manifest,
        choice: &Choice,
        now: UnixTime,
    ) -> (Undone, State) {
        let mut state = self.state.clone();
        let harmless = lost.unknown.is_none() && lost.comes_back() == 0 && state.causes.is_empty();
        let made_at = UnixTime::from_secs(manifest.made_at);
        if !harmless {
            let detail = match &lost.unknown {
                None => format!("a backup of {made_at} was restored, and undoes what was decided since"),
                Some(why) => {
                    format!(
                        "a backup of {made_at} was restored, and what was decided since is not known: {why}"
                    )
                }
            };
            state.begin(Cause {
                kind: CauseKind::Restored,
                since: now.as_secs(),
                detail,
                epoch: manifest.epoch.unsigned_abs(),
                number: manifest.revision.unsigned_abs(),
                backup_made_at: Some(manifest.made_at),
                complete: lost.unknown.is_none(),
                findings: lost.findings.clone(),
            });
        }
        if harmless || choice.accept_rollback {
            let (reason, count) = match harmless {
                true => ("nothing came back", 0),
                false => ("--accept-rollback", lost.comes_back() as u64),
            };
            state.end("landfast-server restore", reason, count, now);
        }
        let undone = Undone {
            quarantine: !state.causes.is_empty(),
            unknown: lost.unknown,
            bans: lost.bans.iter().map(ToString::to_string).collect(),
            findings: lost.findings,
        };
        (undone, state)
    }
}
