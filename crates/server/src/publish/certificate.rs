//! The operator's certificate and its key, from files. Invariant: what is shown is whole and fits its key; files that are no good change nothing, and
//! before there were good ones nothing is shown.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use landfast_daemon::error_chain;
use ring::digest::{Context, SHA256};
use rustls::client::verify_server_name;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::Notify;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

/// Where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, then what is between it and its authority, in PEM.
    pub cert: PathBuf,
    /// Its private key in PEM: PKCS #8, PKCS #1 or SEC 1, not encrypted.
    pub key: PathBuf,
}

/// The certificate in use.
#[derive(Debug)]
pub(super) struct Certificates {
    files: CertificateFiles,
    /// The names that clients look for, as far as we know them, with the key that says so.
    hosts: Vec<(&'static str, String)>,
    current: ArcSwapOption<CertifiedKey>,
    /// What was in the files when they were last tried.
    tried: Mutex<Fingerprint>,
    /// Told of each new one; for one who waits.
    taken: Notify,
}

/// What a look at the files found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    NoChange,
    Taken,
    /// And complained of.
    Refused,
}

/// Of both files, or of why they cannot be read.
type Fingerprint = Vec<u8>;

impl CertificateFiles {
    /// Reads and checks both.
    ///
    /// # Errors
    /// [`CertificateError`] names the file.
    pub(crate) fn check(&self) -> Result<(), CertificateError> {
        self.look().1.map(drop)
    }

    fn look(&self) -> (Fingerprint, Result<CertifiedKey, CertificateError>) {
        match self.read() {
            Err(error) => (error_chain(&error).into_bytes(), Err(error)),
            Ok((cert, key)) => {
                let mut both = Context::new(&SHA256);
                both.update(&cert.len().to_be_bytes());
                both.update(&cert);
                both.update(&key);
                (both.finish().as_ref().to_vec(), self.parse(&cert, &key))
            }
        }
    }

    fn read(&self) -> Result<(Vec<u8>, Zeroizing<Vec<u8>>), CertificateError> {
        let read = |path: &Path| {
            read(path).map_err(|source| CertificateError::Unreadable {
                path: path.to_owned(),
                source,
            })
        };
        Ok((read(&self.cert)?, Zeroizing::new(read(&self.key)?)))
    }

    fn parse(&self, cert: &[u8], key: &[u8]) -> Result<CertifiedKey, CertificateError> {
        let malformed = |path: &Path| {
            let path = path.to_owned();
            move |source| CertificateError::Pem { path, source }
        };
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(cert)
            .collect::<Result<_, _>>()
            .map_err(malformed(&self.cert))?;
        if chain.is_empty() || chain.len() > MAX_CHAIN {
            return Err(CertificateError::Chain {
                path: self.cert.clone(),
                count: chain.len(),
            });
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(malformed(&self.key))?;
        let provider = rustls::crypto::ring::default_provider();
        CertifiedKey::from_der(chain, key, &provider).map_err(|source| CertificateError::Refused {
            cert: self.cert.clone(),
            key: self.key.clone(),
            source,
        })
    }
}

impl Certificates {
    /// With what is in the files now. A power cut between the two writes of a renewal must not keep a whole server from starting: when they
    /// are no good the log says so, and [`Self::usable`] waits for others.
    pub(super) fn open(files: CertificateFiles, hosts: Vec<(&'static str, String)>) -> Self {
        let (fingerprint, loaded) = files.look();
        if let Err(error) = &loaded {
            let error = error_chain(error);
            tracing::error!(
                error,
                "the HTTPS certificate cannot be used: what is published with it stays closed until it can"
            );
        }
        let certificates = Self {
            files,
            hosts,
            current: ArcSwapOption::from_pointee(loaded.ok()),
            tried: Mutex::new(fingerprint),
            taken: Notify::new(),
        };
        certificates.describe();
        certificates
    }

    /// Whether there is anything to show.
    pub(super) fn are_usable(&self) -> bool {
        self.current.load().is_some()
    }

    /// Until there is.
    pub(super) async fn usable(&self) {
        while !self.are_usable() {
            self.taken.notified().await;
        }
    }

    /// Follows the files, for ever.
    pub(super) async fn keep(self: Arc<Self>) {
        loop {
            tokio::time::sleep(EVERY).await;
            let this = Arc::clone(&self);
            if let Err(error) = tokio::task::spawn_blocking(move || this.look_again()).await {
                tracing::error!(%error, "cannot look at the files of the HTTPS certificate");
            }
        }
    }

    /// Takes what has changed. A content that is no good is complained of once, not at every look. Tools that renew write one file after the
    /// other: between the two they do not fit, and the next look finds them well.
    pub(super) fn look_again(&self) -> Seen {
        let (fingerprint, loaded) = self.files.look();
        let before = {
            let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *tried, fingerprint.clone())
        };
        if before == fingerprint {
            return Seen::NoChange;
        }
        match loaded {
            Ok(certified) => {
                self.current.store(Some(Arc::new(certified)));
                self.taken.notify_one();
                tracing::info!(path = %self.files.cert.display(), "showing the new HTTPS certificate");
                self.describe();
                Seen::Taken
            }
            Err(error) => {
                let error = error_chain(&error);
                let before = match self.are_usable() {
                    true => "the one before stays",
                    false => "there is none before it",
                };
                tracing::error!(error, before, "the new HTTPS certificate cannot be used");
                Seen::Refused
            }
        }
    }

