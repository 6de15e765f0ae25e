//! `landfast-server backup` and `restore`, from their command lines to what they print. Invariant: a secret comes from a file, never from the
//! command line, which other users see.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use landfast_identity::UnixTime;
use landfast_lifecycle::{Clock as _, SystemClock};
use landfast_store::{FreshFile, StoreError};
use zeroize::Zeroizing;

use super::age::{AgeError, Identity, Lock, Passphrase, Recipient, Unlock};
use super::archive::Archive;
use super::error::BackupError;
use super::restore::{Choice, Target};
use super::{make, noted, say};
use crate::config::ServerConfig;

/// What `backup` is told.
#[derive(Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    group = ArgGroup::new("lock").required(true).multiple(true),
    after_help = "landfast-server backup --out plant-1.backup --recipient age1…\n\
    A server may be running. Neither the configuration nor the files that it names are in the backup: keep them apart. docs/operations.md has \
    the procedure and a drill."
)]
pub struct BackupArgs {
    /// Another thing to do.
    #[command(subcommand)]
    pub verb: Option<BackupVerb>,
    /// The server's configuration: it says whose data, and where it is.
    #[arg(long, value_name = "FILE", default_value = "/etc/landfast/server.toml")]
    config: PathBuf,
    /// The file to make. It must not be there yet.
    #[arg(long, value_name = "FILE", required = true)]
    out: Option<PathBuf>,
    /// Seal the signing keys for this recipient of age (age1…); may be given several times, and each can open them.
    #[arg(long, value_name = "RECIPIENT", group = "lock", conflicts_with_all = ["passphrase_file", "without_keys"])]
    recipient: Vec<String>,
    /// The same, for the recipients in this file, one a line.
    #[arg(long, value_name = "FILE", group = "lock", conflicts_with_all = ["passphrase_file", "without_keys"])]
    recipient_file: Option<PathBuf>,
    /// Seal the signing keys with the passphrase in the first line of this file, 12 characters at least.
    #[arg(long, value_name = "FILE", group = "lock", conflicts_with = "without_keys")]
    passphrase_file: Option<PathBuf>,
    /// Leave the signing keys out. Without them, and without another copy of the keys directory, every node has to be enrolled again.
    #[arg(long, group = "lock")]
    without_keys: bool,
    /// How the result is shown.
    #[arg(long, value_enum, default_value_t = Form::Text)]
    output: Form,
}

