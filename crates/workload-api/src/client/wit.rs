//! The client's side of the WIT-SVID profile (incubating, Workload API §7).

use std::{collections::HashSet, fmt};

use futures_util::{Stream, StreamExt as _};
use landfast_identity::{Bundle, BundleSet, PublicKey, SpiffeId, TrustDomain, WitSvid, wit};
use landfast_proto::workload::{WitBundlesRequest, Witsvid, WitsvidRequest, WitsvidResponse};
use zeroize::Zeroizing;

use super::{ClientError, WorkloadClient, malformed, within};

/// A WIT-SVID with its private key.
pub struct HeldWit {
    /// The token and what it says.
    pub svid: WitSvid,
    /// What it is for; may be empty.
    pub hint: String,
    key: Zeroizing<String>,
}

impl HeldWit {
    /// The private key, which belongs to the public one in the token, as JWK.
    pub fn private_jwk(&self) -> &str {
        &self.key
    }
}

impl fmt::Debug for HeldWit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HeldWit({:?}, {:?})", self.svid, self.hint)
    }
}

impl WorkloadClient {
    /// WIT-SVIDs for `id`, or for every identity of the caller, now and after every change.
    ///
    /// # Errors
    /// The agent refuses; with `Unimplemented` where there are none.
    pub async fn wit_svids(
        &mut self,
        id: Option<&SpiffeId>,
    ) -> Result<impl Stream<Item = Result<Vec<HeldWit>, ClientError>> + Send + Unpin + use<>, ClientError>
    {
        let spiffe_id = id.map(ToString::to_string).unwrap_or_default();
        let messages = self.inner.fetch_witsvid(WitsvidRequest { spiffe_id }).await?;
        Ok(messages.into_inner().map(|message| wit_svids(message?)))
    }

    /// The WIT-SVIDs of now.
    ///
    /// # Errors
    /// The agent refuses or does not answer within 30 seconds.
    pub async fn fetch_wit(&mut self, id: Option<&SpiffeId>) -> Result<Vec<HeldWit>, ClientError> {
        let first = async {
            let mut stream = self.wit_svids(id).await?;
            stream.next().await.unwrap_or(Err(ClientError::Closed))
        };
        within(first).await
    }

    /// WIT bundles now and after every change.
    ///
    /// # Errors
    /// The agent refuses; with `Unimplemented` where there are none.
    pub async fn wit_bundles(
        &mut self,
    ) -> Result<impl Stream<Item = Result<BundleSet, ClientError>> + Send + Unpin + use<>, ClientError> {
        let messages = self.inner.fetch_wit_bundles(WitBundlesRequest {}).await?;
        let parse = |(td, jwks): (&String, &String)| {
            let td = TrustDomain::parse(td).map_err(malformed("the trust domain"))?;
            Bundle::from_jwks(td, jwks.as_bytes()).map_err(malformed("the WIT bundle"))
        };
        Ok(messages
            .into_inner()
            .map(move |message| message?.bundles.iter().map(parse).collect()))
    }
}

fn wit_svids(message: WitsvidResponse) -> Result<Vec<HeldWit>, ClientError> {
    let mut hints = HashSet::new();
    let mut svids = Vec::new();
    for svid in message.svids {
        if svid.hint.is_empty() || hints.insert(svid.hint.clone()) {
            svids.push(held(svid)?);
        }
    }
    if svids.is_empty() {
        Err(ClientError::Closed)
    } else {
        Ok(svids)
    }
}

fn held(message: Witsvid) -> Result<HeldWit, ClientError> {
    let key = Zeroizing::new(message.wit_svid_key);
    let svid = wit::parse_unverified(&message.wit_svid).map_err(malformed("the WIT-SVID"))?;
    if svid.id().as_str() != message.spiffe_id {
        return Err(malformed("the SPIFFE ID")("it differs from the token's"));
    }
    let public = PublicKey::from_jwk(key.as_bytes()).map_err(malformed("the private key"))?;
    if public != *svid.confirmation_key() {
        return Err(malformed("the private key")("it is not that of the token"));
    }
    Ok(HeldWit {
        svid,
        hint: message.hint,
        key,
    })
}
