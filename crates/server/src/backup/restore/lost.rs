//! What a restoration would undo. The old data, where it can be read, knows: bans and spent tokens are carried over, what else comes back is named.
//!
//! Invariant: the old database is only read; of what it does not say nothing is taken for granted.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use landfast_daemon::error_chain;
use landfast_identity::chain::{SignedStep, Walker};
use landfast_identity::{SpiffeId, TrustDomain, UnixTime};

use crate::authority::{AppendedKey, AuthorityRow, Journal, RootTrust};
use crate::backup::error::BackupError;
use crate::backup::manifest::Manifest;
use crate::core::DATABASE;
use crate::datastore::rows::{RecoveryRow, Source as _, Value};
use crate::datastore::sqlite::{Export, SqliteDatastore};
use crate::datastore::{AgentChange, Datastore as _, Entering, Snapshot};
use crate::quarantine::state::{self, Finding, FindingKind, MAX_FINDINGS, Mark};
use crate::random::hex;
use crate::registry::{AgentRecord, RegistryError, Revision, Versioned};

/// The registry that is to be replaced.
pub(super) struct Old {
    snapshot: Snapshot,
    journal: Journal,
    /// Hashes of tokens that nobody may redeem any more.
    pub(super) spent: Vec<Vec<u8>>,
    /// How nodes stand with their device keys.
    pub(super) recoveries: Vec<RecoveryRow>,
    /// The bundle chain.
    steps: Vec<SignedStep>,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Lost {
    /// Why the old data does not say all; `None`: it does.
    pub(super) unknown: Option<String>,
    /// Bans that were taken over from it.
    pub(super) bans: Vec<SpiffeId>,
    pub(super) findings: Vec<Finding>,
}

impl Lost {
    /// How many rights come back.
    pub(super) fn comes_back(&self) -> usize {
        let back = self.findings.iter().filter(|finding| finding.kind.comes_back());
        back.count()
    }
}

impl Old {
    /// Reads it, if it is what became of the registry that was backed up.
    ///
    /// # Errors
    /// Why it says nothing, for people.
    pub(super) fn read(
        data_dir: &Path,
        trust_domain: &TrustDomain,
        manifest: &Manifest,
        mark: Option<Mark>,
    ) -> Result<Self, String> {
        let database = data_dir.join(DATABASE);
        if !database.exists() {
            return Err("there is no old database in the data directory".to_owned());
        }
        let unreadable = |error: &(dyn std::error::Error + 'static)| {
            format!("the old database cannot be read: {}", error_chain(error))
        };
        let export = Export::open(&database, trust_domain).map_err(|error| unreadable(&error))?;
        let read = || {
            let tokens = export.tokens()?.into_iter().filter_map(spent);
            // Before there were device keys there was no table of them.
            let tables = export.tables()?;
            let is_there = |name| tables.iter().any(|table| table.name == name);
            let recoveries = match is_there("recoveries") {
                true => export.recoveries()?,
                false => Vec::new(),
            };
            let steps = match is_there("chain_steps") {
                true => export.steps()?,
                false => Vec::new(),
            };
            Ok::<_, crate::datastore::DatastoreError>(Self {
                snapshot: export.snapshot()?,
                journal: export.journal()?,
                spent: tokens.collect(),
                recoveries,
                steps,
            })
        };
        let old = read().map_err(|error| unreadable(&error))?;
        let revision = old.snapshot.revision;
        let made = Revision {
            epoch: manifest.epoch.unsigned_abs(),
            number: manifest.revision.unsigned_abs(),
        };
        let known = |row: &AuthorityRow| manifest.authorities.iter().any(|known| known.id == row.id);
        if revision < made || !old.journal.rows.iter().any(known) {
            return Err(format!(
                "the old database, at revision {revision}, is not what became of the registry that was backed up at {made}"
            ));
        }
        match mark.filter(|mark| mark.is_ahead_of(&old.mark())) {
            None => Ok(old),
            Some(mark) => Err(format!(
                "the old database, at revision {revision}, had lost something itself: it has been at {}.{}",
                mark.epoch, mark.number
            )),
        }
    }

