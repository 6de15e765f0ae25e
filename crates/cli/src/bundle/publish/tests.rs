//! What may take the place of what.

use super::*;

/// With so many of the keys that verify the vectors.
fn bundle(sequence: u64, keys: usize) -> Bundle {
    let pem = [ONE, TWO];
    let text: String = pem[..keys].concat();
    let trust_domain = TrustDomain::parse("plant.test").unwrap();
    Bundle::from_pem(trust_domain, &text)
        .unwrap()
        .with_sequence(sequence)
}

fn refused(answer: Result<Done, Failure>, part: &str) {
    let failure = answer.unwrap_err();
    assert!(failure.message.contains(part), "{}", failure.message);
    assert_eq!(failure.code, crate::failure::FAILED);
}

#[test]
fn a_newer_bundle_takes_the_place_of_an_older_one_and_never_the_other_way() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bundle.json");
    let put = |bundle: &Bundle, danger| put(&path, bundle, BundleFormat::Jwks, danger);
    assert_eq!(put(&bundle(5, 1), false).unwrap(), Done::Written);
    assert_eq!(put(&bundle(5, 1), false).unwrap(), Done::Unchanged);
    assert_eq!(put(&bundle(6, 2), false).unwrap(), Done::Written);
    let newest = std::fs::read(&path).unwrap();
    refused(put(&bundle(5, 1), false), "newer than 5");
    refused(put(&bundle(0, 2), false), "newer than 0");
    refused(put(&bundle(6, 1), false), "other keys");
    assert_eq!(std::fs::read(&path).unwrap(), newest);
    let hinted = bundle(6, 2).with_refresh_hint(Some(Duration::from_secs(60)));
    assert_eq!(
        put(&hinted, false).unwrap(),
        Done::Written,
        "the same keys, another hint"
    );
    assert_eq!(put(&bundle(5, 1), true).unwrap(), Done::Written);
    let text = std::fs::read(&path).unwrap();
    let read = Bundle::from_jwks(bundle(0, 1).trust_domain().clone(), &text).unwrap();
    assert_eq!((read.sequence(), read.x509_authorities().len()), (5, 1));
}

#[test]
fn what_is_no_bundle_is_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notes.txt");
    for content in ["", "milk, bread", "{\"keys\":7}", "\u{0}\u{1}"] {
        PublicFile::open(&path)
            .unwrap()
            .replace(content.as_bytes())
            .unwrap();
        for format in [BundleFormat::Jwks, BundleFormat::Pem] {
            refused(put(&path, &bundle(5, 1), format, true), "is not a bundle");
            assert_eq!(std::fs::read(&path).unwrap(), content.as_bytes());
        }
    }
}

#[test]
fn certificates_are_replaced_by_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bundle.pem");
    let put = |bundle: &Bundle| put(&path, bundle, BundleFormat::Pem, false);
    assert_eq!(put(&bundle(5, 1)).unwrap(), Done::Written);
    assert_eq!(put(&bundle(5, 1)).unwrap(), Done::Unchanged);
    assert_eq!(put(&bundle(6, 2)).unwrap(), Done::Written);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), bundle(6, 2).to_pem());
}

/// Its number may well be higher.
#[test]
fn a_bundle_of_other_authorities_takes_nobodys_place_unless_the_operator_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let trust_domain = bundle(0, 1).trust_domain().clone();
    let other = Bundle::from_pem(trust_domain.clone(), TWO)
        .unwrap()
        .with_sequence(9);
    for format in [BundleFormat::Jwks, BundleFormat::Pem] {
        let path = dir.path().join("bundle");
        put(&path, &bundle(5, 1), format, false).unwrap();
        let before = std::fs::read(&path).unwrap();
        refused(put(&path, &other, format, false), "none of the X.509 authorities");
        assert_eq!(std::fs::read(&path).unwrap(), before);
        assert_eq!(put(&path, &other, format, true).unwrap(), Done::Written);
        assert_eq!(put(&path, &bundle(10, 2), format, false).unwrap(), Done::Written);
        std::fs::remove_file(&path).unwrap();
    }
    // With tokens alone it says nothing of whose it is.
    let path = dir.path().join("bundle.json");
    let empty = Bundle::new(trust_domain).with_sequence(4);
    let file = PublicFile::open(&path).unwrap();
    file.replace(empty.to_jwks().to_string().as_bytes()).unwrap();
    let done = put(&path, &bundle(5, 1), BundleFormat::Jwks, false);
    assert_eq!(done.unwrap(), Done::Written);
}

#[test]
fn danger_is_for_once() {
    use clap::Parser as _;
    let parse = |more: &[&str]| {
        let line = ["landfast", "bundle", "publish", "bundle.json"];
        crate::cli::Cli::try_parse_from(line.iter().chain(more))
    };
    assert!(parse(&["--watch"]).is_ok() && parse(&["--danger-older"]).is_ok());
    let refused = parse(&["--watch", "--danger-older"]).map(drop).unwrap_err();
    assert_eq!(refused.kind(), clap::error::ErrorKind::ArgumentConflict);
}

#[test]
fn a_bundle_that_verifies_nobody_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bundle.json");
    let empty = Bundle::new(TrustDomain::parse("plant.test").unwrap());
    refused(put(&path, &empty, BundleFormat::Jwks, true), "no X.509 authority");
    assert!(!path.exists());
    refused(
        put(dir.path(), &bundle(1, 1), BundleFormat::Jwks, false),
        "is not a regular file",
    );
    let nowhere = dir.path().join("missing/bundle.json");
    refused(
        put(&nowhere, &bundle(1, 1), BundleFormat::Jwks, false),
        "cannot use the directory",
    );
}

const ONE: &str = include_str!("one.pem");
const TWO: &str = include_str!("two.pem");