/// See above.
#[derive(Subcommand, Debug)]
pub enum BackupVerb {
    /// Read a whole backup, verify it, and say what it holds. Needs no key.
    Show {
        /// The backup.
        file: PathBuf,
        /// How the result is shown.
        #[arg(long, value_enum, default_value_t = Form::Text)]
        output: Form,
    },
    /// Make a key that opens backups, and print the recipient to seal them for. Keep the file away from the server.
    Key {
        /// The file to make.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

/// What `restore` is told.
#[derive(Args, Debug)]
#[command(after_help = "systemctl stop landfast-server\n\
    runuser -u landfast-server -- landfast-server restore --from plant-1.backup --identity-file key.txt\n\
    Run it as the user of the server. The old data stays in the data directory, in before-restore-TIME.")]
pub struct RestoreArgs {
    /// The server's configuration: it says whose data, and where it is.
    #[arg(long, value_name = "FILE", default_value = "/etc/landfast/server.toml")]
    config: PathBuf,
    /// The backup.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Open the seal with the identities in this file (AGE-SECRET-KEY-1…, one a line).
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
    identity_file: Option<PathBuf>,
    /// Open the seal with the passphrase in the first line of this file.
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Take the keys from this copy of a keys directory; a sealed backup is opened all the same, to verify it. Of a backup without keys they are otherwise taken from the data directory.
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// The keys are lost: begin with new authorities. No node trusts them, and each has to be enrolled again with the new bundle.
    #[arg(long, conflicts_with = "keys")]
    new_authorities: bool,
    /// The backup is ours when it has the key of an authority with this fingerprint. Needed when the data directory has none of its keys, and it is
    /// sealed for a recipient: whoever knows that can make one.
    #[arg(long, value_name = "FINGERPRINT")]
    trust: Option<String>,
    /// Let join tokens that were not redeemed at the time of the backup be redeemed. Whoever has redeemed one since can do so again.
    #[arg(long)]
    keep_tokens: bool,
    /// Whatever was decided since the backup may be undone: deletions, evictions, taints, and bans that the old data does not show. Otherwise the server
    /// starts in quarantine when anything comes back, or may: it signs nothing before `landfast quarantine end`.
    #[arg(long)]
    accept_rollback: bool,
    /// Build and verify everything, and replace nothing.
    #[arg(long)]
    dry_run: bool,
    /// How the result is shown.
    #[arg(long, value_enum, default_value_t = Form::Text)]
    output: Form,
}

/// What `migrate` is told.
#[derive(Args, Debug)]
#[command(after_help = "systemctl stop landfast-server\n\
    runuser -u landfast-server -- landfast-server migrate --from sqlite --to postgres\n\
    The configuration says where PostgreSQL is ([datastore]); the database there must be empty. Keys stay where they are.")]
pub struct MigrateArgs {
    /// The server's configuration, with `[datastore]` already.
    #[arg(long, value_name = "FILE", default_value = "/etc/landfast/server.toml")]
    config: PathBuf,
    /// What holds the registry now: the database in data_dir.
    #[arg(long, value_enum)]
    from: Old,
    /// What is to hold it.
    #[arg(long, value_enum)]
    to: New,
    /// How the result is shown.
    #[arg(long, value_enum, default_value_t = Form::Text)]
    output: Form,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Old {
    Sqlite,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum New {
    Postgres,
}

/// How a result is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Form {
    /// For people.
    Text,
    /// For programs: one JSON value.
    Json,
}

/// Does what `backup` is told; returns what to print. `configure` reads a configuration, `progress` is told of a table and its rows so far.
///
/// # Errors
/// As the variants of [`BackupError`] say; then there is no new file.
pub fn backup(
    args: &BackupArgs,
    config: Option<&ServerConfig>,
    progress: &mut dyn FnMut(&str, u64),
) -> Result<String, BackupError> {
    match (&args.verb, config, &args.out) {
        (Some(BackupVerb::Show { file, output }), ..) => {
            let archive = Archive::open(file)?;
            Ok(say::shown(&archive.manifest, *output))
        }
        (Some(BackupVerb::Key { out }), ..) => key(out),
        (None, Some(config), Some(out)) => {
            let lock = lock(args)?;
            let dir = data_dir(config)?;
            let file = FreshFile::begin(out)?;
            let made = make::make(dir, &config.trust_domain, file, lock.as_ref(), now()?, progress)?;
            let told = noted::leave(dir, &made);
            Ok(say::made(&made, out, args.output, told.err().as_ref()))
        }
        (None, ..) => Err(BackupError::Choice(
            "a backup needs a configuration and --out FILE",
        )),
    }
}

impl BackupArgs {
    /// The configuration that is needed.
    #[must_use]
    pub fn config(&self) -> Option<&Path> {
        match self.verb {
            None => Some(&self.config),
            Some(_) => None,
        }
    }
}

impl RestoreArgs {
    /// The configuration that is needed.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }
}

impl MigrateArgs {
    /// The configuration that is needed.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }
}

/// Does what `migrate` is told; returns what to print.
///
/// # Errors
/// As the variants of [`BackupError`] say; run again, it ends what was begun.
pub async fn migrate(args: &MigrateArgs, config: &ServerConfig) -> Result<String, BackupError> {
    let (Old::Sqlite, New::Postgres) = (args.from, args.to);
    let dir = config.data_dir.as_deref().ok_or(IN_MEMORY)?;
    let target = config.postgres.as_ref();
    let target = target.ok_or(BackupError::Choice(
        "the configuration says nothing of PostgreSQL: add [datastore] with postgres",
    ))?;
    let migrated = super::migrate::migrate(dir, &config.trust_domain, target, now()?).await?;
    Ok(say::migrated(&migrated, args.output))
}

/// Does what `restore` is told; returns what to print.
///
/// # Errors
/// As the variants of [`BackupError`] say; but for [`BackupError::Replace`], nothing was replaced.
pub async fn restore(args: &RestoreArgs, config: &ServerConfig) -> Result<String, BackupError> {
    let unlock = match (&args.identity_file, &args.passphrase_file) {
        (Some(path), _) => Some(Unlock::Identities(identities(path)?)),
        (None, Some(path)) => Some(Unlock::Passphrase(passphrase(path)?)),
        (None, None) => None,
    };
    let target = Target {
        data_dir: data_dir(config)?,
        trust_domain: &config.trust_domain,
        backdate: config.ttls.backdate,
    };
    let choice = Choice {
        unlock,
        keys: args.keys.clone(),
        new_authorities: args.new_authorities,
        trust: args.trust.clone(),
        keep_tokens: args.keep_tokens,
        accept_rollback: args.accept_rollback,
        dry_run: args.dry_run,
    };
    let restored = super::restore::restore(&target, &args.from, &choice, now()?, |files| files).await?;
    Ok(say::restored(&restored, &choice, args.output))
}

fn lock(args: &BackupArgs) -> Result<Option<Lock>, BackupError> {
    if args.without_keys {
        return Ok(None);
    }
    if let Some(path) = &args.passphrase_file {
        let passphrase = passphrase(path)?;
        if passphrase.len() < SHORTEST {
            return Err(BackupError::Choice(
                "a passphrase needs 12 characters at least: somebody may guess for years",
            ));
        }
        return Ok(Some(Lock::Passphrase {
            passphrase,
            log_n: WORK,
        }));
    }
    let mut recipients = args.recipient.clone();
    if let Some(path) = &args.recipient_file {
        recipients.extend(lines(&read(path, false)?).map(str::to_owned));
    }
    let recipients: Vec<Recipient> = recipients
        .iter()
        .map(|text| text.trim().parse())
        .collect::<Result<_, _>>()?;
    match recipients.is_empty() || recipients.len() > MOST_RECIPIENTS {
        true => Err(BackupError::Choice("a backup is sealed for 1 to 32 recipients")),
        false => Ok(Some(Lock::Recipients(recipients))),
    }
}

fn identities(path: &Path) -> Result<Vec<Identity>, BackupError> {
    let text = read(path, true)?;
    let identities: Vec<Identity> = lines(&text).map(str::parse).collect::<Result<_, AgeError>>()?;
    match identities.is_empty() {
        true => Err(AgeError::NoIdentity.into()),
        false => Ok(identities),
    }
}

fn passphrase(path: &Path) -> Result<Passphrase, BackupError> {
    let text = read(path, true)?;
    let line = text.lines().next().unwrap_or_default();
    match line.is_empty() {
        true => Err(BackupError::Choice(
            "the first line of the passphrase file is empty",
        )),
        false => Ok(Passphrase::new(Zeroizing::new(line.as_bytes().to_vec()))),
    }
}

/// All but comments and empty lines.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn read(path: &Path, secret: bool) -> Result<Zeroizing<String>, BackupError> {
    let cannot = |source| BackupError::Read {
        path: path.into(),
        source,
    };
    let file = std::fs::File::open(path).map_err(cannot)?;
    let found = file.metadata().map_err(cannot)?;
    let mode = found.permissions().mode() & 0o7777;
    // A pipe of a password manager has its own.
    if secret && found.is_file() && mode & 0o077 != 0 {
        let path = path.to_owned();
        return Err(StoreError::TooOpen { path, mode }.into());
    }
    // Room for all of it at once: growing would leave copies of a secret behind.
    let mut text = Zeroizing::new(String::with_capacity(MOST_TEXT));
    let limit = u64::try_from(MOST_TEXT).unwrap_or(u64::MAX);
    file.take(limit).read_to_string(&mut text).map_err(cannot)?;
    Ok(text)
}

fn key(out: &Path) -> Result<String, BackupError> {
    let identity = Identity::generate()?;
    let recipient = identity.recipient();
    let text = Zeroizing::new(format!("# public key: {recipient}\n{}\n", *identity.reveal()));
    let mut file = FreshFile::begin(out)?;
    file.write(text.as_bytes())?;
    file.commit()?;
    Ok(recipient.to_string())
}

fn data_dir(config: &ServerConfig) -> Result<&Path, BackupError> {
    match config.postgres {
        None => config.data_dir.as_deref().ok_or(IN_MEMORY),
        Some(_) => Err(BackupError::Choice(
            "the registry is in PostgreSQL: back that up with its own tools, and the data directory of each server with it",
        )),
    }
}

fn now() -> Result<UnixTime, BackupError> {
    SystemClock.now().ok_or(BackupError::NoClock)
}

const IN_MEMORY: BackupError = BackupError::Choice("a server that keeps everything in memory has no backup");
const SHORTEST: usize = 12;
/// 128 MiB and about a second for each guess.
const WORK: u8 = 17;
const MOST_RECIPIENTS: usize = 32;
const MOST_TEXT: usize = 64 * 1024;
