//! The files of `tests/vectors`: a header of `name: value` lines, an empty line, a body.

use std::path::{Path, PathBuf};

/// One file.
#[derive(Debug)]
pub struct Vector {
    /// Its name without folder and extension.
    pub name: String,
    header: Vec<(String, String)>,
    /// What stands under the header.
    pub body: String,
}

impl Vector {
    /// All files of a folder, by name.
    ///
    /// # Panics
    /// When a file cannot be read: fuzzing without the vectors would look as if it had covered them.
    pub fn all(folder: &str) -> Vec<Self> {
        let folder = repository().join("tests/vectors").join(folder);
        let files = std::fs::read_dir(&folder).expect("tests/vectors is part of the repository");
        let mut all: Vec<Self> = files
            .map(|file| Self::read(&file.expect("a folder that can be listed").path()))
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).expect("a vector is text");
        let (header, body) = text.split_once("\n\n").unwrap_or((&text, ""));
        let fields = header.lines().filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((
                name.to_owned(),
                value.strip_prefix(' ').unwrap_or(value).to_owned(),
            ))
        });
        Self {
            name: path
                .file_stem()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default(),
            header: fields.collect(),
            body: body.to_owned(),
        }
    }

    /// A line of the header.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    }

    /// The lines of the header.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.header
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// What should come out: `ok`, or the name of the error.
    pub fn expected(&self) -> &str {
        self.field("expect").unwrap_or_default()
    }
}

/// The PEM blocks of a label, in order. Written here, so that the seeds do not hang on the code under test.
pub fn pem(text: &str, label: &str) -> Vec<Vec<u8>> {
    use base64::Engine as _;
    let (begin, end) = (
        format!("-----BEGIN {label}-----"),
        format!("-----END {label}-----"),
    );
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(&begin) {
        let Some((block, behind)) = after.split_once(&end) else {
            break;
        };
        let letters: String = block.split_whitespace().collect();
        blocks.extend(base64::engine::general_purpose::STANDARD.decode(letters).ok());
        rest = behind;
    }
    blocks
}

/// The checkout this was built from.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
