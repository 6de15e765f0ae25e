//! The operator's side: what a run needs done over the admin socket of any server of SPIRE's API.
//!
//! Invariant: every call has a deadline, and a batch of which one item is refused is an error.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use hyper_util::rt::TokioIo;
use landfast_identity::{Bundle, SpiffeId, TrustDomain};
use landfast_proto::spire::api::server::agent::v1::{self as agent_api, agent_client::AgentClient};
use landfast_proto::spire::api::server::bundle::v1::{GetBundleRequest, bundle_client::BundleClient};
use landfast_proto::spire::api::server::entry::v1::{self as entry_api, entry_client::EntryClient};
use landfast_proto::spire::api::types;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use crate::BoxError;

/// A connection to the admin socket.
#[derive(Clone, Debug)]
pub(crate) struct Operator {
    channel: Channel,
}

impl Operator {
    /// # Errors
    /// Nobody listens, or this user may not.
    pub(crate) async fn connect(socket: &Path) -> Result<Self, BoxError> {
        let path: Arc<PathBuf> = Arc::new(socket.to_owned());
        // Said with the path; tonic's error has neither path nor cause.
        drop(
            UnixStream::connect(&*path)
                .await
                .map_err(|error| format!("cannot connect to {}: {error}", path.display()))?,
        );
        let connector = tower::service_fn(move |_: http::Uri| {
            let path = Arc::clone(&path);
            async move { UnixStream::connect(&*path).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://localhost")
            .timeout(DEADLINE)
            .connect_with_connector(connector)
            .await?;
        Ok(Self { channel })
    }

    /// Whom agents believe, and in which trust domain.
    pub(crate) async fn bundle(&self) -> Result<Bundle, BoxError> {
        let request = GetBundleRequest { output_mask: None };
        let bundle = BundleClient::new(self.channel.clone())
            .get_bundle(request)
            .await?
            .into_inner();
        let authorities: Vec<u8> = bundle
            .x509_authorities
            .iter()
            .flat_map(|one| one.asn1.to_vec())
            .collect();
        Ok(Bundle::from_der_concat(
            TrustDomain::parse(&bundle.trust_domain)?,
            &authorities,
        )?)
    }

    /// Each of a node that also gets `alias`.
    pub(crate) async fn tokens(
        &self,
        count: usize,
        alias: &types::Spiffeid,
    ) -> Result<Vec<String>, BoxError> {
        let made = stream::iter(0..count).map(|_| async {
            let request = agent_api::CreateJoinTokenRequest {
                ttl: TOKEN_SECONDS,
                token: String::new(),
                agent_id: Some(alias.clone()),
            };
            Ok::<_, BoxError>(self.agents().create_join_token(request).await?.into_inner().value)
        });
        made.buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Answers their IDs, in order.
    pub(crate) async fn create(&self, entries: &[types::Entry]) -> Result<Vec<String>, BoxError> {
        let batches = stream::iter(entries.chunks(BATCH)).map(|batch| async {
            let request = entry_api::BatchCreateEntryRequest {
                entries: batch.to_vec(),
                output_mask: Some(types::EntryMask::default()),
            };
            let answer = self.entries().batch_create_entry(request).await?.into_inner();
            let ids = answer.results.into_iter().map(|result| match result.entry {
                Some(entry) => Ok(entry.id),
                None => Err(refused("an entry", result.status)),
            });
            ids.collect::<Result<Vec<_>, BoxError>>()
        });
        let ids: Vec<Vec<String>> = batches.buffered(4).try_collect().await?;
        Ok(ids.concat())
    }

    pub(crate) async fn delete(&self, ids: &[String]) -> Result<(), BoxError> {
        for batch in ids.chunks(BATCH) {
            let request = entry_api::BatchDeleteEntryRequest { ids: batch.to_vec() };
            let answer = self.entries().batch_delete_entry(request).await?.into_inner();
            for result in answer.results {
                if result.status.as_ref().is_none_or(|status| status.code != 0) {
                    return Err(refused("a deletion", result.status));
                }
            }
        }
        Ok(())
    }

    pub(crate) async fn ban(&self, agent: &SpiffeId) -> Result<(), BoxError> {
        let request = agent_api::BanAgentRequest {
            id: Some(wire_id(agent)),
        };
        self.agents().ban_agent(request).await?;
        Ok(())
    }

    pub(crate) async fn count(&self) -> Result<u64, BoxError> {
        let request = entry_api::CountEntriesRequest { filter: None };
        let count = self.entries().count_entries(request).await?.into_inner().count;
        Ok(u64::try_from(count)?)
    }

    pub(crate) async fn look_up(&self, id: &str) -> Result<(), BoxError> {
        let request = entry_api::GetEntryRequest {
            id: id.to_owned(),
            output_mask: None,
        };
        self.entries().get_entry(request).await?;
        Ok(())
    }

    /// One page: how many entries, and what names the next.
    pub(crate) async fn page(&self, token: String) -> Result<(usize, String), BoxError> {
        let request = entry_api::ListEntriesRequest {
            filter: None,
            output_mask: None,
            page_size: i32::try_from(PAGE)?,
            page_token: token,
        };
        let page = self.entries().list_entries(request).await?.into_inner();
        Ok((page.entries.len(), page.next_page_token))
    }

    fn entries(&self) -> EntryClient<Channel> {
        EntryClient::new(self.channel.clone()).max_decoding_message_size(64 << 20)
    }

    fn agents(&self) -> AgentClient<Channel> {
        AgentClient::new(self.channel.clone())
    }
}

fn refused(what: &str, status: Option<types::Status>) -> BoxError {
    let status = status.unwrap_or_default();
    format!(
        "the server refuses {what}: {} (code {})",
        status.message, status.code
    )
    .into()
}

/// An ID as the API has it.
pub(crate) fn wire_id(id: &SpiffeId) -> types::Spiffeid {
    types::Spiffeid {
        trust_domain: id.trust_domain().as_str().to_owned(),
        path: id.path().to_owned(),
    }
}

/// Entries of a page of a list.
pub(crate) const PAGE: usize = 500;
/// Entries of a request, as many as SPIRE's own tools send.
const BATCH: usize = 500;
const AT_ONCE: usize = 32;
const TOKEN_SECONDS: i32 = 3600;
const DEADLINE: Duration = Duration::from_secs(60);
