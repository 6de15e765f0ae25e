//! Where a Margo client finds the bundle (Margo identity framework, trust endpoints). Invariant: what discovery leads to is on a path that we serve.

use landfast_identity::TrustDomain;
use serde_json::json;

use super::is_plain_path;
use super::issuer::host_of;

/// The discovery of a Margo identity service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MargoDiscovery {
    bundle_url: String,
    host: String,
    bundle_path: String,
    path: String,
}

impl MargoDiscovery {
    /// `None` when the URL is not one of `https` with a plain path, or the path of discovery is not plain.
    pub(crate) fn parse(bundle_url: &str, path: Option<&str>) -> Option<Self> {
        let rest = bundle_url.strip_prefix("https://")?;
        let (authority, bundle_path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let bundle_path = if bundle_path.is_empty() { "/" } else { bundle_path };
        let path = path.unwrap_or(WELL_KNOWN);
        if !is_plain_path(bundle_path) || !is_plain_path(path) || path == bundle_path {
            return None;
        }
        Some(Self {
            bundle_url: bundle_url.to_owned(),
            host: host_of(authority)?,
            bundle_path: bundle_path.to_owned(),
            path: path.to_owned(),
        })
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Where the bundle is.
    pub(crate) fn bundle_path(&self) -> &str {
        &self.bundle_path
    }

    /// Where discovery is.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn document(&self, trust_domain: &TrustDomain) -> String {
        json!({ "trustDomain": trust_domain.as_str(), "trustBundleUri": self.bundle_url }).to_string()
    }
}

const WELL_KNOWN: &str = "/.well-known/margo";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discovery_is_at_the_well_known_place_unless_it_is_elsewhere() {
        let plain = MargoDiscovery::parse("https://trust.plant.test:8443", None).unwrap();
        assert_eq!(
            (plain.path(), plain.bundle_path(), plain.host()),
            ("/.well-known/margo", "/", "trust.plant.test")
        );
        let deep = MargoDiscovery::parse("https://trust.plant.test/a/bundle", Some("/a/margo")).unwrap();
        assert_eq!((deep.path(), deep.bundle_path()), ("/a/margo", "/a/bundle"));
        let trust_domain = TrustDomain::parse("plant.test").unwrap();
        assert_eq!(
            deep.document(&trust_domain),
            r#"{"trustBundleUri":"https://trust.plant.test/a/bundle","trustDomain":"plant.test"}"#
        );
    }

    #[test]
    fn what_could_not_be_served_is_none() {
        for (url, path) in [
            ("", None),
            ("http://trust.plant.test/", None),
            ("https:///", None),
            ("https://user@trust.plant.test/", None),
            ("https://trust.plant.test:port/", None),
            ("https://trust.plant.test/?a", None),
            ("https://trust.plant.test/#a", None),
            ("https://trust.plant.test/a/../b", None),
            ("https://trust.plant.test/a/", None),
            ("https://trust.plant.test/.well-known/margo", None),
            ("https://trust.plant.test/", Some("margo")),
            ("https://trust.plant.test/", Some("/a//b")),
            ("https://trust.plant.test/", Some("/")),
        ] {
            assert_eq!(MargoDiscovery::parse(url, path), None, "{url} {path:?}");
        }
    }
}
