//! A backup that was read from its first to its last byte. Invariant: whatever is taken from it has the digest that its manifest says.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};
use zeroize::Zeroizing;

use super::age::{self, Unlock};
use super::error::{ArchiveError, BackupError};
use super::keys::Keys;
use super::manifest::{self, Manifest};
use super::rows;
use super::tar::{self, Member};
use crate::datastore::rows::{Table, Value};
use crate::random::hex;

/// See the module.
#[derive(Debug)]
pub(super) struct Archive {
    path: PathBuf,
    file: File,
    members: Vec<Member>,
    pub(super) manifest: Manifest,
}

impl Archive {
    /// Reads all of it, and believes nothing before.
    pub(super) fn open(path: &Path) -> Result<Self, BackupError> {
        let opened = File::open(path).map_err(ArchiveError::from).and_then(|file| {
            let members = recognise(&file)?;
            let manifest = verify(&members)?;
            Ok((file, members, manifest))
        });
        let (file, members, manifest) = opened.map_err(|source| BackupError::Archive {
            path: path.into(),
            source,
        })?;
        Ok(Self {
            path: path.into(),
            file,
            members,
            manifest,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The names of the tables, in the order of the archive.
    pub(super) fn tables(&self) -> impl Iterator<Item = &str> {
        self.members.iter().filter_map(|member| {
            let name = member.name.strip_prefix(manifest::TABLES)?;
            name.strip_suffix(manifest::JSON_LINES)
        })
    }

    /// Reads a table; `take` is given its head and its rows.
    pub(super) fn table<T>(
        &self,
        name: &str,
        take: impl FnOnce(
            &Table,
            &mut dyn Iterator<Item = Result<Vec<Value>, BackupError>>,
        ) -> Result<T, BackupError>,
    ) -> Result<T, BackupError> {
        let name = manifest::table_part(name);
        let member = self.members.iter().find(|member| member.name == name);
        let member = member.ok_or_else(|| self.wrong(ArchiveError::damaged("a table is missing")))?;
        let mut lines = Lines::new(&self.file, member).map_err(|source| self.wrong(source))?;
        let head = lines.next_line().map_err(|source| self.wrong(source))?;
        let head = rows::read_head(&head.unwrap_or_default()).map_err(|source| self.wrong(source))?;
        if manifest::table_part(&head.name) != name {
            return Err(self.wrong(ArchiveError::damaged("a table has the place of another")));
        }
        let mut read = std::iter::from_fn(|| {
            let line = lines.next_line().transpose()?;
            let row = line.and_then(|line| rows::read_row(&head, &line));
            Some(row.map_err(|source| self.wrong(source)))
        });
        let taken = take(&head, &mut read)?;
        // The file may have been changed since it was verified.
        match lines.ends_as(member) {
            true => Ok(taken),
            false => Err(self.wrong(ArchiveError::damaged("it was changed while it was read"))),
        }
    }

    /// The keys, opened; `None` when there are none in it.
    pub(super) fn keys(&self, unlock: Option<&Unlock>) -> Result<Option<Keys>, BackupError> {
        let (Some(keys), Some(member)) = (
            &self.manifest.keys,
            self.members.iter().find(|member| member.name == manifest::KEYS),
        ) else {
            return Ok(None);
        };
        let unlock = unlock.ok_or_else(|| BackupError::NeedsUnlock {
            sealed: keys.sealed(),
        })?;
        let opened: Result<Zeroizing<Vec<u8>>, _> = age::open(&member.content, unlock);
        let keys = opened
            .map_err(ArchiveError::from)
            .and_then(|text| Keys::from_text(&text, &self.manifest.bound()));
        keys.map(Some).map_err(|source| self.wrong(source))
    }

    fn wrong(&self, source: ArchiveError) -> BackupError {
        BackupError::Archive {
            path: self.path.clone(),
            source,
        }
    }
}

/// Looks at the first part before the others: what is no backup is not called damaged.
fn recognise(file: &File) -> Result<Vec<Member>, ArchiveError> {
    let mut start = Vec::new();
    let length = tar::BLOCK + FIRST;
    file.take(length as u64).read_to_end(&mut start)?;
    let first = start.get(tar::BLOCK..).unwrap_or_default();
    let named = start.starts_with(&[manifest::FORMAT.as_bytes(), b"\0"].concat());
    if !named || !first.starts_with(manifest::FORMAT_ANY) {
        return Err(ArchiveError::NotOurs);
    }
    if !first.starts_with(manifest::FORMAT_1) {
        let line = first.split(|b| *b == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        return Err(ArchiveError::NewerFormat(line.trim_end_matches('\0').to_owned()));
    }
    let mut file = file;
    file.seek(SeekFrom::Start(0))?;
    tar::members(BufReader::with_capacity(BUFFER, file))
}

fn verify(members: &[Member]) -> Result<Manifest, ArchiveError> {
    let [first, parts @ .., manifest, digest] = members else {
        return Err(ArchiveError::damaged("parts of it are missing"));
    };
    let names = [&first.name, &manifest.name, &digest.name];
    if names != [manifest::FORMAT, manifest::MANIFEST, manifest::DIGEST]
        || first.content != manifest::FORMAT_1
    {
        return Err(ArchiveError::damaged("its parts are not in their order"));
    }
    if digest.content != format!("{}  {}\n", hex(&manifest.sha256), manifest::MANIFEST).as_bytes() {
        return Err(ArchiveError::damaged(
            "its manifest is not the one that was written",
        ));
    }
    let manifest = Manifest::read(&manifest.content)?;
    if manifest.parts.len() != parts.len() {
        return Err(ArchiveError::damaged("its manifest names other parts"));
    }
    for (part, said) in parts.iter().zip(&manifest.parts) {
        let is_table = part.name.starts_with(manifest::TABLES);
        let fits = part.name == said.name
            && part.size == said.bytes
            && hex(&part.sha256) == said.sha256
            && said.rows.is_some() == is_table
            && (is_table || (part.name == manifest::KEYS && part.size <= tar::SMALL));
        if !fits {
            return Err(ArchiveError::damaged(format!(
                "{} is not what was written",
                said.name
            )));
        }
    }
    let keys = parts.iter().filter(|part| part.name == manifest::KEYS).count();
    if keys != usize::from(manifest.keys.is_some()) {
        return Err(ArchiveError::damaged("its manifest says other things of keys"));
    }
    Ok(manifest)
}

/// The lines of a part.
struct Lines<'a> {
    from: BufReader<std::io::Take<&'a File>>,
    sum: Context,
}

impl<'a> Lines<'a> {
    fn new(mut file: &'a File, member: &Member) -> Result<Self, ArchiveError> {
        file.seek(SeekFrom::Start(member.place))?;
        Ok(Self {
            from: BufReader::with_capacity(BUFFER, file.take(member.size)),
            sum: Context::new(&SHA256),
        })
    }

    fn next_line(&mut self) -> Result<Option<String>, ArchiveError> {
        let mut line = String::new();
        (&mut self.from).take(MOST_LINE).read_line(&mut line)?;
        self.sum.update(line.as_bytes());
        match line.pop() {
            None => Ok(None),
            Some('\n') => Ok(Some(line)),
            Some(_) => Err(ArchiveError::damaged("a row is too long, or has no end")),
        }
    }

    fn ends_as(self, member: &Member) -> bool {
        self.sum.finish().as_ref() == member.sha256
    }
}

const FIRST: usize = 64;
const BUFFER: usize = 256 * 1024;
/// A federated bundle is the longest there is: 1 MiB.
const MOST_LINE: u64 = 16 * 1024 * 1024;
