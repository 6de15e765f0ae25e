//! Parsing what anybody may send.

use super::*;

proptest::proptest! {
    #[test]
    fn garbage_never_panics(bytes: Vec<u8>) {
        let _result = Certificate::from_der(&bytes);
        let _result = parse_chain_der(&bytes);
    }
}

#[test]
fn an_empty_list_is_no_chain() {
    assert_eq!(parse_chain_der(&[]), Err(X509Error::EmptyChain));
    assert_eq!(parse_chain_pem("no block"), Err(X509Error::Pem));
}
