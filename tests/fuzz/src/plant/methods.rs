//! Every method of SPIRE's API that the server serves, with who may call it (SPIRE's documentation of its authorisation, and ours).

use landfast_proto::spire::api::server::agent::v1 as agent;
use landfast_proto::spire::api::server::bundle::v1 as bundle;
use landfast_proto::spire::api::server::entry::v1 as entry;
use landfast_proto::spire::api::server::svid::v1 as svid;
use landfast_proto::spire::api::types::Status;
use prost::Message;

/// One method.
#[derive(Debug)]
pub struct Method {
    /// As on the wire.
    pub path: &'static str,
    /// Who may call it.
    pub who: Who,
    /// Whether its requests come as a stream.
    pub streaming: bool,
    /// Whether a success may leave something behind.
    pub changes: bool,
    /// Whether these bytes are its request.
    pub decodes: fn(&[u8]) -> bool,
    /// The codes inside of an answer to a batch.
    pub items: fn(&[u8]) -> Vec<i32>,
}

/// See [`Method::who`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    /// Also without a certificate.
    Anybody,
    /// On the admin socket, or with an entry that says `admin`.
    Operators,
    /// Attested agents.
    Agents,
    /// Both of these.
    OperatorsAndAgents,
    /// Downstream servers, of which a plant has none.
    Nobody,
}
use Who::{Agents, Anybody, Nobody, Operators, OperatorsAndAgents};

fn is<M: Message + Default>(bytes: &[u8]) -> bool {
    M::decode(bytes).is_ok()
}

fn none(_: &[u8]) -> Vec<i32> {
    Vec::new()
}

fn codes<M: Message + Default>(bytes: &[u8], statuses: fn(M) -> Vec<Option<Status>>) -> Vec<i32> {
    let answer = M::decode(bytes).expect("an answer that is no answer");
    let statuses = statuses(answer).into_iter();
    statuses
        .map(|status| status.expect("an item without a status").code)
        .collect()
}

macro_rules! items {
    ($answer:path) => {
        |bytes| {
            codes::<$answer>(bytes, |answer| {
                answer.results.into_iter().map(|one| one.status).collect()
            })
        }
    };
}

const fn reads<M: Message + Default>(path: &'static str, who: Who) -> Method {
    Method {
        path,
        who,
        streaming: false,
        changes: false,
        decodes: is::<M>,
        items: none,
    }
}

const fn changes<M: Message + Default>(path: &'static str, who: Who) -> Method {
    Method {
        changes: true,
        ..reads::<M>(path, who)
    }
}

const fn batch<M: Message + Default>(path: &'static str, items: fn(&[u8]) -> Vec<i32>) -> Method {
    Method {
        items,
        ..changes::<M>(path, Operators)
    }
}

