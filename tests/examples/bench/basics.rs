//! Sizes, an agent at rest, a cold start, and the latency of one client: fresh and warm, beside the bare handler.

use std::path::Path;
use std::time::{Duration, Instant};

use landfast_proto::workload as pb;
use landfast_testkit::site::{Plan, Site};
use landfast_testkit::unix_channel;
use pb::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use prost::Message as _;
use tonic::Request;
use tonic::transport::Channel;

use crate::report::Report;
use crate::{BoxError, PATIENCE, bare_beside, own_uid, quantile};

pub(crate) async fn measure(bin: &Path, report: &mut Report) -> Result<(), BoxError> {
    for name in ["landfast-agent", "landfast-server", "landfast"] {
        let size = std::fs::metadata(bin.join(name))?.len();
        report.add(&format!("binary size {name}"), "MB", size as f64 / 1e6);
    }
    let mut site = Site::start(bin, &Plan::default());
    for i in 0..IDENTITIES {
        // The first is ours; the rest belong to users that are not there, so that the agent holds twenty and a fetch gets one.
        let uid = if i == 0 { own_uid() } else { 60_000 + i };
        site.entry(&format!("/w{i}"), &[&format!("unix:uid:{uid}")]);
    }
    tokio::time::sleep(Duration::from_secs(3)).await; // start-up is over
    let agent = "agent idle, 20 identities";
    report.add(
        &format!("{agent}: PSS (aim <= 10)"),
        "MB",
        site.agent.pss() as f64 / 1e6,
    );
    report.add(&format!("{agent}: threads"), "", site.agent.threads() as f64);
    report.add("server idle: PSS", "MB", site.server.pss() as f64 / 1e6);
    latencies(&site, report).await?;
    cold_starts(&mut site, report).await
}

async fn latencies(site: &Site, report: &mut Report) -> Result<(), BoxError> {
    let (_bare, bare_socket) = bare_beside(site).await?;
    // Both take turns in short rounds, so that a noisy moment hits both.
    let mut samples: [[Vec<f64>; 2]; 2] = Default::default();
    for _ in 0..ROUNDS {
        for (which, socket) in [&bare_socket, &site.socket()].into_iter().enumerate() {
            samples[which][0].extend(fresh(socket, FRESH / ROUNDS).await?);
            samples[which][1].extend(warm(socket, WARM / ROUNDS).await?);
        }
    }
    for (kind, label) in ["fresh connection + FetchX509SVID", "warm FetchX509SVID"]
        .iter()
        .enumerate()
    {
        for (q, name) in [(0.50, "p50"), (0.99, "p99")] {
            let raw = quantile(&mut samples[0][kind], q);
            let ours = quantile(&mut samples[1][kind], q);
            report.add(&format!("{label} {name}: bare tonic"), "µs", raw);
            report.add(&format!("{label} {name}: agent"), "µs", ours);
            report.add(
                &format!("{label} {name}: ratio (aim p99 <= 1.5)"),
                "x",
                ours / raw,
            );
        }
    }
    Ok(())
}

async fn cold_starts(site: &mut Site, report: &mut Report) -> Result<(), BoxError> {
    let socket = site.socket();
    let mut starts = Vec::with_capacity(COLD_STARTS);
    for _ in 0..COLD_STARTS {
        site.stop_agent();
        let begin = Instant::now();
        site.start_agent(&[]);
        until_served(&socket, begin).await?;
        starts.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    for (q, name) in [(0.5, "p50 (aim <= 30)"), (0.9, "p90")] {
        let label = format!("cold start of an enrolled agent to first SVID {name}");
        report.add(&label, "ms", quantile(&mut starts, q));
    }
    Ok(())
}

/// An answer of the agent, as it is on the wire.
pub(crate) async fn one_answer(socket: &Path) -> Result<Vec<u8>, BoxError> {
    let mut client = connect(socket).await?;
    Ok(fetch(&mut client).await?.encode_to_vec())
}

async fn until_served(socket: &Path, begin: Instant) -> Result<(), BoxError> {
    loop {
        let last: BoxError = match connect(socket).await {
            Ok(mut client) => match fetch(&mut client).await {
                Ok(_) => return Ok(()),
                Err(e) => e,
            },
            Err(e) => e,
        };
        if begin.elapsed() > PATIENCE {
            return Err(format!("no SVID within {PATIENCE:?}: {last}").into());
        }
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}

async fn connect(socket: &Path) -> Result<SpiffeWorkloadApiClient<Channel>, BoxError> {
    Ok(SpiffeWorkloadApiClient::new(unix_channel(socket).await?))
}

async fn fetch(client: &mut SpiffeWorkloadApiClient<Channel>) -> Result<pb::X509svidResponse, BoxError> {
    let mut request = Request::new(pb::X509svidRequest {});
    request
        .metadata_mut()
        .insert("workload.spiffe.io", "true".parse()?);
    let mut stream = client.fetch_x509svid(request).await?.into_inner();
    Ok(stream
        .message()
        .await?
        .ok_or("the stream ended before its first message")?)
}

async fn fresh(socket: &Path, count: usize) -> Result<Vec<f64>, BoxError> {
    let mut took = Vec::with_capacity(count);
    for _ in 0..count {
        let begin = Instant::now();
        let mut client = connect(socket).await?;
        fetch(&mut client).await?;
        took.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    Ok(took)
}

async fn warm(socket: &Path, count: usize) -> Result<Vec<f64>, BoxError> {
    let mut client = connect(socket).await?;
    fetch(&mut client).await?;
    let mut took = Vec::with_capacity(count);
    for _ in 0..count {
        let begin = Instant::now();
        fetch(&mut client).await?;
        took.push(begin.elapsed().as_secs_f64() * 1e6);
    }
    Ok(took)
}

const IDENTITIES: u32 = 20;
const COLD_STARTS: usize = 40;
const FRESH: usize = 2_000;
const WARM: usize = 10_000;
const ROUNDS: usize = 4;
