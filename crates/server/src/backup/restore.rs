//! Puts a backup in the place of a data directory. Invariant: everything is read, built anew and verified before anything is replaced; what a
//! restoration undoes is known to be accepted, or the server will start in quarantine.

mod lost;
mod verdict;

use std::path::{Path, PathBuf};
use std::time::Duration;

use landfast_identity::{TrustDomain, UnixTime};
use landfast_store::{DirFiles, Files, Store, StoreError};

use super::age::Unlock;
use super::archive::Archive;
use super::error::{ArchiveError, BackupError};
use super::keys::Keys;
use super::manifest::Manifest;
use super::swap::Swap;
use crate::authority::{AuthorityError, DiskKeys, Journal};
use crate::core::{DATABASE, KEYS};
use crate::datastore::Datastore as _;
use crate::datastore::rows::Restoration;
use crate::datastore::sqlite::{Import, SqliteDatastore};
use crate::quarantine::state as quarantine;
use lost::Lost;
use verdict::Before;
pub(super) use verdict::Undone;

/// Where to, and of whom.
#[derive(Debug)]
pub(super) struct Target<'a> {
    pub(super) data_dir: &'a Path,
    pub(super) trust_domain: &'a TrustDomain,
    /// How far the validity of SVIDs starts in the past.
    pub(super) backdate: Duration,
}

/// What the operator has chosen.
#[derive(Debug, Default)]
pub(super) struct Choice {
    pub(super) unlock: Option<Unlock>,
    /// Where the keys are, when they are not in the backup.
    pub(super) keys: Option<PathBuf>,
    pub(super) new_authorities: bool,
    /// The fingerprint of an authority of this trust domain.
    pub(super) trust: Option<String>,
    pub(super) keep_tokens: bool,
    /// Whatever was decided since may be undone.
    pub(super) accept_rollback: bool,
    pub(super) dry_run: bool,
}

/// What was done.
#[derive(Debug)]
pub(super) struct Restored {
    pub(super) manifest: Manifest,
    pub(super) epoch: u64,
    /// Whether what it is sealed with shows who made it.
    pub(super) vouched: Vouched,
    /// What it undoes.
    pub(super) undone: Undone,
    /// Whether anything was replaced: not in a dry run.
    pub(super) replaced: bool,
    /// Where the old data is, if there was any.
    pub(super) old_data: Option<PathBuf>,
}

/// What shows that the backup is ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Vouched {
    /// There is no seal.
    Nothing,
    /// A key in it that is known, or the passphrase.
    Seal,
    /// It needs a fingerprint first: only in a dry run.
    NotYet,
}

/// Does it. The disk is what `wrap` makes of it, for tests.
pub(super) async fn restore<F: Files + 'static>(
    target: &Target<'_>,
    from: &Path,
    choice: &Choice,
    now: UnixTime,
    wrap: impl FnOnce(DirFiles) -> F,
) -> Result<Restored, BackupError> {
    let in_use = |error| match error {
        StoreError::InUse { path } => BackupError::InUse { path },
        other => other.into(),
    };
    let lock = Store::open(target.data_dir).map_err(in_use)?;
    super::recover(target.data_dir)?;
    let archive = Archive::open(from)?;
    let manifest = &archive.manifest;
    if manifest.trust_domain != target.trust_domain.as_str() {
        return Err(BackupError::OtherTrustDomain {
            found: manifest.trust_domain.clone(),
            configured: target.trust_domain.clone(),
        });
    }
    let swap = Swap::open_with(target.data_dir, wrap)?;
    let staging = swap.prepare()?;
    let before = Before::read(&lock, target, manifest, now)?;
    let staged = stage(target, &archive, choice, &staging, &before, now).await;
    let judged = staged.map(|staged| {
        let (undone, state) = before.judge(staged.lost, manifest, choice, now);
        (staged.epoch, staged.vouched, undone, state)
    });
    if let (Ok((epoch, vouched, undone, state)), false) = (&judged, choice.dry_run) {
        // First: a quarantine of the old data hurts nobody, and the new data without one might.
        lock.replace(quarantine::FILE, &state.to_bytes())?;
        // From here on what is prepared is not discarded: it may have been decided that it comes.
        let old_data = swap.commit(now)?;
        return Ok(Restored {
            epoch: *epoch,
            vouched: *vouched,
            undone: undone.clone(),
            manifest: archive.manifest,
            replaced: true,
            old_data,
        });
    }
    swap.discard()?;
    let (epoch, vouched, undone, _) = judged?;
    Ok(Restored {
        epoch,
        vouched,
        undone,
        manifest: archive.manifest,
        replaced: false,
        old_data: None,
    })
}

/// What is ready to come into its place.
struct Staged {
    epoch: u64,
    vouched: Vouched,
    lost: Lost,
}

