//! For tests: a data directory with something of everything in it, backups of it, and backups that somebody has changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use landfast_identity::TrustDomain;
use landfast_store::{DirFiles, FreshFile};
use ring::digest::{SHA256, digest};
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::age::{Identity, Lock, Passphrase, Unlock};
use super::error::BackupError;
use super::make;
use super::manifest::{DIGEST, MANIFEST, Manifest};
use super::restore::{Choice, Restored, Target, restore};
use super::tar;
use crate::core::Core;
use crate::core::fixture::{DAY, DiskRig, START, agent, draft, entry, foreign, key, me, td};
use crate::random::hex;
use crate::registry::Entry;

/// A site and the place of its backups.
pub(super) struct Site {
    pub(super) disk: DiskRig,
    pub(super) out: TempDir,
    pub(super) identity: Identity,
}

pub(super) const NODE: &str = "/spire/agent/x509pop/a";
pub(super) const BANNED: &str = "/spire/agent/x509pop/b";
pub(super) const PASSPHRASE: &str = "correct horse battery";

impl Site {
    pub(super) fn new() -> Self {
        Self {
            disk: DiskRig::new(),
            out: tempfile::tempdir().unwrap(),
            identity: Identity::generate().unwrap(),
        }
    }

    /// Something in every table. Two tokens: `free`, and `spent`.
    pub(super) async fn populate(&self, core: &Core) -> Arc<Entry> {
        let registry = &core.registry;
        let bundle = foreign("office.example").await;
        registry.set_federated_bundle(bundle).await.unwrap();
        let mut wanted = draft(NODE, "/w");
        wanted.federates_with = vec![TrustDomain::parse("office.example").unwrap()];
        let made = entry(core, wanted).await;
        for (path, serial) in [(NODE, "0a"), (BANNED, "0b")] {
            registry
                .upsert_agent_on_attest(agent(path, serial, &["k:ö\"1"]))
                .await
                .unwrap();
        }
        registry
            .ban_agent(&crate::core::fixture::id(BANNED))
            .await
            .unwrap();
        for token in ["free", "spent"] {
            let token = Some(token.to_owned());
            registry.create_join_token(token, DAY, None, START).await.unwrap();
        }
        registry.redeem_join_token("spent", [1; 32], START).await.unwrap();
        core.issuer.x509_for_entry(&me(), &made, &key()).await.unwrap();
        made
    }

    pub(super) fn recipient(&self) -> Lock {
        Lock::Recipients(vec![self.identity.recipient()])
    }

    /// Whatever is undone may be.
    pub(super) fn identity(&self) -> Choice {
        let identity: Identity = self.identity.reveal().parse().unwrap();
        Choice {
            unlock: Some(Unlock::Identities(vec![identity])),
            accept_rollback: true,
            ..Choice::default()
        }
    }

    pub(super) fn backup(&self, name: &str, lock: Option<&Lock>) -> PathBuf {
        let path = self.out.path().join(name);
        self.try_backup(&path, lock).unwrap();
        path
    }

    pub(super) fn try_backup(&self, path: &Path, lock: Option<&Lock>) -> Result<Manifest, BackupError> {
        use landfast_lifecycle::Clock as _;
        let now = self.disk.clock.now().unwrap();
        let out = FreshFile::begin(path)?;
        make::make(self.disk.dir.path(), &td(), out, lock, now, &mut |_, _| ())
    }

    pub(super) async fn restore(&self, from: &Path, choice: &Choice) -> Result<Restored, BackupError> {
        self.restore_through(from, choice, |files| files).await
    }

    pub(super) async fn restore_through<F: landfast_store::Files + 'static>(
        &self,
        from: &Path,
        choice: &Choice,
        wrap: impl FnOnce(DirFiles) -> F,
    ) -> Result<Restored, BackupError> {
        use landfast_lifecycle::Clock as _;
        let domain = td();
        let target = Target {
            data_dir: self.disk.dir.path(),
            trust_domain: &domain,
            backdate: crate::issuance::Ttls::default().backdate,
        };
        restore(&target, from, choice, self.disk.clock.now().unwrap(), wrap).await
    }

    /// The names in the data directory.
    pub(super) fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.disk.dir.path()).unwrap();
        let mut names: Vec<String> = names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

pub(super) fn with_passphrase() -> Lock {
    Lock::Passphrase {
        passphrase: passphrase(PASSPHRASE),
        log_n: 4,
    }
}

pub(super) fn guess(text: &str) -> Choice {
    Choice {
        unlock: Some(Unlock::Passphrase(passphrase(text))),
        accept_rollback: true,
        ..Choice::default()
    }
}

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(Zeroizing::new(text.as_bytes().to_vec()))
}

/// A part as whoever changes a backup sees it.
pub(super) type Member = (String, Vec<u8>);

/// Writes the backup with other parts, and a manifest that fits them.
pub(super) fn forge(from: &Path, to: &str, change: impl FnOnce(&mut Vec<Member>, &mut Manifest)) -> PathBuf {
    let bytes = fs::read(from).unwrap();
    let members = tar::members(&bytes[..]).unwrap();
    let mut members: Vec<Member> = members.into_iter().map(|m| (m.name, m.content)).collect();
    members.pop();
    let (_, manifest) = members.pop().unwrap();
    let mut manifest = Manifest::read(&manifest).unwrap();
    change(&mut members, &mut manifest);
    for part in &mut manifest.parts {
        if let Some((_, content)) = members.iter().find(|(name, _)| *name == part.name) {
            part.bytes = content.len() as u64;
            part.sha256 = sha256(content);
        }
    }
    let manifest = manifest.to_bytes();
    let sum = format!("{}  {MANIFEST}\n", sha256(&manifest));
    members.push((MANIFEST.to_owned(), manifest));
    members.push((DIGEST.to_owned(), sum.into_bytes()));
    let path = from.with_file_name(to);
    write(&path, &pack(&members));
    path
}

pub(super) fn pack(members: &[Member]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, content) in members {
        out.extend_from_slice(&tar::header(name, content.len() as u64).unwrap());
        out.extend_from_slice(content);
        out.resize(out.len() + tar::padding(content.len() as u64), 0);
    }
    out.extend_from_slice(&[0; 2 * tar::BLOCK]);
    out
}

pub(super) fn write(path: &Path, bytes: &[u8]) {
    use std::io::Write as _;
    fs::File::create(path).unwrap().write_all(bytes).unwrap();
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}
