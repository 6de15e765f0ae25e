//! The files of `[upstream.disk]`, read. Invariant: a key that others could have read is not used.

use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use landfast_identity::{
    Certificate, IssueError, KeyError, SuppliedKey, UnixTime, X509Authority, X509Error, parse_chain_pem,
};
use ring::digest::{Context, SHA256};
use zeroize::Zeroizing;

use super::{DiskConfig, Loaded};
use crate::authority::DescentError;

/// Of what is in the files, or of why they cannot be read; and what they are.
pub(super) fn read(files: &DiskConfig) -> (Vec<u8>, Result<Loaded, DiskError>) {
    match texts(files) {
        Err(error) => (landfast_daemon::error_chain(&error).into_bytes(), Err(error)),
        Ok(texts) => {
            let mut all = Context::new(&SHA256);
            let bundle = texts.bundle.as_deref().map_or("", String::as_str);
            for text in [texts.cert.as_str(), texts.key.as_str(), bundle] {
                all.update(&text.len().to_be_bytes());
                all.update(text.as_bytes());
            }
            (all.finish().as_ref().to_vec(), parse(files, &texts))
        }
    }
}

struct Texts {
    cert: Zeroizing<String>,
    key: Zeroizing<String>,
    bundle: Option<Zeroizing<String>>,
}

fn texts(files: &DiskConfig) -> Result<Texts, DiskError> {
    let mode = file(&files.key)?.1;
    if mode & 0o077 != 0 {
        return Err(DiskError::Exposed {
            path: files.key.clone(),
            mode,
        });
    }
    Ok(Texts {
        cert: file(&files.cert)?.0,
        key: file(&files.key)?.0,
        bundle: match &files.bundle {
            Some(path) => Some(file(path)?.0),
            None => None,
        },
    })
}

fn parse(files: &DiskConfig, texts: &Texts) -> Result<Loaded, DiskError> {
    let certificates = |path: &Path, text: &str| {
        let path = path.to_owned();
        parse_chain_pem(text).map_err(|source| DiskError::Certificates { path, source })
    };
    let key = SuppliedKey::from_pem(&texts.key).map_err(|source| DiskError::Key {
        path: files.key.clone(),
        source,
    })?;
    let mut chain = certificates(&files.cert, &texts.cert)?;
    let roots = match (&files.bundle, &texts.bundle) {
        (Some(path), Some(text)) => certificates(path, text)?,
        // As SPIRE: then it is a root itself.
        _ if chain.len() == 1 => chain.clone(),
        _ => return Err(DiskError::NoBundle),
    };
    if chain.len() > MAX_CHAIN || roots.len() > MAX_ROOTS {
        return Err(DiskError::TooMany {
            chain: chain.len(),
            roots: roots.len(),
        });
    }
    let certificate = chain.first().cloned().ok_or(DiskError::NotRead)?;
    // A root in the file of the certificate is where many tools write it.
    chain.retain(|link| !roots.contains(link));
    let untainted = |certificate: Certificate| X509Authority {
        certificate,
        tainted: false,
    };
    Ok(Loaded {
        certificate,
        chain,
        key,
        roots: roots.into_iter().map(untainted).collect(),
    })
}

/// The text of a regular file, and its permission bits. At most [`MAX_FILE`] bytes: a device or a pipe named by mistake must neither fill the
/// memory nor hold us.
fn file(path: &Path) -> Result<(Zeroizing<String>, u32), DiskError> {
    let read = || {
        let found = std::fs::metadata(path)?;
        if !found.is_file() {
            return Err(io::Error::other("it is not a file"));
        }
        let open = std::fs::File::open(path)?;
        // Of what was opened: the name may lead elsewhere by now.
        let mode = open.metadata()?.permissions().mode() & 0o7777;
        let mut text = Zeroizing::new(String::with_capacity(16 * 1024));
        open.take(MAX_FILE + 1).read_to_string(&mut text)?;
        match text.len() as u64 > MAX_FILE {
            true => Err(io::Error::other(format!("it is larger than {MAX_FILE} bytes"))),
            false => Ok((text, mode)),
        }
    };
    read().map_err(|source| DiskError::Unreadable {
        path: path.to_owned(),
        source,
    })
}

/// Why the files are of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    #[error("cannot read {}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error(
        "{} can be read or written by others (mode {mode:04o}): run `chmod 600` on it, and have a new key signed if they may have", path.display()
    )]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{} holds no private key that can be used: EC P-256, EC P-384 or RSA in PEM, not encrypted", path.display())]
    Key { path: PathBuf, source: KeyError },
    #[error("{} holds no certificates that can be used", path.display())]
    Certificates { path: PathBuf, source: X509Error },
    #[error(
        "upstream.disk.cert_file holds more than a root, and no upstream.disk.bundle_file says which is the root: give one"
    )]
    NoBundle,
    #[error(
        "{chain} certificates and {roots} roots are more than the {MAX_CHAIN} and {MAX_ROOTS} that are accepted"
    )]
    TooMany { chain: usize, roots: usize },
    #[error(
        "the key is not that of the first certificate: upstream.disk.key_file and upstream.disk.cert_file have to belong together"
    )]
    OtherKey,
    #[error("the certificate, or one above it, ended at {ends}: have the root sign a new one")]
    Expired { ends: UnixTime },
    #[error("the certificate cannot be that of an authority above ours")]
    Unfit { source: Box<DescentError> },
    #[error("it cannot sign")]
    Sign { source: IssueError },
    #[error("no key can be made to try it")]
    Try { source: KeyError },
    #[error("they have not been read")]
    NotRead,
}

const MAX_FILE: u64 = 256 * 1024;
/// Peers follow five links from an SVID to its root.
const MAX_CHAIN: usize = 4;
const MAX_ROOTS: usize = 16;
