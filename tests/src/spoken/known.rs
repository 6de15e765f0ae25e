//! The methods that are recorded, with the messages of now.

use bytes::Bytes;
use landfast_proto::landfast::{
    chain::v1 as chain, entry::v1 as policy, recovery::v1 as recovery, reserve::v1 as reserve,
    sync::v1 as sync,
};
use landfast_proto::spire::api::server::{
    agent::v1 as agent, bundle::v1 as bundle, entry::v1 as entry, localauthority::v1 as authority,
    svid::v1 as svid, trustdomain::v1 as trustdomain,
};
use landfast_proto::spire::api::types;
use prost::{DecodeError, Message};

/// A method.
pub struct Method {
    /// Service and method, without the service's package.
    pub name: &'static str,
    /// Whether its caller may say more after the first message.
    pub streams: bool,
    /// Whether its answer goes on for as long as something happens: then only the first message is sure to come again.
    pub goes_on: bool,
    /// What it is asked.
    pub request: Kind,
    /// What it answers.
    pub response: Kind,
}

/// A kind of message.
pub struct Kind {
    /// Reads one and writes it again.
    pub again: fn(&Bytes) -> Result<Vec<u8>, DecodeError>,
    /// In words, for people, not all of it.
    pub says: fn(&Bytes) -> String,
}

/// The method of a path.
///
/// # Panics
/// Nobody records it.
pub fn method(path: &str) -> &'static Method {
    let mut all = METHODS.iter();
    all.find(|method| path.rsplit('.').next() == Some(method.name))
        .unwrap_or_else(|| panic!("{path}: name it in tests/src/spoken/known.rs"))
}

trait Said: Message + Default + std::fmt::Debug {}

impl<T: Message + Default + std::fmt::Debug> Said for T {}

const fn kind<T: Said>() -> Kind {
    Kind {
        again: |bytes| T::decode(bytes.clone()).map(|message| message.encode_to_vec()),
        says: |bytes| {
            let said = T::decode(bytes.clone())
                .map_or_else(|error| error.to_string(), |message| format!("{message:?}"));
            said.chars().take(SAID).collect()
        },
    }
}

const fn unary<Q: Said, A: Said>(name: &'static str) -> Method {
    Method {
        name,
        streams: false,
        goes_on: false,
        request: kind::<Q>(),
        response: kind::<A>(),
    }
}

const fn streaming<Q: Said, A: Said>(name: &'static str) -> Method {
    Method {
        streams: true,
        ..unary::<Q, A>(name)
    }
}

/// One question, and an answer without end.
const fn pushed<Q: Said, A: Said>(name: &'static str) -> Method {
    Method {
        goes_on: true,
        ..unary::<Q, A>(name)
    }
}

const SAID: usize = 160;

/// All of them.
pub const METHODS: &[Method] = &[
    streaming::<agent::AttestAgentRequest, agent::AttestAgentResponse>("Agent/AttestAgent"),
    unary::<agent::RenewAgentRequest, agent::RenewAgentResponse>("Agent/RenewAgent"),
    unary::<agent::PostStatusRequest, agent::PostStatusResponse>("Agent/PostStatus"),
    unary::<agent::ListAgentsRequest, agent::ListAgentsResponse>("Agent/ListAgents"),
    pushed::<sync::SubscribeRequest, sync::SubscribeResponse>("Sync/Subscribe"),
    streaming::<entry::SyncAuthorizedEntriesRequest, entry::SyncAuthorizedEntriesResponse>(
        "Entry/SyncAuthorizedEntries",
    ),
    unary::<entry::GetAuthorizedEntriesRequest, entry::GetAuthorizedEntriesResponse>(
        "Entry/GetAuthorizedEntries",
    ),
    unary::<entry::ListEntriesRequest, entry::ListEntriesResponse>("Entry/ListEntries"),
    unary::<policy::GetEntryPoliciesRequest, policy::GetEntryPoliciesResponse>(
        "EntryPolicies/GetEntryPolicies",
    ),
    unary::<bundle::GetBundleRequest, types::Bundle>("Bundle/GetBundle"),
    unary::<bundle::GetFederatedBundleRequest, types::Bundle>("Bundle/GetFederatedBundle"),
    unary::<bundle::ListFederatedBundlesRequest, bundle::ListFederatedBundlesResponse>(
        "Bundle/ListFederatedBundles",
    ),
    unary::<trustdomain::ListFederationRelationshipsRequest, trustdomain::ListFederationRelationshipsResponse>(
        "TrustDomain/ListFederationRelationships",
    ),
    unary::<authority::GetX509AuthorityStateRequest, authority::GetX509AuthorityStateResponse>(
        "LocalAuthority/GetX509AuthorityState",
    ),
    unary::<authority::GetJwtAuthorityStateRequest, authority::GetJwtAuthorityStateResponse>(
        "LocalAuthority/GetJWTAuthorityState",
    ),
    unary::<chain::GetStepsRequest, chain::GetStepsResponse>("Chain/GetSteps"),
    unary::<chain::ShowStepsRequest, chain::ShowStepsResponse>("Chain/ShowSteps"),
    unary::<svid::BatchNewX509svidRequest, svid::BatchNewX509svidResponse>("SVID/BatchNewX509SVID"),
    unary::<svid::NewJwtsvidRequest, svid::NewJwtsvidResponse>("SVID/NewJWTSVID"),
    unary::<svid::BatchNewWitsvidRequest, svid::BatchNewWitsvidResponse>("SVID/BatchNewWITSVID"),
    unary::<reserve::NewRungsRequest, reserve::NewRungsResponse>("Reserve/NewRungs"),
    unary::<reserve::NewTokenRequest, reserve::NewTokenResponse>("Reserve/NewToken"),
    unary::<reserve::ListDebtsRequest, reserve::ListDebtsResponse>("Debts/ListDebts"),
    unary::<recovery::RegisterDeviceKeyRequest, recovery::RegisterDeviceKeyResponse>(
        "Recovery/RegisterDeviceKey",
    ),
    unary::<recovery::ListRequestsRequest, recovery::ListRequestsResponse>("Recovery/ListRequests"),
];
