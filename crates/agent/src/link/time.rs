//! The server's time, as the link hears it.
//!
//! Invariant: it is heard over verified connections only, and only within what the certificate on them allows: whoever has a key that ended
//! cannot say a time long after that. A connection that is made to ask for the time serves nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use landfast_identity::{Certificate, UnixTime};
use landfast_lifecycle::{Clock, Heard, Verdict};
use landfast_proto::spire::api::server::bundle::v1::{GetBundleRequest, bundle_client::BundleClient};
use landfast_proto::spire::api::types;
use tokio::time::Instant;

use super::connection::channel_over;
use super::dial::{AttemptError, DialError, Dialled};
use super::failure::LinkError;
use super::{Link, rpc};
use crate::time::Ear;

/// Who is told of the server's time, and what it may be on the present connection.
#[derive(Default)]
pub(super) struct Listener {
    pub(super) ear: Option<Ear>,
    pub(super) vouched: Option<Vouched>,
    /// It is said once what is wrong with a server.
    complained: AtomicBool,
}

impl Listener {
    pub(super) fn hear(&self, said: UnixTime, heard: Heard) -> Option<Verdict> {
        let (ear, vouched) = self.ear.as_ref().zip(self.vouched.as_ref())?;
        if !vouched.allows(said, ear.skew) {
            if !self.complained.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    %said, not_before = %vouched.not_before, not_after = %vouched.not_after,
                    "the server says a time at which its own certificate is not valid: it is not believed; look at its clock"
                );
            }
            return None;
        }
        Some(ear.hear(said, heard))
    }
}

/// When the certificate of a connection is valid.
pub(super) struct Vouched {
    not_before: UnixTime,
    not_after: UnixTime,
    since: Instant,
}

impl Vouched {
    pub(super) fn by(dialled: &Dialled) -> Option<Self> {
        let chain = dialled.stream.get_ref().1.peer_certificates()?;
        let leaf = Certificate::from_der(chain.first()?).ok()?;
        Some(Self {
            not_before: leaf.not_before(),
            not_after: leaf.not_after(),
            since: Instant::now(),
        })
    }

    /// A connection may outlive its certificate by as long as it has lasted.
    fn allows(&self, said: UnixTime, skew: Duration) -> bool {
        let end = self
            .not_after
            .saturating_add(self.since.elapsed())
            .saturating_add(skew);
        said.saturating_add(skew) >= self.not_before && said <= end
    }
}

/// A time that stands, to verify by.
#[derive(Debug)]
struct Moment(UnixTime);

impl Clock for Moment {
    fn now(&self) -> Option<UnixTime> {
        Some(self.0)
    }
}

impl Link {
    /// A node whose clock is lost cannot verify a server by the time that it knows. It verifies the server by a time at which that would be
    /// valid, not below the floor, asks what time it is, and nothing else. Whether that has changed anything.
    pub(super) async fn ask_the_time(&self, error: &DialError) -> bool {
        self.ask_at(self.moments(error)).await
    }

    /// The same, where something of ours shows already that it is later than the clock says.
    pub(super) async fn ask_the_time_after(&self, begins: UnixTime) -> bool {
        let ear = self.settings.ear.as_ref();
        self.ask_at(ear.map(|ear| ear.clock.least().max(begins)).into_iter().collect())
            .await
    }

    /// The earliest first: the dates are of certificates that nobody has verified, and a stranger's shall not hide a server's.
    async fn ask_at(&self, mut moments: Vec<UnixTime>) -> bool {
        let mut asked = None;
        for _ in 0..MOMENTS {
            moments.retain(|moment| asked.is_none_or(|asked| asked < *moment));
            let Some(at) = moments.iter().min().copied() else {
                return false;
            };
            asked = Some(at);
            match self.dial(false, Arc::new(Moment(at))).await {
                Ok(dialled) => {
                    if self.hear_once(dialled).await.unwrap_or(false) {
                        return true;
                    }
                }
                // Of an authority that is younger than the certificate says.
                Err(LinkError::Dial(error)) => moments.extend(self.moments(&error)),
                Err(_) => return false,
            }
        }
        false
    }

    /// The times at which servers that were refused by the clock would not be.
    fn moments(&self, error: &DialError) -> Vec<UnixTime> {
        let Some(ear) = &self.settings.ear else {
            return Vec::new();
        };
        let (least, can_go_back) = (ear.clock.least(), ear.clock.can_go_back());
        let moment = |attempt: &AttemptError| match attempt {
            AttemptError::ClockBehind { not_before, .. } => Some(least.max(*not_before)),
            // The estimate may be of a server that was wrong.
            AttemptError::Ended { not_after, .. } if can_go_back => {
                Some(*not_after).filter(|end| least <= *end)
            }
            _ => None,
        };
        let attempts = error.attempts.iter();
        attempts.filter_map(|(_, attempt)| moment(attempt)).collect()
    }

    async fn hear_once(&self, dialled: Dialled) -> Result<bool, LinkError> {
        let listener = Listener {
            ear: self.settings.ear.clone(),
            vouched: Vouched::by(&dialled),
            ..Listener::default()
        };
        let channel = channel_over(dialled, &self.settings.trust_domain, self.settings.keep_alive).await?;
        let request = GetBundleRequest {
            output_mask: Some(types::BundleMask {
                sequence_number: true,
                ..Default::default()
            }),
        };
        let (_, said) = rpc::call_at("GetBundle", BundleClient::new(channel).get_bundle(request)).await?;
        let verdict = said.time.and_then(|time| listener.hear(time, Heard::Answer));
        Ok(matches!(verdict, Some(Verdict::Agreed | Verdict::Adopted(_))))
    }
}

/// Of chains, of which each certificate may be the one that begins last.
const MOMENTS: usize = 8;
