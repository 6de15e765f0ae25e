//! Our own requests; those of others are vectors.

use super::*;

#[test]
fn our_requests_read_back() {
    let key = PrivateKey::generate().unwrap();
    let bare = Csr::parse_der(&build_csr(&key, None, &[]).unwrap()).unwrap();
    assert_eq!(*bare.public_key(), key.public_key());
    assert!(bare.uri_sans().is_empty() && bare.dns_sans().is_empty() && bare.subject_common_name().is_none());
    let id = SpiffeId::parse("spiffe://td.test/w").unwrap();
    let full = Csr::parse_der(&build_csr(&key, Some(&id), &["a.example".to_owned()]).unwrap()).unwrap();
    assert_eq!(
        (full.uri_sans(), full.dns_sans()),
        (
            &["spiffe://td.test/w".to_owned()][..],
            &["a.example".to_owned()][..]
        )
    );
    assert!(matches!(
        build_csr(&key, None, &["a b".to_owned()]),
        Err(CsrError::Build { .. })
    ));
}

proptest::proptest! {
    #[test]
    fn garbage_never_panics(bytes: Vec<u8>) {
        let _result = Csr::parse_der(&bytes);
    }
}
