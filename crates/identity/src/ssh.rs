//! SSH keys as logins: a signature in OpenSSH's own format (PROTOCOL.sshsig) and what it is made with.
//!
//! Invariant: a key that comes out of [`SshSignature::verify`] has signed this message, in this namespace; nothing else is said of it.

mod key;
mod private;
mod signature;
mod wire;

pub use key::{SshFingerprint, SshPublicKey};
pub use private::SshPrivateKey;
pub use signature::{SshSignature, to_be_signed};

/// Why a key or a signature is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SshError {
    /// Not what PROTOCOL.sshsig, or the format of a key, says.
    #[error("it is not in OpenSSH's format")]
    Malformed,
    /// A kind of key that we do not know.
    #[error(
        "a kind of key that is not accepted: ssh-ed25519, ecdsa-sha2-nistp256, ecdsa-sha2-nistp384, and the sk- kinds of the first two are"
    )]
    Unsupported,
    /// A private key under a passphrase.
    #[error("the private key has a passphrase")]
    Encrypted,
    /// Signed for something else.
    #[error("the signature is for another purpose")]
    Namespace,
    /// A security key that nobody has touched.
    #[error("nobody has touched the security key")]
    NoTouch,
    /// The signature is wrong.
    #[error("the signature is not by that key, or of something else")]
    BadSignature,
    /// The random source failed, or the key is broken.
    #[error("the key cannot sign")]
    CannotSign,
}

#[cfg(test)]
mod tests;
