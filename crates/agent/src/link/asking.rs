//! Questions to the server for somebody who waits, beside the link's own rounds. Invariant: each ends within its deadlines.

use std::time::Duration;

use tokio::time::timeout;
use tonic::transport::Channel;

use super::LinkHandle;
use super::busy::Question;
use super::failure::LinkError;
use crate::telemetry;

impl LinkHandle {
    /// Asks over the connection there is and, when that one proves broken, once more over the next. What a round may explain or mend hurries
    /// the link. A busy server is asked for nothing of the kind until the time that it named.
    pub(crate) async fn ask<T, F>(
        mut self,
        question: Question,
        once: impl Fn(Channel) -> F,
    ) -> Result<T, LinkError>
    where
        F: Future<Output = Result<T, LinkError>>,
    {
        if let Some(busy) = self.pauses.refusal(question) {
            return Err(busy);
        }
        let mut answer = self.ask_once(&once).await;
        if answer.as_ref().is_err_and(LinkError::connection_broke) {
            // The connection may only have been old: the link makes a new one, for which it is worth waiting a little.
            self.nudge();
            if timeout(RECONNECT, self.channel.changed()).await.is_ok() {
                answer = self.ask_once(&once).await;
            }
        }
        telemetry::renewal(question.kind, answer.is_ok());
        if let Err(error) = &answer {
            self.pauses.note(question, error);
        }
        if answer.as_ref().is_err_and(LinkError::calls_for_a_round) {
            self.nudge();
        }
        answer
    }

    async fn ask_once<T, F>(&mut self, once: impl Fn(Channel) -> F) -> Result<T, LinkError>
    where
        F: Future<Output = Result<T, LinkError>>,
    {
        let channel = timeout(RECONNECT, self.channel.wait_for(Option::is_some)).await;
        let channel = channel
            .ok()
            .and_then(|found| found.ok().and_then(|found| found.clone()));
        once(channel.ok_or(LinkError::Unreachable)?).await
    }
}

/// As long a caller waits for a connection that is being made.
const RECONNECT: Duration = Duration::from_secs(2);
