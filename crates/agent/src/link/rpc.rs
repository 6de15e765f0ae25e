//! One call to the server: with a deadline, and errors that say which call it was.

use std::time::Duration;

use landfast_identity::UnixTime;
use landfast_proto::speaks::Speaks;
use landfast_proto::{NEEDED_BY, TIME};
use tokio::time::timeout;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Request, Response, Status, Streaming};

use super::failure::LinkError;
use super::revision::Revision;
use super::speaks;

/// Waits for the answer to one call.
pub(crate) async fn call<T>(
    method: &'static str,
    answer: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, LinkError> {
    within(method, DEADLINE, answer).await.map(Response::into_inner)
}

/// The same, for what is worth no longer wait than this.
pub(super) async fn call_for<T>(
    method: &'static str,
    patience: Duration,
    answer: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, LinkError> {
    within(method, patience, answer).await.map(Response::into_inner)
}

/// What servers of ours say with an answer, beside it.
pub(super) struct Said {
    /// Of the registry that it was made from.
    pub(super) revision: Option<Revision>,
    /// The server's time.
    pub(super) time: Option<UnixTime>,
    /// What it is and can.
    pub(super) speaks: Option<Speaks>,
}

impl Said {
    pub(super) fn of_answer(metadata: &MetadataMap) -> Result<Self, String> {
        let time = metadata.get(TIME).and_then(|value| {
            let seconds = value.to_str().ok().and_then(|text| text.parse().ok());
            if seconds.is_none() {
                tracing::warn!("the server's {TIME} is not a time: it is passed over");
            }
            seconds.map(UnixTime::from_secs)
        });
        Ok(Self {
            revision: Revision::of_answer(metadata)?,
            time,
            speaks: speaks::of_answer(metadata),
        })
    }
}

/// The same, with what the server says beside it.
pub(super) async fn call_at<T>(
    method: &'static str,
    answer: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<(T, Said), LinkError> {
    let response = within(method, DEADLINE, answer).await?;
    let said = Said::of_answer(response.metadata()).map_err(|what| LinkError::protocol(method, what))?;
    Ok((response.into_inner(), said))
}

/// A request for signatures, which says by when the soonest of them is needed (Unix seconds); `None` when something is missing.
pub(crate) fn needed_by<T>(message: T, seconds: Option<i64>) -> Request<T> {
    let mut request = Request::new(message);
    let seconds = seconds.map_or(0, |seconds| seconds.max(1));
    request
        .metadata_mut()
        .insert(NEEDED_BY, MetadataValue::from(seconds));
    request
}

/// Waits for the next message of a stream. `None` at its end.
pub(crate) async fn message<T>(
    method: &'static str,
    stream: &mut Streaming<T>,
) -> Result<Option<T>, LinkError> {
    within(method, DEADLINE, stream.message()).await
}

async fn within<T>(
    method: &'static str,
    patience: Duration,
    answer: impl Future<Output = Result<T, Status>>,
) -> Result<T, LinkError> {
    match timeout(patience, answer).await {
        Ok(result) => result.map_err(|status| LinkError::from_status(method, &status)),
        Err(_) => Err(LinkError::Deadline {
            method,
            seconds: patience.as_secs(),
        }),
    }
}

/// SPIRE's agent waits as long.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);
/// Largest message believed to be a list of entries or a bundle.
pub(crate) const MAX_MESSAGE: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_answer_is_waited_for_without_an_end() {
        for (patience, seconds) in [(Duration::from_secs(5), 5), (DEADLINE, 30)] {
            let begin = tokio::time::Instant::now();
            let error = call_for::<()>("Some", patience, std::future::pending()).await;
            assert!(matches!(error, Err(LinkError::Deadline { seconds: said, .. }) if said == seconds));
            assert_eq!(begin.elapsed(), patience);
        }
    }

    #[test]
    fn what_is_not_a_time_is_passed_over() {
        for (value, time) in [("17", Some(17)), ("noon", None), ("", None), ("1e99", None)] {
            let mut metadata = MetadataMap::new();
            metadata.insert(TIME, value.parse().unwrap());
            let said = Said::of_answer(&metadata).unwrap();
            assert_eq!(said.time.map(UnixTime::as_secs), time, "{value}");
        }
    }
}
