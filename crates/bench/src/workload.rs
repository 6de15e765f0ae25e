//! Load on a Workload API socket of any agent: streams that are held, and fetches beside them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use landfast_workload_api::client::WorkloadClient;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::BoxError;
use crate::args::Workload;
use crate::report::Report;
use crate::samples::Samples;

pub(crate) async fn measure(args: &Workload, report: &mut Report) -> Result<(), BoxError> {
    let (mut held, mut opened) = (JoinSet::new(), Samples::default());
    for size in &args.streams {
        while (held.len() as u64) < *size {
            let begin = Instant::now();
            let mut client = WorkloadClient::connect(&args.socket).await?;
            let mut stream = client.x509_svids().await?;
            let first = timeout(PATIENCE, stream.next()).await?;
            first.ok_or("the agent ends a stream at once")??;
            opened.push(begin.elapsed());
            held.spawn(async move {
                let _client = client;
                while stream.next().await.is_some_and(|message| message.is_ok()) {}
            });
        }
        let half = args.fetches / 2;
        let fresh = fetches(args, half, true).await?;
        let warm = fetches(args, half, false).await?;
        let mut ended = 0;
        while held.try_join_next().is_some() {
            ended += 1;
        }
        let load = format!("{size} streams held, {} clients fetch", args.clients);
        let mut under = report.under("workload", load);
        under.latency(
            "a stream's connection and first SVIDs",
            &std::mem::take(&mut opened),
            None,
        );
        under.latency("fetch on a new connection", &fresh.samples, None);
        under.add("fetches on new connections", "/s", fresh.rate());
        under.latency("fetch on an open connection", &warm.samples, None);
        under.add("fetches on open connections", "/s", warm.rate());
        under.add("streams that have ended meanwhile", "", f64::from(ended));
        let p99 = |fetched: &Fetched| fetched.samples.percentile(99.0).unwrap_or(0.0);
        // A logarithm knows no zero.
        report.point(CHART, "new connection, p99", (*size).max(1) as f64, p99(&fresh));
        report.point(CHART, "open connection, p99", (*size).max(1) as f64, p99(&warm));
    }
    Ok(())
}

struct Fetched {
    samples: Samples,
    took: Duration,
}

impl Fetched {
    fn rate(&self) -> f64 {
        self.samples.len() as f64 / self.took.as_secs_f64().max(1e-9)
    }
}

/// So many, shared by the clients.
async fn fetches(args: &Workload, count: u64, fresh: bool) -> Result<Fetched, BoxError> {
    let left = Arc::new(AtomicU64::new(count));
    let (begin, mut clients) = (Instant::now(), JoinSet::new());
    for _ in 0..args.clients {
        let (left, socket) = (Arc::clone(&left), args.socket.clone());
        clients.spawn(async move {
            let mut samples = Samples::default();
            let mut client = WorkloadClient::connect(&socket).await?;
            while left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok()
            {
                let begin = Instant::now();
                if fresh {
                    client = WorkloadClient::connect(&socket).await?;
                }
                client.fetch_x509().await?;
                samples.push(begin.elapsed());
            }
            Ok::<_, BoxError>(samples)
        });
    }
    let mut samples = Samples::default();
    while let Some(done) = clients.join_next().await {
        samples.extend(done??);
    }
    Ok(Fetched {
        samples,
        took: begin.elapsed(),
    })
}

const PATIENCE: Duration = Duration::from_secs(30);
const CHART: [&str; 4] = [
    "workload",
    "FetchX509SVID beside streams that are held",
    "streams",
    "ms",
];
