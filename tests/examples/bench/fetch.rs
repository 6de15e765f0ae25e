//! Many clients at once: fetches a second on open connections, and connect + attest + fetch a second, beside the bare handler.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use landfast_testkit::raw::RawClient;
use tokio::task::JoinSet;

use crate::chart::Series;
use crate::report::Report;
use crate::{BoxError, bare_beside, own_uid, quantile, unlimited};

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Warm,
    Fresh,
}

pub(crate) async fn measure(bin: &Path, report: &mut Report) -> Result<(), BoxError> {
    let site = unlimited(bin, report);
    site.entry("/w", &[&format!("unix:uid:{}", own_uid())]);
    let (_bare, bare_socket) = bare_beside(&site).await?;
    report.note("the client sends canned frames and shares the two cores with what it measures");
    for (kind, label, name) in [
        (Kind::Warm, "FetchX509SVID on open connections", "fetch-warm"),
        (Kind::Fresh, "connect + attest + FetchX509SVID", "fetch-fresh"),
    ] {
        let mut charted = [Series::new("bare tonic"), Series::new("agent")];
        for clients in [1, 8, 64] {
            let mut rates = [0.0; 2];
            for (which, socket) in [&bare_socket, &site.socket()].into_iter().enumerate() {
                let cpu = site.agent.cpu();
                let (rate, mut took) = load(kind, socket, clients).await?;
                let cpu = site.agent.cpu() - cpu;
                let who = ["bare tonic", "agent"][which];
                let label = format!("{label}, {clients} clients: {who}");
                let aim = if kind == Kind::Fresh && clients == 8 && which == 1 {
                    " (aim >= 6000)"
                } else {
                    ""
                };
                report.add(&format!("{label}{aim}"), "/s", rate);
                report.add(&format!("{label}, p50"), "µs", quantile(&mut took, 0.5));
                report.add(&format!("{label}, p99"), "µs", quantile(&mut took, 0.99));
                if which == 1 {
                    let each = cpu.as_secs_f64() * 1e6 / (rate * LOAD.as_secs_f64());
                    report.add(&format!("{label}, CPU of the agent a call"), "µs", each);
                }
                charted[which].push(clients, rate);
                rates[which] = rate;
            }
            report.add(
                &format!("{label}, {clients} clients: agent / bare"),
                "x",
                rates[1] / rates[0],
            );
        }
        report.chart(name, label, "clients at once", "a second", &charted)?;
    }
    Ok(())
}

/// Runs `clients` at once for [`LOAD`]. Answers calls a second and the time of each in µs.
async fn load(kind: Kind, socket: &Path, clients: usize) -> Result<(f64, Vec<f64>), BoxError> {
    let end = Instant::now() + LOAD;
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let socket: PathBuf = socket.to_owned();
        tasks.spawn(async move {
            let mut took = Vec::new();
            let mut client = RawClient::connect(&socket).await?;
            while Instant::now() < end {
                let begin = Instant::now();
                if kind == Kind::Fresh {
                    client = RawClient::connect(&socket).await?;
                }
                client.fetch().await?;
                took.push(begin.elapsed().as_secs_f64() * 1e6);
            }
            Ok::<_, std::io::Error>(took)
        });
    }
    let mut all = Vec::new();
    while let Some(done) = tasks.join_next().await {
        all.extend(done??);
    }
    Ok((all.len() as f64 / LOAD.as_secs_f64(), all))
}

const LOAD: Duration = Duration::from_secs(3);