    /// How new it is.
    pub(super) fn mark(&self) -> Mark {
        Mark::new(self.snapshot.revision, self.journal.sequence)
    }

    /// Takes over what must not go back into a new database, and names what does.
    pub(super) async fn carry_into(&self, new: &SqliteDatastore, now: UnixTime) -> Result<Lost, BackupError> {
        let restored = new.load(Some(now)).await?;
        let mut lost = Lost::default();
        lost.entries(&self.snapshot, &restored, now);
        let banned = lost.agents(&self.snapshot, &restored);
        for agent in banned {
            let id = agent.id.clone();
            // Its record says so already, or it is not known there: then it is banned before it comes.
            let done = match restored.agents.iter().any(|known| known.id == id) {
                true => new
                    .change_agent(id.clone(), AgentChange::Ban { at: now })
                    .await
                    .map(drop),
                false => {
                    new.attest_agent((*agent).clone(), Entering::Attested { at: now })
                        .await
                }
            };
            match done {
                // Its token lets nobody in any more.
                Ok(()) | Err(RegistryError::TokenRevoked) => lost.bans.push(id),
                Err(RegistryError::Storage { source }) => return Err(source.into()),
                Err(other) => lost.unknown = Some(format!("the ban of {id} cannot be taken over: {other}")),
            }
        }
        lost.authorities(&self.journal, &new.journal().await?, now);
        self.carry_chain_into(new).await?;
        lost.bound();
        Ok(lost)
    }
}

impl Old {
    /// The steps that follow the newest one of the backup: nodes stand on them, and who signs the next one may have changed. They say by themselves
    /// whether they lead on.
    async fn carry_chain_into(&self, new: &SqliteDatastore) -> Result<(), BackupError> {
        let newest = new.newest_step().await?;
        let mut steps = self.steps.iter();
        let begin = match &newest {
            Some(newest) => steps.find(|step| step.digest() == newest.digest()),
            None => steps.as_slice().first(),
        };
        let begun = begin.and_then(|step| Walker::begin(step.trust_domain().clone(), step).ok());
        let Some(mut walker) = begun else { return Ok(()) };
        let mut after = newest.map(|newest| newest.digest());
        for step in steps {
            if let Err(error) = walker.walk(step) {
                tracing::warn!(%error, "the bundle chain of the old database ends before its end");
                break;
            }
            new.append_step(after, Arc::new(step.clone())).await?;
            after = Some(step.digest());
        }
        Ok(())
    }
}

impl Lost {
    fn add(&mut self, kind: FindingKind, object: impl Into<String>, detail: impl Into<String>) {
        self.findings.push(Finding {
            kind,
            object: object.into(),
            detail: detail.into(),
        });
    }

    /// What is not listed is not known to whoever reads the list.
    fn bound(&mut self) {
        self.findings.sort();
        let over = state::cut(&mut self.findings);
        if over == 0 {
            return;
        }
        let over = format!("{over} more come back than the {MAX_FINDINGS} that are listed");
        self.unknown = Some(match self.unknown.take() {
            None => over,
            Some(why) => format!("{why}; {over}"),
        });
    }

    fn entries(&mut self, old: &Snapshot, new: &Snapshot, now: UnixTime) {
        let known: HashMap<&str, &Versioned> = old
            .entries
            .iter()
            .map(|entry| (entry.entry.id.as_str(), entry))
            .collect();
        for entry in new.entries.iter().filter(|entry| entry.entry.is_live(Some(now))) {
            let (id, what) = (&entry.entry.id, &entry.entry.spiffe_id);
            match known.get(id.as_str()) {
                None => self.add(
                    FindingKind::EntryDeleted,
                    id,
                    format!("{what}: deleted since the backup"),
                ),
                Some(old) if old.version() != entry.version() => {
                    let detail = format!("{what}: changed since the backup, and as it was");
                    self.add(FindingKind::EntryChanged, id, detail);
                }
                Some(_) => {}
            }
        }
    }

