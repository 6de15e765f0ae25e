//! What `[publish]` says. Invariant: what it promises to serve can be served: the certificate fits its key, and the issuer leads here.

use std::net::SocketAddr;
use std::time::Duration;

use landfast_daemon::config::ConfigError;
use landfast_daemon::error_chain;

use super::raw::RawPublish;
use super::{Checker, MAX_LISTEN};
use crate::publish::{CertificateFiles, Issuer, PublishConfig, WebConfig, is_plain_path};

impl Checker<'_> {
    /// `ca` is the life of an authority.
    pub(super) fn publish(
        &self,
        raw: RawPublish,
        jwt_issuer: Option<&str>,
        ca: Duration,
    ) -> Result<PublishConfig, ConfigError> {
        let listen = self.listen("publish.listen", &raw.listen)?;
        let spiffe_listen = self.listen("publish.spiffe_listen", &raw.spiffe_listen)?;
        if listen.is_empty() && spiffe_listen.is_empty() {
            let expected = "one address at least, here or in publish.spiffe_listen";
            return Err(self.invalid("publish.listen", "[]", expected));
        }
        let path = raw.path.unwrap_or_else(|| "/".to_owned());
        if !is_plain_path(&path) {
            let expected = "a path such as \"/\" or \"/bundle\", of letters, digits and -._~";
            return Err(self.invalid("publish.path", &path, expected));
        }
        let wanted = raw
            .oidc
            .unwrap_or_else(|| jwt_issuer.is_some() && !listen.is_empty());
        let issuer = match wanted {
            true => Some(self.issuer(jwt_issuer, &path)?),
            false => None,
        };
        let web = match (listen.is_empty(), raw.cert_file, raw.key_file) {
            (false, Some(cert), Some(key)) => {
                let certificate = CertificateFiles {
                    cert: self.absolute("publish.cert_file", cert)?,
                    key: self.absolute("publish.key_file", key)?,
                };
                if self.strict
                    && let Err(error) = certificate.check()
                {
                    let shown = certificate.cert.display().to_string();
                    let expected = format!("a certificate with its key: {}", error_chain(&error));
                    return Err(self.invalid("publish.cert_file", &shown, &expected));
                }
                Some(WebConfig {
                    listen,
                    certificate,
                    issuer,
                    margo: None,
                    tls12: true,
                })
            }
            (false, ..) => {
                let expected = "publish.cert_file and publish.key_file beside it";
                return Err(self.invalid("publish.listen", &format!("{listen:?}"), expected));
            }
            (true, None, None) if issuer.is_none() => None,
            (true, ..) => {
                let expected = "one address at least: cert_file, key_file and oidc are for it";
                return Err(self.invalid("publish.listen", "[]", expected));
            }
        };
        // So that those who ask once in that time know an authority well before it signs (SPIFFE Federation §4.1): it is prepared a third
        // of its life ahead.
        let most = (ca / 12).min(MOST_HINT);
        let least = LEAST_HINT.min(most);
        let refresh_hint = raw
            .refresh_hint
            .map_or_else(|| HINT.min(most), |hint| hint.duration());
        if refresh_hint < least || refresh_hint > most {
            let shown = format!("{} s", refresh_hint.as_secs());
            let expected = format!(
                "{} s to {} s, a twelfth of ttl.ca or a day",
                least.as_secs(),
                most.as_secs()
            );
            return Err(self.invalid("publish.refresh_hint", &shown, &expected));
        }
        Ok(PublishConfig {
            web,
            spiffe_listen,
            path,
            refresh_hint,
        })
    }

    fn issuer(&self, jwt_issuer: Option<&str>, bundle: &str) -> Result<Issuer, ConfigError> {
        let Some(text) = jwt_issuer else {
            return Err(self.invalid("publish.oidc", "true", "jwt_issuer to be given as well"));
        };
        let expected = "an https URL without query, such as \"https://oidc.plant.example\", since [publish] serves OIDC discovery under it; or publish.oidc = false";
        let issuer = Issuer::parse(text).ok_or_else(|| self.invalid("jwt_issuer", text, expected))?;
        if [issuer.discovery_path(), issuer.keys_path()].contains(&bundle.to_owned()) {
            let expected = "another path than those of OIDC discovery";
            return Err(self.invalid("publish.path", bundle, expected));
        }
        Ok(issuer)
    }

    fn listen(&self, key: &str, texts: &[String]) -> Result<Vec<SocketAddr>, ConfigError> {
        if texts.len() > MAX_LISTEN {
            let expected = format!("at most {MAX_LISTEN} addresses");
            return Err(self.invalid(key, &format!("{} addresses", texts.len()), &expected));
        }
        texts.iter().map(|text| self.address(key, text)).collect()
    }
}

const HINT: Duration = Duration::from_secs(300);
const LEAST_HINT: Duration = Duration::from_secs(10);
const MOST_HINT: Duration = Duration::from_secs(86_400);

#[cfg(test)]
pub(super) mod tests;