    /// Until when it is valid, and whether clients of what we know the host of will accept it.
    fn describe(&self) {
        let current = self.current.load();
        let Some(leaf) = current.as_ref().and_then(|current| current.cert.first()) else {
            return;
        };
        if let Ok((_, parsed)) = X509Certificate::from_der(leaf) {
            let end = u32::try_from(parsed.validity().not_after.timestamp()).unwrap_or(u32::MAX);
            metrics::gauge!("landfast_server_https_certificate_expiry_timestamp_seconds").set(f64::from(end));
        }
        for (key, host) in self.hosts.iter().filter(|(_, host)| !covers(leaf, host)) {
            tracing::warn!(
                host,
                path = %self.files.cert.display(),
                "the HTTPS certificate is not for the host of {key}: who looks for the keys there refuses it, unless something in front of the server has another one"
            );
        }
    }
}

impl ResolvesServerCert for Certificates {
    /// Whatever name the client asks for: there is one.
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.load_full()
    }
}

fn covers(leaf: &CertificateDer<'_>, host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host);
    let parsed = ParsedCertificate::try_from(leaf);
    name.is_ok_and(|name| parsed.is_ok_and(|parsed| verify_server_name(&parsed, &name).is_ok()))
}

/// At most [`MAX_FILE`] bytes of a regular file: a device or a pipe named by mistake must neither fill the memory nor hold us.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut content = Vec::with_capacity(16 * 1024);
    std::fs::File::open(path)?
        .take(MAX_FILE + 1)
        .read_to_end(&mut content)?;
    if content.len() as u64 > MAX_FILE {
        return Err(io::Error::other(format!("it is larger than {MAX_FILE} bytes")));
    }
    Ok(content)
}

/// Why files are no certificate to serve with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// Not there, not ours to read, too large.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Broken, or without what it should have.
    #[error("{} has nothing in PEM that can be used; a key must not be encrypted", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// None, or too many.
    #[error("{} has {count} certificates, expected 1 to {MAX_CHAIN}", path.display())]
    Chain {
        /// Which.
        path: PathBuf,
        /// How many.
        count: usize,
    },
    /// Of a kind we do not know, or not belonging together.
    #[error("certificate {} and key {} cannot be used together", cert.display(), key.display())]
    Refused {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

/// How soon a renewed certificate is shown.
const EVERY: Duration = Duration::from_secs(10);
const MAX_FILE: u64 = 256 * 1024;
const MAX_CHAIN: usize = 16;
