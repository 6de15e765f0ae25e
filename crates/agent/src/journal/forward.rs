//! The way of the journal to the server. Invariant: nothing is forgotten but what an answer has acknowledged; a server that takes nothing is asked ever
//! more seldom.

use std::time::Duration;

use landfast_daemon::error_chain;
use landfast_lifecycle::Backoff;
use landfast_proto::landfast::ledger::v1::ledger_client::LedgerClient;
use landfast_proto::landfast::ledger::v1::{ForwardJournalRequest, ForwardJournalResponse};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::Channel;

use super::Keeper;
use super::chain::{Answered, Journal};
use crate::link::failure::LinkError;
use crate::link::rpc;

/// When the next batch may go.
pub(super) struct Forward {
    not_before: Option<Instant>,
    backoff: Backoff,
    /// The server of this connection takes none.
    takes_none: bool,
    complaint: String,
}

impl Default for Forward {
    fn default() -> Self {
        Self {
            not_before: None,
            backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            takes_none: false,
            complaint: String::new(),
        }
    }
}

impl Forward {
    /// Another connection may be to another server.
    pub(super) fn connected(&mut self) {
        self.takes_none = false;
        self.not_before = None;
    }

    pub(super) fn complaint(&self) -> &str {
        &self.complaint
    }

    pub(super) fn due(&self, is_empty: bool, is_connected: bool) -> Option<Instant> {
        let goes = !is_empty && is_connected && !self.takes_none;
        goes.then(|| self.not_before.unwrap_or_else(Instant::now))
    }

    fn succeeded(&mut self) {
        self.backoff.reset();
        self.not_before = None;
        self.complaint.clear();
    }

    fn failed(&mut self, error: &LinkError) {
        self.takes_none = matches!(
            error,
            LinkError::Refused {
                code: Code::Unimplemented | Code::FailedPrecondition,
                ..
            }
        );
        let pause = error.pushback().unwrap_or_default().max(self.backoff.next());
        self.not_before = Some(Instant::now() + pause);
        self.complaint = match self.takes_none {
            true => "the server takes no journals".to_owned(),
            false => format!("the server has not taken what waits: {}", error_chain(error)),
        };
    }
}

impl Keeper {
    /// All that waits, on the disk or not yet, in batches, while a server takes them.
    pub(super) async fn forward_all(&mut self, journal: &mut Journal, stop: &CancellationToken) {
        for _ in 0..MOST_BATCHES {
            let Some(channel) = self.channel.borrow().clone() else {
                return;
            };
            let due = self.forward.due(journal.is_empty(), true);
            if due.is_none_or(|due| due > Instant::now()) {
                return;
            }
            let records = journal.batch(MOST, MOST_BYTES);
            let request = ForwardJournalRequest {
                journal: journal.id.clone(),
                records: records.into_iter().map(Into::into).collect(),
                acknowledged_by: journal.acknowledged_by.clone(),
            };
            let asked = tokio::select! {
                () = stop.cancelled() => return,
                asked = ask(channel, request) => asked,
            };
            match asked {
                Ok(answer) => self.answered(journal, &answer).await,
                Err(error) => return self.forward.failed(&error),
            }
        }
    }

    async fn answered(&mut self, journal: &mut Journal, answer: &ForwardJournalResponse) {
        let before = journal.size();
        let meant = match answer.begin_anew {
            true => Answered::Contradicts,
            false => journal.acknowledge(answer.next, &answer.chain, &answer.ledger),
        };
        match meant {
            Answered::Contradicts => {
                self.begin_anew(journal, "the server has other records of this journal: the disk was put back, or two agents have written it")
                    .await;
                // A server that never takes one is not asked without an end.
                let pause = self.forward.backoff.next();
                self.forward.not_before = Some(Instant::now() + pause);
            }
            Answered::Dropped(0) => {
                let pause = self.forward.backoff.next();
                self.forward.not_before = Some(Instant::now() + pause);
            }
            Answered::Dropped(_) => {
                self.forward.succeeded();
                self.dead += before - journal.size();
                if self.dead > MOST_DEAD {
                    self.outdated = true;
                    self.write(journal).await;
                }
            }
        }
    }
}

async fn ask(channel: Channel, request: ForwardJournalRequest) -> Result<ForwardJournalResponse, LinkError> {
    rpc::call(
        "ForwardJournal",
        LedgerClient::new(channel).forward_journal(request),
    )
    .await
}

const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Records of one call,
const MOST: usize = 256;
/// and their bytes.
const MOST_BYTES: usize = 256 << 10;
/// In one go: others wait for their turn on the connection.
const MOST_BATCHES: usize = 64;
/// Bytes of the file that are acknowledged, before it is written anew.
const MOST_DEAD: usize = 32 << 10;
