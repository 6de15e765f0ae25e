//! `[[federation]]` and `federation_danger_networks`: whom the server federates with by its file.

use std::collections::BTreeSet;
use std::path::Path;

use landfast_daemon::config::ConfigError;
use landfast_daemon::error_chain;
use landfast_identity::{Bundle, SpiffeId, TrustDomain};

use super::raw::RawFederation;
use super::{Checker, read};
use crate::federation::{DangerNetworks, FederationConfig, StaticRelationship, read_roots};
use crate::registry::{EndpointUrl, MAX_RELATIONSHIPS, Profile, Relationship};

impl Checker<'_> {
    pub(super) fn federation(
        &self,
        tables: &[RawFederation],
        danger: &[String],
        ours: &TrustDomain,
    ) -> Result<FederationConfig, ConfigError> {
        let networks = danger.iter().map(String::as_str);
        let danger_networks = DangerNetworks::parse(networks).map_err(|text| {
            self.invalid(
                "federation_danger_networks",
                &text,
                "networks such as \"127.0.0.0/8\" or \"fe80::/10\"",
            )
        })?;
        if tables.len() > MAX_RELATIONSHIPS {
            let count = tables.len().to_string();
            return Err(self.invalid(
                "federation",
                &count,
                &format!("at most {MAX_RELATIONSHIPS} tables"),
            ));
        }
        let mut seen = BTreeSet::new();
        let mut relationships = Vec::with_capacity(tables.len());
        for table in tables {
            let made = self.relationship(table, ours)?;
            if !seen.insert(made.relationship.trust_domain.clone()) {
                return Err(self.invalid(
                    "federation.trust_domain",
                    &table.trust_domain,
                    "one table a trust domain",
                ));
            }
            relationships.push(made);
        }
        Ok(FederationConfig {
            relationships,
            danger_networks,
        })
    }

    fn relationship(
        &self,
        raw: &RawFederation,
        ours: &TrustDomain,
    ) -> Result<StaticRelationship, ConfigError> {
        let trust_domain = TrustDomain::parse(&raw.trust_domain)
            .ok()
            .filter(|name| name != ours)
            .ok_or_else(|| {
                let expected = format!("the name of another trust domain than {ours}");
                self.invalid("federation.trust_domain", &raw.trust_domain, &expected)
            })?;
        let url = EndpointUrl::parse(&raw.url)
            .map_err(|error| self.invalid("federation.url", &raw.url, &error_chain(&error)))?;
        let profile = self.profile(raw)?;
        let bundle = raw
            .bundle
            .as_deref()
            .map(|path| self.bundle(path, &trust_domain))
            .transpose()?;
        let web_roots = match &raw.web_roots {
            Some(path) if profile == Profile::Web => Some(read_roots(path).map_err(|expected| {
                self.invalid("federation.web_roots", &path.display().to_string(), &expected)
            })?),
            Some(path) => {
                let shown = path.display().to_string();
                return Err(self.invalid(
                    "federation.web_roots",
                    &shown,
                    "none, with profile = \"https_spiffe\"",
                ));
            }
            None => None,
        };
        Ok(StaticRelationship {
            relationship: Relationship {
                trust_domain,
                url,
                profile,
            },
            bundle,
            web_roots,
        })
    }

    fn profile(&self, raw: &RawFederation) -> Result<Profile, ConfigError> {
        match (raw.profile.as_str(), &raw.endpoint_spiffe_id) {
            ("https_web", None) => Ok(Profile::Web),
            ("https_spiffe", Some(text)) => SpiffeId::parse(text)
                .map(|endpoint_id| Profile::Spiffe { endpoint_id })
                .map_err(|error| {
                    self.invalid(
                        "federation.endpoint_spiffe_id",
                        text,
                        &format!("a SPIFFE ID: {error}"),
                    )
                }),
            ("https_spiffe", None) => Err(self.invalid(
                "federation.endpoint_spiffe_id",
                "",
                "the SPIFFE ID of the endpoint, with profile = \"https_spiffe\"",
            )),
            ("https_web", Some(text)) => Err(self.invalid(
                "federation.endpoint_spiffe_id",
                text,
                "none, with profile = \"https_web\"",
            )),
            (other, _) => Err(self.invalid("federation.profile", other, "\"https_web\" or \"https_spiffe\"")),
        }
    }

    fn bundle(&self, path: &Path, trust_domain: &TrustDomain) -> Result<Bundle, ConfigError> {
        let (key, shown) = ("federation.bundle", path.display().to_string());
        let text =
            read(path).map_err(|error| self.invalid(key, &shown, &format!("a readable file: {error}")))?;
        let bundle = match text.trim_start().starts_with('{') {
            true => Bundle::from_jwks(trust_domain.clone(), text.as_bytes()),
            false => Bundle::from_pem(trust_domain.clone(), &text),
        };
        bundle.map_err(|error| {
            let expected = format!(
                "a bundle document or certificates in PEM: {}",
                error_chain(&error)
            );
            self.invalid(key, &shown, &expected)
        })
    }
}

#[cfg(test)]
mod tests;
