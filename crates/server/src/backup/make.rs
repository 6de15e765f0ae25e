//! Makes a backup, beside a server that runs. Invariant: what is in it was in the database at one moment, and the keys are those of the
//! authorities of that moment.

use std::path::Path;

use landfast_identity::{TrustDomain, UnixTime};
use landfast_store::FreshFile;
use ring::digest::{Context, SHA256};

use super::age::{self, Lock};
use super::error::BackupError;
use super::keys::{Keys, fingerprint};
use super::manifest::{self, Authority, Manifest, Part};
use super::{rows, tar};
use crate::authority::Journal;
use crate::core::{DATABASE, KEYS};
use crate::datastore::sqlite::Export;
use crate::random::hex;

/// Makes one. `lock`: whom the keys are for; without, there are none in it.
pub(super) fn make(
    data_dir: &Path,
    trust_domain: &TrustDomain,
    out: FreshFile,
    lock: Option<&Lock>,
    now: UnixTime,
    progress: &mut dyn FnMut(&str, u64),
) -> Result<Manifest, BackupError> {
    let (export, journal, keys) = snapshot(data_dir, trust_domain, lock.is_some())?;
    let mut writer = Writer::new(out);
    writer.whole(manifest::FORMAT, manifest::FORMAT_1)?;
    let mut parts = Vec::new();
    for table in export.tables()? {
        writer.begin(&manifest::table_part(&table.name));
        writer.add(rows::write_head(&table).as_bytes())?;
        let mut count = 0;
        export.each_row(&table, |row| {
            count += 1;
            if count % EACH == 0 {
                progress(&table.name, count);
            }
            writer.add(rows::write_row(&row).as_bytes())
        })?;
        parts.push(writer.end(Some(count))?);
    }
    let (revision, epoch) = export.revision()?;
    let mut manifest = Manifest {
        trust_domain: trust_domain.to_string(),
        epoch,
        revision,
        bundle_sequence: journal.sequence,
        schema: export.schema,
        made_at: now.as_secs(),
        made_by: concat!("landfast-server ", env!("CARGO_PKG_VERSION")).to_owned(),
        parts,
        authorities: authorities(&journal, keys.as_ref()),
        keys: lock.map(|lock| manifest::Keys {
            sealed_for: sealed_for(lock),
        }),
    };
    if let (Some(lock), Some(keys)) = (lock, &keys) {
        let sealed = age::seal(keys.to_text(&manifest.bound()).as_bytes(), lock)?;
        let part = writer.whole(manifest::KEYS, &sealed)?;
        manifest.parts.push(part);
    }
    let bytes = manifest.to_bytes();
    let part = writer.whole(manifest::MANIFEST, &bytes)?;
    let digest = format!("{}  {}\n", part.sha256, part.name);
    writer.whole(manifest::DIGEST, digest.as_bytes())?;
    writer.finish()?;
    Ok(manifest)
}

/// A key may be removed between the reading of the database and its own: then its authority is gone as well, and another moment is taken.
fn snapshot(
    data_dir: &Path,
    trust_domain: &TrustDomain,
    with_keys: bool,
) -> Result<(Export, Journal, Option<Keys>), BackupError> {
    let mut tries = 1;
    loop {
        let export = Export::open(&data_dir.join(DATABASE), trust_domain)?;
        let journal = export.journal()?;
        if !with_keys {
            return Ok((export, journal, None));
        }
        match Keys::beside(&data_dir.join(KEYS), &journal) {
            Ok(keys) => return Ok((export, journal, Some(keys))),
            Err(BackupError::NoKey { .. }) if tries < TRIES => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

fn authorities(journal: &Journal, keys: Option<&Keys>) -> Vec<Authority> {
    let rows = journal.rows.iter().map(|row| Authority {
        kind: row.kind.as_str().to_owned(),
        id: row.id.clone(),
        fingerprint: fingerprint(&row.public_key),
        slot: row.slot.as_str().to_owned(),
        not_after: row.not_after.as_secs(),
        key: keys.is_some_and(|keys| keys.holds(row)),
    });
    rows.collect()
}

fn sealed_for(lock: &Lock) -> Vec<String> {
    match lock {
        Lock::Recipients(recipients) => recipients.iter().map(ToString::to_string).collect(),
        Lock::Passphrase { .. } => vec![PASSPHRASE.to_owned()],
    }
}

/// Writes members whose size is not known before they end.
struct Writer {
    out: FreshFile,
    buffer: Vec<u8>,
    written: u64,
    name: String,
    /// Where the member begins.
    place: u64,
    sum: Context,
}

impl Writer {
    fn new(out: FreshFile) -> Self {
        Self {
            out,
            buffer: Vec::with_capacity(2 * BUFFER),
            written: 0,
            name: String::new(),
            place: 0,
            sum: Context::new(&SHA256),
        }
    }

    fn begin(&mut self, name: &str) {
        self.name = name.to_owned();
        // The header comes when the size is known.
        self.buffer.extend_from_slice(&[0; tar::BLOCK]);
        self.place = self.written + self.buffer.len() as u64;
        self.sum = Context::new(&SHA256);
    }

    fn add(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        self.sum.update(bytes);
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER {
            self.flush()?;
        }
        Ok(())
    }

    fn end(&mut self, rows: Option<u64>) -> Result<Part, BackupError> {
        let bytes = self.written + self.buffer.len() as u64 - self.place;
        let padding = tar::padding(bytes);
        self.buffer.resize(self.buffer.len() + padding, 0);
        self.flush()?;
        let header = tar::header(&self.name, bytes).expect("names come from constants and from the schema");
        self.out.overwrite(self.place - tar::BLOCK as u64, &header)?;
        let sum = std::mem::replace(&mut self.sum, Context::new(&SHA256));
        Ok(Part {
            name: self.name.clone(),
            bytes,
            sha256: hex(sum.finish().as_ref()),
            rows,
        })
    }

    fn whole(&mut self, name: &str, bytes: &[u8]) -> Result<Part, BackupError> {
        self.begin(name);
        self.add(bytes)?;
        self.end(None)
    }

    fn finish(mut self) -> Result<(), BackupError> {
        self.buffer.extend_from_slice(&[0; 2 * tar::BLOCK]);
        self.flush()?;
        Ok(self.out.commit()?)
    }

    fn flush(&mut self) -> Result<(), BackupError> {
        self.out.write(&self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// What is said of keys that are not for recipients.
pub(super) const PASSPHRASE: &str = "passphrase";
const BUFFER: usize = 256 * 1024;
const TRIES: u32 = 5;
/// After so many rows progress is told of.
const EACH: u64 = 10_000;