    /// Returns those that are to be banned.
    fn agents(&mut self, old: &Snapshot, new: &Snapshot) -> Vec<Arc<AgentRecord>> {
        let by_id = |snapshot: &Snapshot| -> HashMap<SpiffeId, Arc<AgentRecord>> {
            let agents = snapshot.agents.iter();
            agents
                .map(|agent| (agent.id.clone(), Arc::clone(agent)))
                .collect()
        };
        let (was, is) = (by_id(old), by_id(new));
        let mut banned = Vec::new();
        for (id, agent) in &was {
            match is.get(id) {
                Some(restored) if agent.is_banned() && !restored.is_banned() => {
                    banned.push(Arc::clone(agent))
                }
                None if agent.is_banned() => banned.push(Arc::clone(agent)),
                None => self.add(
                    FindingKind::NodeLost,
                    id.as_str(),
                    "enrolled since the backup: it has to attest again",
                ),
                Some(restored) if restored.is_banned() && !agent.is_banned() => self.add(
                    FindingKind::NodeLost,
                    id.as_str(),
                    "its ban was lifted since the backup, and holds again",
                ),
                Some(_) => {}
            }
        }
        for id in is
            .iter()
            .filter(|(_, agent)| !agent.is_banned())
            .map(|(id, _)| id)
        {
            if !was.contains_key(id) {
                self.add(FindingKind::NodeEvicted, id.as_str(), "evicted since the backup");
            }
        }
        banned
    }

    fn authorities(&mut self, old: &Journal, new: &Journal, now: UnixTime) {
        for row in new.rows.iter().filter(|row| now < row.not_after && !row.tainted) {
            let kind = row.kind.as_str();
            match old.rows.iter().find(|known| known.id == row.id) {
                None => self.add(
                    FindingKind::AuthorityGone,
                    &row.id,
                    format!("{kind}: revoked since the backup, or over"),
                ),
                Some(known) if known.tainted => {
                    self.add(
                        FindingKind::AuthorityGone,
                        &row.id,
                        format!("{kind}: tainted since the backup"),
                    );
                }
                Some(_) => {}
            }
        }
        for row in new.appended.iter().filter(|row| !row.revoked) {
            let still = old
                .appended
                .iter()
                .any(|known| known.key == row.key && !known.revoked);
            if !still {
                self.add(
                    FindingKind::AuthorityGone,
                    name(&row.key),
                    format!(
                        "brought by {}: tainted or revoked since the backup, or over",
                        row.by
                    ),
                );
            }
        }
        for root in new
            .above
            .roots
            .iter()
            .filter(|root| root.trust == RootTrust::Trusted)
        {
            let known = old
                .above
                .roots
                .iter()
                .find(|known| known.certificate == root.certificate);
            if known.is_none_or(|known| known.trust != RootTrust::Trusted) {
                let id = root.certificate.subject_key_id().map(|id| hex(&id));
                let detail = "of the upstream authority: tainted or revoked since the backup, or over";
                self.add(FindingKind::AuthorityGone, id.unwrap_or_default(), detail);
            }
        }
    }
}

fn name(key: &AppendedKey) -> String {
    match key {
        AppendedKey::X509(authority) => authority
            .certificate
            .subject_key_id()
            .map(|id| hex(&id))
            .unwrap_or_default(),
        AppendedKey::Jwt(authority) => authority.key_id.clone(),
    }
}

/// The hash of a token that was redeemed or voided.
fn spent([hash, _, _, redeemed_at, _, _, revoked]: [Value; 7]) -> Option<Vec<u8>> {
    match hash {
        Value::Blob(hash) if redeemed_at != Value::Null || revoked != Value::Integer(0) => Some(hash),
        _ => None,
    }
}
