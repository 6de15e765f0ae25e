//! How long connections last. Invariant: those that began together do not all end together, or a fleet that came back in one second would do so
//! again and again.

use std::time::Duration;

use landfast_daemon::TaskHandle;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

/// Deals connections out, one after the other, to those who serve them: each for another time, `most` at most and three fifths of it at least.
pub(crate) fn deal<T: Send + 'static>(
    mut all: ReceiverStream<T>,
    most: Duration,
    tasks: &TaskHandle,
) -> Vec<(Duration, ReceiverStream<T>)> {
    let (hands, streams): (Vec<_>, Vec<_>) = (0..HANDS).map(|_| mpsc::channel(1)).unzip();
    let stop = tasks.token();
    let dealing = async move {
        for hand in hands.iter().cycle() {
            let Some(one) = all.next().await else { return };
            // Who serves stops only with the server.
            if hand.send(one).await.is_err() {
                return;
            }
        }
    };
    tasks.spawn("deal", async move {
        stop.run_until_cancelled(dealing).await.unwrap_or_default();
    });
    let ages = (0..HANDS).map(|hand| most * (3 * (HANDS - 1) + 2 * hand) / (5 * (HANDS - 1)));
    ages.zip(streams.into_iter().map(ReceiverStream::new)).collect()
}

const HANDS: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use landfast_daemon::TaskTree;

    #[tokio::test(start_paused = true)]
    async fn those_that_come_together_do_not_end_together() {
        let tree = TaskTree::new();
        let (send, all) = mpsc::channel(64);
        let most = Duration::from_secs(600);
        let dealt = deal(ReceiverStream::new(all), most, &tree.handle());
        for number in 0..48 {
            send.send(number).await.unwrap();
        }
        let (ages, streams): (Vec<_>, Vec<_>) = dealt.into_iter().unzip();
        let each = streams
            .into_iter()
            .map(|stream| stream.take(3).collect::<Vec<_>>());
        for (hand, got) in (0..).zip(futures_util::future::join_all(each).await) {
            assert_eq!(got, [hand, hand + 16, hand + 32]);
        }
        let ages: Vec<_> = ages.iter().map(Duration::as_secs).collect();
        assert_eq!((ages[0], ages[15]), (360, 600));
        assert!(ages.windows(2).all(|two| two[1] - two[0] == 16), "{ages:?}");
        tree.join_with_deadline(Duration::from_secs(1)).await.unwrap();
    }
}
