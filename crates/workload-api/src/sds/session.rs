//! One open stream of SDS: what the client says, and what changes, in one order.
//!
//! Invariant: every message of the stream is preceded by a look at the process, and sent only because the client lacks what is in it.

use std::sync::Arc;

use tonic::{Code, Status, Streaming};

use super::{Sds, pace::Pace, subscriber::Heard};
use crate::{
    Given, ServedX509, Way, WorkloadView, connection::Connection, encode, entitled::Following, limits::Limit,
};

/// One of the two ways in which a client can ask. Decides; never waits.
pub(super) trait Dialogue: Default + Send + 'static {
    type Request: Send + 'static;
    type Response: Send + 'static;

    /// Takes in what the client says.
    fn hear(&mut self, request: Self::Request, sds: &Sds) -> Result<Heard, Status>;

    /// What the client lacks, if anything.
    fn tell(&mut self, sds: &Sds, view: &Arc<WorkloadView>) -> Result<Option<Self::Response>, Status>;

    /// The SVIDs in what was told last.
    fn given(&mut self) -> Vec<ServedX509>;

    /// The last message to a client whose identities are gone, if there is a way to say it.
    fn part(&mut self) -> Option<Self::Response>;
}

pub(super) struct Session<D: Dialogue> {
    following: Following,
    requests: Streaming<D::Request>,
    dialogue: D,
    sds: Arc<Sds>,
    pace: Pace,
    /// The newest that may be served; `None` before the first.
    view: Option<Arc<WorkloadView>>,
    /// With what it ends, once what is left to say is said.
    end: Option<Status>,
    ended: bool,
}

impl<D: Dialogue> Session<D> {
    pub(super) fn new(
        following: Following,
        requests: Streaming<D::Request>,
        dialogue: D,
        sds: Arc<Sds>,
    ) -> Self {
        let pace = Pace::new(following.connection.limits());
        Self {
            following,
            requests,
            dialogue,
            sds,
            pace,
            view: None,
            end: None,
            ended: false,
        }
    }

    pub(super) async fn next(mut self) -> Option<(Result<D::Response, Status>, Self)> {
        if self.ended {
            return None;
        }
        let next = match self.end.take() {
            Some(status) => Err(status),
            None => self.wait().await.transpose()?,
        };
        self.ended = next.is_err();
        Some((next, self))
    }

    /// The next message; `None` when the client has nothing more to say.
    async fn wait(&mut self) -> Result<Option<D::Response>, Status> {
        loop {
            // Requests that are not answered may lie here by the thousand, and the runtime's other tasks are not to wait for them.
            tokio::task::consume_budget().await;
            tokio::select! {
                biased;
                view = self.following.next() => match view? {
                    Some(view) => self.view = Some(view),
                    None => return self.part().map(Some),
                },
                request = self.requests.message() => match request {
                    Ok(Some(request)) => if !self.hear(request)? { continue },
                    Ok(None) => return Ok(None),
                    Err(status) => return Err(reported(&self.following.connection, status)),
                },
            }
            let Some(view) = &self.view else { continue };
            if let Some(message) = self.dialogue.tell(&self.sds, view)? {
                self.following.connection.still_the_same()?;
                for served in &self.dialogue.given() {
                    self.following.hands_out(Way::Sds, Given::X509(served));
                }
                return Ok(Some(message));
            }
        }
    }

    /// Whether there may be something to answer.
    fn hear(&mut self, request: D::Request) -> Result<bool, Status> {
        let connection = &self.following.connection;
        if !self.pace.take() {
            connection.ledger.report(Limit::SdsMessages, &connection.process);
            return Err(self.pace.refusal());
        }
        match self.dialogue.hear(request, &self.sds)? {
            Heard::Asked => Ok(true),
            Heard::Stale => Ok(false),
            Heard::Refused { reason, asked } => {
                let Connection { ledger, process, .. } = &**connection;
                ledger.complain("sds-refused", process, &reason);
                Ok(asked)
            }
        }
    }

    fn part(&mut self) -> Result<D::Response, Status> {
        let last = self.dialogue.part().ok_or_else(encode::no_identity)?;
        self.following.connection.still_the_same()?;
        self.end = Some(encode::no_identity());
        Ok(last)
    }
}

/// Counts and logs a request that came to its limit.
pub(super) fn reported(connection: &Connection, status: Status) -> Status {
    let limit = match status.code() {
        Code::OutOfRange => Limit::MaxMessage,
        Code::ResourceExhausted => Limit::IncompletePerUid,
        _ => return status,
    };
    connection.ledger.report(limit, &connection.process);
    status
}
