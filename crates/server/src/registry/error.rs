//! Why the registry refuses.

use std::sync::Arc;

use landfast_identity::{BundleError, SpiffeId, TrustDomain};

use super::entry::Entry;
use super::validate::EntryError;
use crate::datastore::DatastoreError;
use crate::reserve::ReserveError;

/// Why a change of the registry was not made. Nothing was changed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The entry breaks a rule.
    #[error("the entry is invalid")]
    Invalid {
        /// Which.
        #[from]
        source: EntryError,
    },
    /// What is asked for ahead passes a bound.
    #[error(transparent)]
    Reserve {
        /// Which.
        #[from]
        source: ReserveError,
    },
    /// Whoever had an SVID of it would be that person.
    #[error(
        "{id} is a login of {person}: no entry for it is made or changed, nothing is minted, and no token makes its node anew; take the login from the person first (landfast person withdraw)"
    )]
    IsLogin {
        /// The identity.
        id: SpiffeId,
        /// Whose, by reference.
        person: String,
    },
    /// Nobody answers for a third party.
    #[error(
        "{sponsor} is no active person, so it answers for no third party: landfast person list shows who is"
    )]
    NoSponsor {
        /// The reference that was given.
        sponsor: String,
    },
    /// The register of persons refuses.
    #[error(transparent)]
    People {
        /// Why.
        #[from]
        source: crate::people::PeopleError,
    },
    /// No such entry.
    #[error("no entry {id}")]
    NoSuchEntry {
        /// The ID.
        id: String,
    },
    /// A login whose entry hangs under something that is no node: whoever makes nodes or entries up there would be that person.
    #[error(
        "{id} cannot be a login while an entry for it hangs under {parent}, which is no node: move that entry under the node that the person works at (landfast entry update ID --parent-id NODE)"
    )]
    LoginBelow {
        /// The login.
        id: SpiffeId,
        /// Under what.
        parent: String,
    },
    /// The policy of an entry is not what whoever changes it believes.
    #[error("the policy of entry {id} is at revision {found}: read it again")]
    PolicyChanged {
        /// The entry.
        id: String,
        /// Its policy's.
        found: u64,
    },
    /// An entry of this ID exists already, and differs.
    #[error("entry {id} exists already")]
    EntryIdTaken {
        /// The ID.
        id: String,
    },
    /// An update would make it the same as another entry.
    #[error("similar entry already exists")]
    Similar {
        /// The other one.
        existing: Arc<Entry>,
    },
    /// `federates_with` names a trust domain whose bundle we do not have.
    #[error("unable to find federated bundle \"spiffe://{trust_domain}\"")]
    NoFederatedBundle {
        /// Which.
        trust_domain: TrustDomain,
    },
    /// No such federated bundle.
    #[error("no federated bundle of {trust_domain}")]
    NoSuchBundle {
        /// Which.
        trust_domain: TrustDomain,
    },
    /// The federated bundle exists already.
    #[error("a federated bundle of {trust_domain} exists already")]
    BundleExists {
        /// Which.
        trust_domain: TrustDomain,
    },
    /// What an update would leave is no bundle.
    #[error("the updated bundle is invalid")]
    BadBundle {
        /// Why.
        source: Arc<BundleError>,
    },
    /// The bundle of our own trust domain is no federated one.
    #[error("{trust_domain} is the trust domain of this server, not a federated one")]
    OwnTrustDomain {
        /// Ours.
        trust_domain: TrustDomain,
    },
    /// No such relationship.
    #[error("federation relationship does not exist")]
    NoSuchRelationship {
        /// With whom.
        trust_domain: TrustDomain,
    },
    /// There is a relationship already.
    #[error("a federation relationship with {trust_domain} exists already")]
    RelationshipExists {
        /// With whom.
        trust_domain: TrustDomain,
    },
    /// It was fetched under a relationship that is no longer so.
    #[error(
        "the federation relationship with {trust_domain} was changed or deleted while its bundle was fetched: nothing is stored"
    )]
    RelationshipChanged {
        /// With whom.
        trust_domain: TrustDomain,
    },
    /// There are as many relationships as may be.
    #[error(
        "there are {} federation relationships already, more are not accepted",
        super::MAX_RELATIONSHIPS
    )]
    TooManyRelationships,
    /// What was published is older than what is stored.
    #[error(
        "the published bundle of {trust_domain} has sequence {published}, older than {stored}, which is stored"
    )]
    OlderBundle {
        /// Whose.
        trust_domain: TrustDomain,
        /// Ours.
        stored: u64,
        /// Theirs; 0 also when the document has none.
        published: u64,
    },
    /// What was published has the number of what is stored, and other keys.
    #[error(
        "the published bundle of {trust_domain} has sequence {sequence} as the stored one, and other keys"
    )]
    OtherBundle {
        /// Whose.
        trust_domain: TrustDomain,
        /// The number of both.
        sequence: u64,
    },
    /// Entries still federate with it.
    #[error("cannot delete bundle; federated with {entries} registration entries")]
    BundleInUse {
        /// How many.
        entries: usize,
    },
    /// The agent is banned: only deleting it ends that.
    #[error("agent is banned")]
    Banned,
    /// The agent was evicted while it attested with its join token.
    #[error("join token does not exist or has already been used")]
    TokenRevoked,
    /// No such agent.
    #[error("no agent {id}")]
    NoSuchAgent {
        /// The ID.
        id: SpiffeId,
    },
    /// A join token that cannot be part of an agent's ID, or an ID that cannot be its alias.
    #[error("{what}")]
    BadToken {
        /// What is wrong; never the token.
        what: &'static str,
    },
    /// A token of this text exists already.
    #[error("join token already exists")]
    TokenExists,
    /// The time is unknown, and what was asked for needs it.
    #[error("the clock of this server shows no time")]
    NoClock,
    /// The random source failed.
    #[error("the random source failed")]
    Random,
    /// The datastore failed.
    #[error("the registry cannot be changed")]
    Storage {
        /// Why.
        #[from]
        source: DatastoreError,
    },
}

/// Why a join token was not redeemed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Never made, or forgotten.
    #[error("join token does not exist or has already been used")]
    Unknown,
    /// Too late.
    #[error("join token expired")]
    Expired,
    /// Somebody else was first, or the same key came too late again.
    #[error("join token does not exist or has already been used")]
    Used,
    /// Its agent was evicted or banned.
    #[error("join token does not exist or has already been used")]
    Revoked,
    /// The datastore failed: nothing was redeemed.
    #[error("the join token cannot be redeemed")]
    Storage {
        /// Why.
        #[from]
        source: DatastoreError,
    },
}
