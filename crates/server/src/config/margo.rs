//! What `[margo]` says. Invariant: discovery is on only where the bundle it leads to is served, and no administrator has an ID that it reserves.

use landfast_daemon::config::ConfigError;
use landfast_identity::SpiffeId;

use super::Checker;
use super::raw::RawMargo;
use crate::publish::{MargoDiscovery, PublishConfig};
use crate::registry::MargoPaths;

impl Checker<'_> {
    /// Puts discovery into what is published.
    pub(super) fn margo(
        &self,
        raw: Option<RawMargo>,
        publish: Option<&mut PublishConfig>,
        admin_ids: &[SpiffeId],
    ) -> Result<MargoPaths, ConfigError> {
        let Some(raw) = raw else {
            return Ok(MargoPaths::Ordinary);
        };
        let paths = MargoPaths::Reserved;
        if let Some(id) = admin_ids.iter().find(|id| paths.concern(id)) {
            let expected = "IDs that are not below /margo/: [margo] reserves these for principals, which cannot administer";
            return Err(self.invalid("admin_ids", id.as_str(), expected));
        }
        let Some(url) = raw.bundle_url else {
            let alone = [
                ("margo.discovery_path", raw.discovery_path.is_some()),
                ("margo.tls12", raw.tls12.is_some()),
            ];
            return match alone.into_iter().find(|(_, given)| *given) {
                Some((key, _)) => {
                    Err(self.invalid(key, "given", "margo.bundle_url beside it: it is for discovery"))
                }
                None => Ok(paths),
            };
        };
        let at_bundle = publish.as_ref().map(|publish| publish.path.clone());
        let Some(web) = publish.and_then(|publish| publish.web.as_mut()) else {
            let expected = "publish.listen to be given as well: the bundle and discovery are served there";
            return Err(self.invalid("margo.bundle_url", &url, expected));
        };
        let discovery = MargoDiscovery::parse(&url, raw.discovery_path.as_deref()).ok_or_else(|| {
            let expected = "an https URL without query such as \"https://trust.plant.example:8443/\", and margo.discovery_path another plain path";
            self.invalid("margo.bundle_url", &url, expected)
        })?;
        let others: Vec<String> = web
            .issuer
            .iter()
            .flat_map(|issuer| [issuer.discovery_path(), issuer.keys_path()])
            .collect();
        if others.iter().any(|other| other == discovery.bundle_path()) {
            let expected = "another path than those of OIDC discovery";
            return Err(self.invalid("margo.bundle_url", &url, expected));
        }
        if others
            .iter()
            .chain(&at_bundle)
            .any(|other| other == discovery.path())
        {
            let expected = "another path than those of the bundle and of OIDC discovery";
            return Err(self.invalid("margo.discovery_path", discovery.path(), expected));
        }
        web.margo = Some(discovery);
        web.tls12 = raw.tls12.unwrap_or(false);
        Ok(paths)
    }
}

#[cfg(test)]
mod tests;
