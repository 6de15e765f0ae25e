//! `[attestation]`: how the node proves what it is.
//!
//! Invariant: a key of another method is refused, and a secret is never repeated in an error.

use std::path::PathBuf;

use landfast_daemon::config::ConfigError;
use zeroize::Zeroizing;

use super::{Checker, raw::RawAttestation};
use crate::link::evidence::{Evidence, TokenSource, is_token};

impl Checker<'_> {
    pub(super) fn attestation(&self, raw: RawAttestation) -> Result<Evidence, ConfigError> {
        let foreign = |key: &str, method: &str| {
            self.invalid(
                &format!("attestation.{key}"),
                "(given)",
                &format!("no such key with method = \"{method}\""),
            )
        };
        match raw.method.as_str() {
            "join_token" => {
                if raw.certificate.is_some() || raw.private_key.is_some() {
                    return Err(foreign(
                        if raw.certificate.is_some() {
                            "certificate"
                        } else {
                            "private_key"
                        },
                        "join_token",
                    ));
                }
                match (raw.token.map(Zeroizing::new), raw.token_file) {
                    (Some(token), None) if is_token(&token) => {
                        Ok(Evidence::JoinToken(TokenSource::Inline(token)))
                    }
                    // A secret is never repeated in an error.
                    (Some(_), None) => Err(self.invalid(
                        "attestation.token",
                        "(not shown)",
                        "one word of printable characters",
                    )),
                    (None, Some(file)) => {
                        let file = self.absolute("attestation.token_file", file)?;
                        Ok(Evidence::JoinToken(TokenSource::File(file)))
                    }
                    (Some(_), Some(_)) => Err(self.invalid(
                        "attestation.token",
                        "(not shown)",
                        "either token or token_file, not both",
                    )),
                    (None, None) => Err(self.invalid(
                        "attestation.token_file",
                        "(missing)",
                        "the path of a file with a join token",
                    )),
                }
            }
            "x509pop" => {
                if raw.token.is_some() || raw.token_file.is_some() {
                    return Err(foreign(
                        if raw.token.is_some() {
                            "token"
                        } else {
                            "token_file"
                        },
                        "x509pop",
                    ));
                }
                let needed = |key: &str, path: Option<PathBuf>| {
                    let key = format!("attestation.{key}");
                    let path =
                        path.ok_or_else(|| self.invalid(&key, "(missing)", "the path of a PEM file"))?;
                    self.absolute(&key, path)
                };
                Ok(Evidence::X509Pop {
                    certificate: needed("certificate", raw.certificate)?,
                    private_key: needed("private_key", raw.private_key)?,
                })
            }
            other => Err(self.invalid("attestation.method", other, "join_token or x509pop")),
        }
    }
}
