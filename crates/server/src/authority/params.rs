//! What authorities are made like.

use std::time::Duration;

use landfast_identity::{KeyType, TrustDomain};

/// How long authorities live, and with which keys.
#[derive(Clone, Debug)]
pub struct AuthorityParams {
    /// Whose authorities.
    pub trust_domain: TrustDomain,
    /// Life of an authority.
    pub ca_ttl: Duration,
    /// How far validity starts in the past, for slow clocks.
    pub backdate: Duration,
    /// Kinds of the keys that are made from now on.
    pub keys: KeyTypes,
    /// Whether there are WIT authorities (incubating). Without, those that there were are gone.
    pub wit: bool,
    /// The longest reserve that an entry may ask for, signed by X.509 authorities; zero: none may.
    pub longest_reserve: Duration,
}

/// See `keys` in the configuration. What signs already is replaced at its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyTypes {
    /// X.509 authorities and the server's own SVID.
    pub x509: KeyType,
    /// JWT authorities: ES256 or ES384.
    pub jwt: KeyType,
    /// WIT authorities, likewise.
    pub wit: KeyType,
}
