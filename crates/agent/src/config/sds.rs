//! `[sds]`: what Envoys are served.
//!
//! Invariant: no two of the three names are the same, and none is what a SPIFFE ID or `*` says already.

use landfast_daemon::config::ConfigError;
use landfast_workload_api::Sds;

use super::{Checker, raw::RawSds};

impl Checker<'_> {
    pub(super) fn sds(&self, raw: RawSds) -> Result<Option<Sds>, ConfigError> {
        let default = Sds::default();
        let sds = Sds {
            default_svid_name: raw.default_svid_name.unwrap_or(default.default_svid_name),
            default_bundle_name: raw.default_bundle_name.unwrap_or(default.default_bundle_name),
            default_all_bundles_name: raw
                .default_all_bundles_name
                .unwrap_or(default.default_all_bundles_name),
            disable_spiffe_cert_validation: raw
                .disable_spiffe_cert_validation
                .unwrap_or(default.disable_spiffe_cert_validation),
        };
        let names = [
            ("default_svid_name", &sds.default_svid_name),
            ("default_bundle_name", &sds.default_bundle_name),
            ("default_all_bundles_name", &sds.default_all_bundles_name),
        ];
        for (at, (key, name)) in names.iter().enumerate() {
            // `*` means everything, and what is named by an ID is what the ID says.
            if name.is_empty() || *name == "*" || name.starts_with("spiffe:") {
                return Err(self.invalid(&format!("sds.{key}"), name, "a name, not an ID and not *"));
            }
            if names[..at].iter().any(|(_key, other)| other == name) {
                return Err(self.invalid(&format!("sds.{key}"), name, "three different names"));
            }
        }
        Ok(raw.enabled.unwrap_or(true).then_some(sds))
    }
}