/// All of them. An input names a method by its place: append, so that the corpus keeps its meaning.
pub static METHODS: [Method; 35] = [
    Method {
        streaming: true,
        ..changes::<agent::AttestAgentRequest>("/spire.api.server.agent.v1.Agent/AttestAgent", Anybody)
    },
    changes::<agent::BanAgentRequest>("/spire.api.server.agent.v1.Agent/BanAgent", Operators),
    reads::<agent::CountAgentsRequest>("/spire.api.server.agent.v1.Agent/CountAgents", Operators),
    changes::<agent::CreateJoinTokenRequest>("/spire.api.server.agent.v1.Agent/CreateJoinToken", Operators),
    changes::<agent::DeleteAgentRequest>("/spire.api.server.agent.v1.Agent/DeleteAgent", Operators),
    reads::<agent::GetAgentRequest>("/spire.api.server.agent.v1.Agent/GetAgent", Operators),
    reads::<agent::ListAgentsRequest>("/spire.api.server.agent.v1.Agent/ListAgents", Operators),
    reads::<agent::PostStatusRequest>("/spire.api.server.agent.v1.Agent/PostStatus", Agents),
    reads::<agent::RenewAgentRequest>("/spire.api.server.agent.v1.Agent/RenewAgent", Agents),
    changes::<bundle::AppendBundleRequest>("/spire.api.server.bundle.v1.Bundle/AppendBundle", Operators),
    batch::<bundle::BatchCreateFederatedBundleRequest>(
        "/spire.api.server.bundle.v1.Bundle/BatchCreateFederatedBundle",
        items!(bundle::BatchCreateFederatedBundleResponse),
    ),
    batch::<bundle::BatchDeleteFederatedBundleRequest>(
        "/spire.api.server.bundle.v1.Bundle/BatchDeleteFederatedBundle",
        items!(bundle::BatchDeleteFederatedBundleResponse),
    ),
    batch::<bundle::BatchSetFederatedBundleRequest>(
        "/spire.api.server.bundle.v1.Bundle/BatchSetFederatedBundle",
        items!(bundle::BatchSetFederatedBundleResponse),
    ),
    batch::<bundle::BatchUpdateFederatedBundleRequest>(
        "/spire.api.server.bundle.v1.Bundle/BatchUpdateFederatedBundle",
        items!(bundle::BatchUpdateFederatedBundleResponse),
    ),
    reads::<bundle::CountBundlesRequest>("/spire.api.server.bundle.v1.Bundle/CountBundles", Operators),
    reads::<bundle::GetBundleRequest>("/spire.api.server.bundle.v1.Bundle/GetBundle", Anybody),
    reads::<bundle::GetFederatedBundleRequest>(
        "/spire.api.server.bundle.v1.Bundle/GetFederatedBundle",
        OperatorsAndAgents,
    ),
    reads::<bundle::ListFederatedBundlesRequest>(
        "/spire.api.server.bundle.v1.Bundle/ListFederatedBundles",
        Operators,
    ),
    reads::<bundle::PublishJwtAuthorityRequest>(
        "/spire.api.server.bundle.v1.Bundle/PublishJWTAuthority",
        Nobody,
    ),
    reads::<bundle::PublishWitAuthorityRequest>(
        "/spire.api.server.bundle.v1.Bundle/PublishWITAuthority",
        Nobody,
    ),
    batch::<entry::BatchCreateEntryRequest>(
        "/spire.api.server.entry.v1.Entry/BatchCreateEntry",
        items!(entry::BatchCreateEntryResponse),
    ),
    batch::<entry::BatchDeleteEntryRequest>(
        "/spire.api.server.entry.v1.Entry/BatchDeleteEntry",
        items!(entry::BatchDeleteEntryResponse),
    ),
    batch::<entry::BatchUpdateEntryRequest>(
        "/spire.api.server.entry.v1.Entry/BatchUpdateEntry",
        items!(entry::BatchUpdateEntryResponse),
    ),
    reads::<entry::CountEntriesRequest>("/spire.api.server.entry.v1.Entry/CountEntries", Operators),
    reads::<entry::GetAuthorizedEntriesRequest>(
        "/spire.api.server.entry.v1.Entry/GetAuthorizedEntries",
        Agents,
    ),
    reads::<entry::GetEntryRequest>("/spire.api.server.entry.v1.Entry/GetEntry", Operators),
    reads::<entry::ListEntriesRequest>("/spire.api.server.entry.v1.Entry/ListEntries", Operators),
    Method {
        streaming: true,
        ..reads::<entry::SyncAuthorizedEntriesRequest>(
            "/spire.api.server.entry.v1.Entry/SyncAuthorizedEntries",
            Agents,
        )
    },
    reads::<svid::BatchNewWitsvidRequest>("/spire.api.server.svid.v1.SVID/BatchNewWITSVID", Agents),
    Method {
        items: items!(svid::BatchNewX509svidResponse),
        ..reads::<svid::BatchNewX509svidRequest>("/spire.api.server.svid.v1.SVID/BatchNewX509SVID", Agents)
    },
    reads::<svid::MintJwtsvidRequest>("/spire.api.server.svid.v1.SVID/MintJWTSVID", Operators),
    reads::<svid::MintWitsvidRequest>("/spire.api.server.svid.v1.SVID/MintWITSVID", Operators),
    // A minted key belongs to that identity from then on.
    changes::<svid::MintX509svidRequest>("/spire.api.server.svid.v1.SVID/MintX509SVID", Operators),
    reads::<svid::NewDownstreamX509caRequest>("/spire.api.server.svid.v1.SVID/NewDownstreamX509CA", Nobody),
    reads::<svid::NewJwtsvidRequest>("/spire.api.server.svid.v1.SVID/NewJWTSVID", Agents),
];

/// The method of this name.
///
/// # Panics
/// When there is none.
pub fn method(name: &str) -> (u8, &'static Method) {
    let at = METHODS.iter().position(|method| method.path.ends_with(name));
    let at = at.expect("a method of the table");
    (at as u8, &METHODS[at])
}
