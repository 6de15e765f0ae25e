//! A change goes on to its end also when who asked for it hangs up. Invariant: what is committed has its record, whoever waits for the answer.

use std::future::Future;

use super::operators::Right;
use crate::people::Verb;

/// Whether calls with this right change something that is recorded.
pub(super) fn is_change(right: Right) -> bool {
    right.verb().is_some_and(|verb| verb != Verb::Read)
}

/// The same, and dropping it does not stop it. Of a server that ends it ends with the rest.
pub(super) async fn to_the_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    #[expect(
        clippy::disallowed_methods,
        reason = "its owner waits for it, or has gone; it is bounded by the time and the number of its requests"
    )]
    let running = tokio::spawn(work);
    match running.await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only the end of the runtime stops it.
            Err(_stopped) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn who_hangs_up_does_not_stop_what_is_being_changed() {
        let (go, begun) = oneshot::channel::<()>();
        let (done, ended) = oneshot::channel();
        let mut change = Box::pin(to_the_end(async move {
            begun.await.unwrap();
            done.send("recorded").unwrap();
        }));
        let waits = tokio::time::timeout(std::time::Duration::from_millis(10), &mut change).await;
        assert!(waits.is_err(), "it waits for the disk");
        drop(change);
        go.send(()).unwrap();
        assert_eq!(ended.await, Ok("recorded"));
    }

    #[test]
    fn what_is_only_read_ends_with_who_asked() {
        assert!(is_change(Right::Whole(Verb::Administer)) && is_change(Right::Each(Verb::Revoke)));
        assert!(!is_change(Right::Whole(Verb::Read)) && !is_change(Right::Nobodys));
    }
}
