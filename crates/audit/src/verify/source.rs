//! Where a log is read from. Invariant: no more than the limit is read, whatever is there.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// The files of a log, wherever they are.
pub trait Source: Sync {
    /// A file below the directory of the log; `None` when there is none.
    ///
    /// # Errors
    /// It cannot be read, or is longer than `limit`.
    fn read(&self, path: &str, limit: u64) -> io::Result<Option<Vec<u8>>>;

    /// Where that is, for people.
    fn describe(&self, path: &str) -> String;
}

/// A directory.
#[derive(Debug, Clone)]
pub struct DirSource(PathBuf);

impl DirSource {
    /// The directory that has the checkpoint.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self(directory.to_owned())
    }
}

impl Source for DirSource {
    fn read(&self, path: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.0.join(path)) {
            Err(error) if is_missing(&error) => return Ok(None),
            opened => opened?,
        };
        let length = file.metadata()?.len();
        if length > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0) + 1);
        file.take(limit).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn describe(&self, path: &str) -> String {
        self.0.join(path).display().to_string()
    }
}

/// A log of which a part is elsewhere: a file is read from the first place that has it.
pub struct LayeredSource(Vec<Box<dyn Source>>);

impl LayeredSource {
    /// The log in this directory, and then its archives.
    #[must_use]
    pub fn new(directory: &Path, archives: &[PathBuf]) -> Self {
        Self::over(Box::new(DirSource::new(directory)), archives)
    }

    /// The log, wherever it is, and then its archives.
    #[must_use]
    pub fn over(log: Box<dyn Source>, archives: &[PathBuf]) -> Self {
        let archives = archives
            .iter()
            .map(|archive| -> Box<dyn Source> { Box::new(DirSource::new(archive)) });
        Self(std::iter::once(log).chain(archives).collect())
    }
}

impl Source for LayeredSource {
    fn read(&self, path: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let mut found = self.0.iter().map(|place| place.read(path, limit));
        found.find(|found| !matches!(found, Ok(None))).unwrap_or(Ok(None))
    }

    fn describe(&self, path: &str) -> String {
        // What is nowhere was looked for in the log first.
        let mut places = self.0.iter().map(AsRef::as_ref);
        let place = match self.0.as_slice() {
            [only] => Some(only.as_ref()),
            [first, ..] => {
                let has_it = |place: &&dyn Source| !matches!(place.read(path, MAX_FILE_BYTES), Ok(None));
                places.find(has_it).or_else(|| Some(first.as_ref()))
            }
            [] => None,
        };
        place.map_or_else(|| path.to_owned(), |place| place.describe(path))
    }
}

impl std::fmt::Debug for LayeredSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|place| place.describe("")))
            .finish()
    }
}

/// The longest file of a log: 256 records of the greatest length.
pub(super) const MAX_FILE_BYTES: u64 = 256 * (65_535 + 2);

fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
