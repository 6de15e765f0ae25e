//! SVIDs as files for programs that cannot speak to a socket.
//!
//! Invariant: each file is replaced whole, mode 0600, and `svid.pem` last: who waits for it to change finds the other two new.

use std::path::Path;

use landfast_daemon::error_chain;
use landfast_identity::{Bundle, X509Svid, chain_to_pem};
use landfast_store::Store;

use crate::failure::Failure;

pub(crate) fn write_x509(dir: &Path, svid: &X509Svid, bundle: &Bundle) -> Result<(), Failure> {
    let key = svid.key().to_pem();
    let chain = chain_to_pem(svid.chain());
    let bundle = bundle.to_pem();
    write(
        dir,
        &[
            ("bundle.pem", bundle.as_bytes()),
            ("key.pem", key.as_bytes()),
            ("svid.pem", chain.as_bytes()),
        ],
    )
}

pub(crate) fn write_jwt(dir: &Path, token: &str) -> Result<(), Failure> {
    write(dir, &[("jwt.token", token.as_bytes())])
}

pub(crate) fn write_wit(dir: &Path, token: &str, jwk: &str) -> Result<(), Failure> {
    let files = [("wit.jwk", jwk.as_bytes()), ("wit.token", token.as_bytes())];
    write(dir, &files)
}

fn write(dir: &Path, files: &[(&str, &[u8])]) -> Result<(), Failure> {
    let store = Store::open(dir).map_err(|error| failure(&error))?;
    files
        .iter()
        .try_for_each(|(name, content)| store.replace(name, content))
        .map_err(|error| failure(&error))
}

fn failure(error: &landfast_store::StoreError) -> Failure {
    Failure::failed(
        error_chain(error),
        "give a directory of your own that nobody else may write to; it is made when it is missing",
    )
}