/// Builds database and keys in the directory, and opens them as the server would.
async fn stage(
    target: &Target<'_>,
    archive: &Archive,
    choice: &Choice,
    staging: &Path,
    before: &Before,
    now: UnixTime,
) -> Result<Staged, BackupError> {
    let database = staging.join(DATABASE);
    build(target, archive, choice, &database, before, now)?;
    let datastore = SqliteDatastore::open(&database, target.trust_domain, true)?;
    let journal = datastore.journal().await?;
    let epoch = count(&datastore, &archive.manifest, now).await?;
    let lost = before.carry_into(&datastore, now).await?;
    drop(datastore);
    // Only the file itself is moved: with its log not taken in, what was carried over would stay behind.
    if staging.join(LOG).exists() {
        return Err(BackupError::Log);
    }
    let unusable = |source: AuthorityError| BackupError::Authorities {
        source: Box::new(source),
    };
    journal
        .bundle(target.trust_domain)
        .map_err(|source| unusable(source.into()))?;
    let (keys, vouched) = keys(target, archive, choice, &journal)?;
    let store = Store::open(&staging.join(KEYS))?;
    for (name, der) in keys.iter() {
        store.create(&DiskKeys::file_name(name), der)?;
    }
    Ok(Staged { epoch, vouched, lost })
}

fn build(
    target: &Target<'_>,
    archive: &Archive,
    choice: &Choice,
    database: &Path,
    before: &Before,
    now: UnixTime,
) -> Result<(), BackupError> {
    let manifest = &archive.manifest;
    let import = Import::begin(database, target.trust_domain, manifest.schema)?;
    if !import.tables().eq(archive.tables()) {
        return Err(BackupError::Archive {
            path: archive.path().into(),
            source: ArchiveError::damaged("its tables are not those of its schema"),
        });
    }
    for name in archive.tables() {
        archive.table(name, |table, rows| import.fill(table, rows))?;
    }
    // An SVID that was issued before the backup is in it, used or not; one that its agent has not used for so long it never had.
    let unused = Duration::from_secs(600);
    let renewed_since = UnixTime::from_secs(manifest.made_at)
        .saturating_sub(target.backdate)
        .saturating_sub(unused);
    let newest = before.newest();
    import.finish(&Restoration {
        // Greater than any that there was, also when the clock has been set back.
        epoch: now.as_secs().max(above(newest.epoch)),
        least_sequence: above(newest.sequence),
        spent: before.spent(),
        recoveries: before.recoveries(),
        void_tokens: !choice.keep_tokens,
        renewed_since: renewed_since.as_secs(),
        forget_authorities: choice.new_authorities,
    })?;
    Ok(())
}

/// The number after this one, as the database has it.
fn above(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX - 1).saturating_add(1)
}

/// Reads everything as the server does when it starts. Returns the epoch.
async fn count(datastore: &SqliteDatastore, manifest: &Manifest, now: UnixTime) -> Result<u64, BackupError> {
    let snapshot = datastore.load(Some(now)).await?;
    for (table, found) in [
        ("entries", snapshot.entries.len()),
        ("agents", snapshot.agents.len()),
        ("federated_bundles", snapshot.bundles.len()),
        ("federation_relationships", snapshot.relationships.len()),
    ] {
        let expected = manifest.rows(table);
        if found as u64 != expected {
            let found = found as u64;
            return Err(BackupError::Count {
                table,
                expected,
                found,
            });
        }
    }
    Ok(snapshot.revision.epoch)
}

fn keys(
    target: &Target<'_>,
    archive: &Archive,
    choice: &Choice,
    journal: &Journal,
) -> Result<(Keys, Vouched), BackupError> {
    // Also when the keys come from elsewhere: else nothing would vouch for the tables.
    let sealed = archive.keys(choice.unlock.as_ref())?;
    let vouched = match &sealed {
        Some(sealed) => vouch(target, archive, choice, sealed)?,
        None if choice.unlock.is_some() || choice.trust.is_some() => {
            return Err(BackupError::Choice(
                "there are no keys in this backup: an identity, a passphrase or a fingerprint says nothing of it",
            ));
        }
        None => Vouched::Nothing,
    };
    if choice.new_authorities {
        return Ok((Keys::default(), vouched));
    }
    let keys = match (&choice.keys, sealed) {
        (Some(dir), _) => Keys::beside(dir, journal)?,
        (None, Some(keys)) => keys.verify(journal).map(|()| keys)?,
        (None, None) => match target.data_dir.join(KEYS) {
            dir if dir.exists() => Keys::beside(&dir, journal)?,
            // An empty machine: each key is missing.
            _ => {
                let none = Keys::default();
                none.verify(journal).map(|()| none)?
            }
        },
    };
    Ok((keys, vouched))
}

/// Whether whoever made it had a key of this trust domain, or the passphrase.
fn vouch(
    target: &Target<'_>,
    archive: &Archive,
    choice: &Choice,
    sealed: &Keys,
) -> Result<Vouched, BackupError> {
    let fingerprints = sealed.fingerprints();
    let vouched = match (&choice.trust, &choice.unlock) {
        (Some(trusted), _) => {
            let trusted = trusted.replace(':', "").to_ascii_lowercase();
            fingerprints.contains(&trusted)
        }
        (None, Some(Unlock::Passphrase(_))) => true,
        (None, _) => {
            let here = [Some(target.data_dir.join(KEYS)), choice.keys.clone()];
            here.iter().flatten().any(|dir| sealed.meet(dir))
        }
    };
    match vouched {
        true => Ok(Vouched::Seal),
        false if choice.dry_run && choice.trust.is_none() => Ok(Vouched::NotYet),
        false => Err(BackupError::Unknown {
            authorities: archive.manifest.named(&fingerprints),
        }),
    }
}

const LOG: &str = "landfast.db-wal";

#[cfg(test)]
mod tests;
