//! Both forms of a bundle, and what is none.

use std::path::PathBuf;

use super::*;
use crate::testing::{Ca, td};

fn write(dir: &tempfile::TempDir, text: &str) -> PathBuf {
    let path = dir.path().join("bundle");
    #[expect(clippy::disallowed_methods, reason = "a test's own file")]
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn pem_and_jwks_are_told_apart_by_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let bundle = Ca::new("one").bundle();
    let pem = Bootstrap::read(&write(&dir, &bundle.to_pem()), &td()).unwrap();
    let jwks = Bootstrap::read(&write(&dir, &bundle.to_jwks()), &td()).unwrap();
    assert!(pem.bundle.content_eq(&bundle) && jwks.bundle.content_eq(&bundle));
    assert_ne!(pem.digest, jwks.digest, "another file is another digest");
}

#[test]
fn what_is_no_bundle_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    for bad in [
        "",
        "{}",
        "{\"keys\":[]}",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        let error = Bootstrap::read(&write(&dir, bad), &td()).err().unwrap();
        assert!(
            matches!(error, AgentError::TrustBundleContent { .. }),
            "{bad:?}: {error}"
        );
    }
    let missing = Bootstrap::read(&dir.path().join("none"), &td()).err().unwrap();
    assert!(matches!(missing, AgentError::TrustBundle { .. }));
    assert!(missing.to_string().ends_with("none"), "{missing}");
}
