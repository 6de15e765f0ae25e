//! How a node stands with its device key, as the text that is stored. Invariant: what is read is what was written.

use std::error::Error;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use landfast_identity::UnixTime;
use landfast_lifecycle::recovery::{Claim, Decision, KeyName, Offer, Recovery, Registered};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::DatastoreError;

#[derive(Serialize, Deserialize)]
struct Body {
    enrolled_at: Option<i64>,
    key: Option<Key>,
    last: Option<Last>,
    rival: Option<Asked>,
    replace: bool,
    offer: Option<Offered>,
    /// SQL writes it by this name where a registry goes back. Older rows have none.
    #[serde(default)]
    doubted: bool,
}

#[derive(Serialize, Deserialize)]
struct Key {
    spki: String,
    at: i64,
}

#[derive(Serialize, Deserialize)]
struct Asked {
    counter: u64,
    key: String,
    address: String,
    at: i64,
}

#[derive(Serialize, Deserialize)]
struct Last {
    claim: Asked,
    decision: Said,
}

#[derive(Serialize, Deserialize)]
struct Offered {
    spki: String,
    address: String,
    at: i64,
    denied: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    Accepted,
    Waiting,
    Approved,
    Denied,
}

/// All but when the node was heard, which has a column of its own.
pub(super) fn encode(recovery: &Recovery) -> Result<String, DatastoreError> {
    let asked = |claim: &Claim| Asked {
        counter: claim.counter,
        key: BASE64.encode(claim.key),
        address: claim.address.clone(),
        at: claim.at.as_secs(),
    };
    let body = Body {
        enrolled_at: recovery.enrolled_at.map(UnixTime::as_secs),
        key: recovery.key.as_ref().map(|key| Key {
            spki: BASE64.encode(&key.spki),
            at: key.at.as_secs(),
        }),
        last: recovery.last.as_ref().map(|(claim, decision)| Last {
            claim: asked(claim),
            decision: match decision {
                Decision::Accepted => Said::Accepted,
                Decision::Waiting => Said::Waiting,
                Decision::Approved => Said::Approved,
                Decision::Denied => Said::Denied,
            },
        }),
        rival: recovery.rival.as_ref().map(asked),
        replace: recovery.replace,
        offer: recovery.offer.as_ref().map(|offer| Offered {
            spki: BASE64.encode(&offer.spki),
            address: offer.address.clone(),
            at: offer.at.as_secs(),
            denied: offer.denied,
        }),
        doubted: recovery.doubted,
    };
    serde_json::to_string(&body).map_err(failed)
}

pub(super) fn decode(body: &str, heard_at: Option<UnixTime>) -> Result<Recovery, DatastoreError> {
    let body: Body = serde_json::from_str(body).map_err(damaged)?;
    Ok(Recovery {
        enrolled_at: body.enrolled_at.map(UnixTime::from_secs),
        heard_at,
        key: body.key.map(|key| key.read()).transpose()?,
        last: body.last.map(|last| last.read()).transpose()?,
        rival: body.rival.map(|rival| rival.read()).transpose()?,
        replace: body.replace,
        offer: body.offer.map(|offer| offer.read()).transpose()?,
        doubted: body.doubted,
    })
}

impl Key {
    fn read(self) -> Result<Registered, DatastoreError> {
        let spki = BASE64.decode(self.spki).map_err(damaged)?;
        Ok(Registered {
            name: name(&spki),
            spki,
            at: UnixTime::from_secs(self.at),
        })
    }
}

impl Asked {
    fn read(self) -> Result<Claim, DatastoreError> {
        let key = BASE64.decode(self.key).map_err(damaged)?;
        Ok(Claim {
            counter: self.counter,
            key: KeyName::try_from(key.as_slice()).map_err(damaged)?,
            address: self.address,
            at: UnixTime::from_secs(self.at),
        })
    }
}

impl Last {
    fn read(self) -> Result<(Claim, Decision), DatastoreError> {
        let decision = match self.decision {
            Said::Accepted => Decision::Accepted,
            Said::Waiting => Decision::Waiting,
            Said::Approved => Decision::Approved,
            Said::Denied => Decision::Denied,
        };
        Ok((self.claim.read()?, decision))
    }
}

impl Offered {
    fn read(self) -> Result<Offer, DatastoreError> {
        let spki = BASE64.decode(self.spki).map_err(damaged)?;
        Ok(Offer {
            name: name(&spki),
            spki,
            address: self.address,
            at: UnixTime::from_secs(self.at),
            denied: self.denied,
        })
    }
}

fn name(spki: &[u8]) -> KeyName {
    let mut name = KeyName::default();
    name.copy_from_slice(digest(&SHA256, spki).as_ref());
    name
}

fn damaged(source: impl Error + Send + Sync + 'static) -> DatastoreError {
    DatastoreError::Corrupt {
        source: Arc::new(source),
    }
}

fn failed(source: impl Error + Send + Sync + 'static) -> DatastoreError {
    DatastoreError::Failed {
        source: Arc::new(source),
    }
}
