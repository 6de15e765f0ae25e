//! A stream of WIT-SVIDs (Workload API §7, incubating): what is renewed, added and withdrawn, for as long as the caller listens.
//!
//! Invariant: nothing is fetched for who does not ask; each message is the full state and follows a look at the process; a renewal that
//! fails takes nothing away.

use std::{sync::Arc, time::Duration};

use landfast_identity::{SpiffeId, UnixTime};
use landfast_proto::workload::WitsvidResponse;
use tonic::Status;

use crate::{
    FetchedWit, FetchedWits, Given, IdentitySource, SourceError, Way, WorkloadView, encode,
    entitled::Following,
};

/// Tokens and hints: what tells messages apart, without the keys.
type Sent = Vec<(String, String)>;

pub(crate) struct WitStream {
    source: Arc<dyn IdentitySource>,
    following: Following,
    id: Option<SpiffeId>,
    sent: Option<Sent>,
    again_at: Option<UnixTime>,
    /// The view has changed while tokens were fetched by the one before.
    outdated: bool,
    ended: bool,
}

impl WitStream {
    pub(crate) fn new(source: Arc<dyn IdentitySource>, following: Following, id: Option<SpiffeId>) -> Self {
        Self {
            source,
            following,
            id,
            sent: None,
            again_at: None,
            outdated: false,
            ended: false,
        }
    }

    pub(crate) async fn next(mut self) -> Option<(Result<WitsvidResponse, Status>, Self)> {
        if self.ended {
            return None;
        }
        let next = self.wait().await;
        self.ended = next.is_err();
        Some((next, self))
    }

    /// The next message that differs from the last.
    async fn wait(&mut self) -> Result<WitsvidResponse, Status> {
        loop {
            if !std::mem::take(&mut self.outdated) {
                tokio::select! {
                    view = self.following.next() => served(view?)?,
                    () = due(&*self.source, self.again_at) => {}
                }
            }
            let fetched = match self.fetch().await? {
                Ok(fetched) => fetched,
                Err(SourceError::Unavailable(reason)) => {
                    let connection = &self.following.connection;
                    connection
                        .ledger
                        .complain("wit-unavailable", &connection.process, &reason);
                    if self.sent.is_none() {
                        return Err(Status::unavailable("the WIT-SVID is not available now"));
                    }
                    // What was sent stays valid, or ends by itself.
                    self.again_at = Some(UnixTime::EPOCH);
                    continue;
                }
                Err(SourceError::NoIdentity) => return Err(encode::no_identity()),
                Err(SourceError::Unsupported) => return Err(encode::no_wit()),
                Err(SourceError::InvalidArgument(reason)) => return Err(Status::invalid_argument(reason)),
            };
            self.again_at = Some(fetched.again_at);
            let of = |wit: &FetchedWit| (wit.token.clone(), wit.hint.clone());
            let sent: Sent = fetched.svids.iter().map(of).collect();
            if self.sent.as_ref() == Some(&sent) {
                continue;
            }
            let message = encode::wit_svids(fetched.svids.clone())?;
            self.following.connection.still_the_same()?;
            let before = self.sent.take().unwrap_or_default();
            let known = |wit: &&FetchedWit| before.iter().all(|(token, _)| *token != wit.token);
            for wit in fetched.svids.iter().filter(known) {
                self.following.hands_out(Way::WorkloadApi, Given::Wit(wit));
            }
            self.sent = Some(sent);
            return Ok(message);
        }
    }

    /// Fetches, and meanwhile sees to it that who loses every identity does not wait for the answer.
    async fn fetch(&mut self) -> Result<Result<FetchedWits, SourceError>, Status> {
        let (source, selectors) = (Arc::clone(&self.source), self.following.selectors().clone());
        let mut fetching = source.fetch_wit(&selectors, self.id.as_ref());
        loop {
            tokio::select! {
                fetched = &mut fetching => return Ok(fetched),
                view = self.following.next() => {
                    served(view?)?;
                    self.outdated = true;
                }
            }
        }
    }
}

/// Whether a caller with this view has WIT-SVIDs at all.
fn served(view: Option<Arc<WorkloadView>>) -> Result<(), Status> {
    let view = view.ok_or_else(encode::no_identity)?;
    match view.own_bundle.wit_authorities().is_empty() {
        true => Err(encode::no_wit()),
        false => Ok(()),
    }
}

/// Waits for a time of day, by looks at the clock: it may be stepped. Never less than [`SOON`], so that a time in the past is no loop.
async fn due(source: &dyn IdentitySource, at: Option<UnixTime>) {
    let Some(at) = at else {
        return std::future::pending().await;
    };
    let mut nap = SOON;
    loop {
        tokio::time::sleep(nap).await;
        nap = match source.now() {
            Some(now) if at <= now => return,
            Some(now) => at.since(now).clamp(Duration::from_secs(1), LONGEST_NAP),
            None => LONGEST_NAP,
        };
    }
}

const SOON: Duration = Duration::from_secs(2);
const LONGEST_NAP: Duration = Duration::from_secs(60);
