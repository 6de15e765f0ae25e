//! One call to the server: with a deadline, and errors that say which call it was.

use std::time::Duration;

use tokio::time::timeout;
use tonic::{Response, Status, Streaming};

use super::failure::LinkError;
use super::revision::Revision;

/// Waits for the answer to one call.
pub(crate) async fn call<T>(
    method: &'static str,
    answer: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, LinkError> {
    within(method, answer).await.map(Response::into_inner)
}

/// The same, with the revision of the registry that the answer was made from, where the server says it.
pub(super) async fn call_at<T>(
    method: &'static str,
    answer: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<(T, Option<Revision>), LinkError> {
    let response = within(method, answer).await?;
    let revision =
        Revision::of_answer(response.metadata()).map_err(|what| LinkError::protocol(method, what))?;
    Ok((response.into_inner(), revision))
}

/// Waits for the next message of a stream. `None` at its end.
pub(crate) async fn message<T>(
    method: &'static str,
    stream: &mut Streaming<T>,
) -> Result<Option<T>, LinkError> {
    within(method, stream.message()).await
}

async fn within<T>(
    method: &'static str,
    answer: impl Future<Output = Result<T, Status>>,
) -> Result<T, LinkError> {
    match timeout(DEADLINE, answer).await {
        Ok(result) => result.map_err(|status| LinkError::from_status(method, &status)),
        Err(_) => Err(LinkError::Deadline {
            method,
            seconds: DEADLINE.as_secs(),
        }),
    }
}

/// SPIRE's agent waits as long.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);
/// Largest message believed to be a list of entries or a bundle.
pub(crate) const MAX_MESSAGE: usize = 16 * 1024 * 1024;
