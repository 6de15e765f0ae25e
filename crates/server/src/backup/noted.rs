//! That a backup was made, told to the server whose data it is: it writes the record (CIR (EU) 2024/2690, 9.2: keys that are backed up are logged).
//!
//! Invariant: a note is one file and its name says all, since a server may not read what root has written; it goes when the record is on the disk. So
//! after a power cut a record may be there twice, under the same digest. A backup that is killed between its last byte and its note has none.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use landfast_audit::{Category, Decision, Outcome, Record};
use landfast_daemon::error_chain;
use landfast_identity::UnixTime;
use landfast_lifecycle::SharedClock;
use landfast_store::{FreshFile, StoreError};
use ring::digest::{SHA256, digest};

use super::manifest::Manifest;
use crate::issuance::Requester;
use crate::ledger::{self, Ledger};
use crate::people::{Audit, LocalLogin, Standing};
use crate::random::hex;
use crate::registry::Registry;

/// `backup-made.<seconds>.<uid>.<loginuid, - or ?>.<keys or none>.<digest of its manifest>`
#[derive(Clone, PartialEq, Eq, Debug)]
struct Note {
    made_at: UnixTime,
    by: LocalLogin,
    with_keys: bool,
    digest: String,
}

/// Leaves a note of the backup beside the server's data.
pub(super) fn leave(data_dir: &Path, manifest: &Manifest) -> Result<(), StoreError> {
    let note = Note {
        made_at: UnixTime::from_secs(manifest.made_at),
        by: LocalLogin::own(),
        with_keys: manifest.keys.is_some(),
        digest: hex(&digest(&SHA256, &manifest.to_bytes()).as_ref()[..16]),
    };
    FreshFile::begin(&data_dir.join(note.name()))?.commit()
}

/// Records what notes say, for as long as the server runs.
pub(crate) async fn keep(registry: Arc<Registry>, ledger: Ledger, clock: SharedClock) {
    let Some((data, _)) = ledger.place() else {
        return std::future::pending().await;
    };
    let mut turns = tokio::time::interval(EACH);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // Of those that could not be removed.
    let mut recorded = HashSet::new();
    loop {
        turns.tick().await;
        let store = data.clone();
        let found = tokio::task::spawn_blocking(move || store.list()).await;
        let names = match found {
            Ok(Ok(names)) => names,
            Ok(Err(error)) => {
                tracing::warn!(error = error_chain(&error), "the notes of backups cannot be read");
                continue;
            }
            // The runtime ends.
            Err(_ended) => return std::future::pending().await,
        };
        let notes = names
            .into_iter()
            .filter_map(|name| Some((Note::parse(&name)?, name)));
        for (note, name) in notes.take(MOST_AT_ONCE) {
            if !recorded.contains(&name) {
                if let Err(error) = ledger.append(vec![note.record(&registry, &clock)]).await {
                    let error = error_chain(&error);
                    tracing::warn!(error, "a backup was made and has no record yet");
                    break;
                }
                recorded.insert(name.clone());
            }
            let (store, named) = (data.clone(), name.clone());
            match tokio::task::spawn_blocking(move || store.remove(&named)).await {
                Ok(Ok(())) => {
                    recorded.remove(&name);
                }
                Ok(Err(error)) => {
                    let error = error_chain(&error);
                    tracing::warn!(
                        error,
                        name,
                        "the note of a backup that is recorded stays: remove it"
                    );
                }
                Err(_stopped) => {}
            }
        }
    }
}

impl Note {
    fn name(&self) -> String {
        let audit = match self.by.audit {
            Audit::Uid(uid) => uid.to_string(),
            Audit::Unset => "-".to_owned(),
            Audit::Unknown => "?".to_owned(),
        };
        let keys = if self.with_keys { KEYS } else { NO_KEYS };
        let (at, uid, digest) = (self.made_at.as_secs(), self.by.uid, &self.digest);
        format!("{PREFIX}.{at}.{uid}.{audit}.{keys}.{digest}")
    }

    fn parse(name: &str) -> Option<Self> {
        let rest = name.strip_prefix(PREFIX)?.strip_prefix('.')?;
        let [at, uid, audit, keys, digest] = *rest.split('.').collect::<Vec<_>>() else {
            return None;
        };
        let audit = match audit {
            "-" => Audit::Unset,
            "?" => Audit::Unknown,
            uid => Audit::Uid(uid.parse().ok()?),
        };
        let note = Self {
            made_at: UnixTime::from_secs(at.parse().ok()?),
            by: LocalLogin {
                uid: uid.parse().ok()?,
                audit,
            },
            with_keys: keys == KEYS,
            digest: digest.to_owned(),
        };
        // To the letter, so that nothing else is taken for one.
        let is_hex = digest.len() == 32
            && digest
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (is_hex && note.name() == name).then_some(note)
    }

    fn record(&self, registry: &Registry, clock: &SharedClock) -> Record {
        let standing = match registry.has_people() {
            true => self.by.standing(|login| registry.holder(login)),
            false => Standing::Nobody,
        };
        let person = standing.person().map(|person| person.reference.to_string());
        let login = person.is_some().then(|| self.by.login().recorded());
        let by = Requester::local(self.by.uid, None)
            .of_person(person)
            .come_by(login);
        let by = by.logged_in_as(match self.by.audit {
            Audit::Uid(uid) => Some(uid),
            Audit::Unset | Audit::Unknown => None,
        });
        let record = Record {
            decision: Decision::Allow,
            result: Outcome::Done,
            ..Record::new(Category::Backup, "backup.made", ledger::actor(&by))
        };
        let record = ledger::at(clock.now(), record)
            .with("made_at", self.made_at)
            .with("manifest_sha256", self.digest.clone())
            .with("with_keys", self.with_keys);
        match self.with_keys {
            true => record.with("key_event", "backing-up"),
            false => record,
        }
    }
}

const PREFIX: &str = "backup-made";
const KEYS: &str = "keys";
const NO_KEYS: &str = "none";
const EACH: Duration = Duration::from_secs(10);
/// In one turn.
const MOST_AT_ONCE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn note() -> Note {
        Note {
            made_at: UnixTime::from_secs(1_795_420_800),
            by: LocalLogin {
                uid: 0,
                audit: Audit::Uid(1000),
            },
            with_keys: true,
            digest: "0123456789abcdef0123456789abcdef".to_owned(),
        }
    }

    #[test]
    fn a_name_says_all_and_nothing_else_is_taken_for_one() {
        for audit in [Audit::Uid(1000), Audit::Unset, Audit::Unknown] {
            for with_keys in [true, false] {
                let mut note = note();
                (note.by.audit, note.with_keys) = (audit, with_keys);
                assert_eq!(Note::parse(&note.name()), Some(note));
            }
        }
        let name = note().name();
        for other in [
            name.replace(".keys.", ".key."),
            name.replace(".0.", ".00."),
            name.replace(".1000.", ".-1."),
            name.replace("abcdef", "ABCDEF"),
            format!("{name}.tmp"),
            name[..name.len() - 1].to_owned(),
            "backup-made".to_owned(),
            "landfast.sqlite".to_owned(),
        ] {
            assert_eq!(Note::parse(&other), None, "{other}");
        }
    }
}
