//! Real daemons: an agent with a full reserve is killed and started again while its server is away, and must serve each time what is valid (G-02).
//!
//! `islands --bin-dir DIR --restarts N` does that N times as it is, N times with a clock that begins in 1970, and, as root, N times after everything
//! that the kernel had of the disk in memory was dropped. Every second start finds a server that accepts connections and never answers, so that no
//! attempt to reach it ends. Fails when one start does not serve, or serves something else, or does not have all of its reserve again; reports
//! how long each took from exec to the SVIDs.

#![expect(
    clippy::print_stdout,
    reason = "a report for a person is what this program is for"
)]
#![expect(clippy::disallowed_methods, reason = "real processes live in real time")]

mod ways;

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use landfast_testkit::site::{Plan, Site, until};
use landfast_workload_api::client::WorkloadClient;
use ways::Way;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Svids = Vec<(String, Vec<u8>)>;

fn main() -> Result<(), BoxError> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let ["--bin-dir", bin, "--restarts", restarts] = args.as_slice() else {
        return Err("usage: islands --bin-dir DIR --restarts N".into());
    };
    let (bin, restarts) = (Path::new(bin), restarts.parse::<usize>()?);
    let ways = ways::all(bin)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let plan = Plan {
        server_tables: SERVER,
        ..Plan::default()
    };
    let mut site = Site::start(bin, &plan);
    fill(&site)?;
    let before = runtime.block_on(fetch(&site))?;
    site.stop_server();
    for way in &ways {
        let mut times = Vec::new();
        for round in 0..restarts {
            site.stop_agent();
            way.prepare()?;
            let hole = (round % 2 == 1).then(|| TcpListener::bind(site.address()));
            let hole = hole.transpose()?;
            let begin = Instant::now();
            site.start_agent(&way.under());
            let served = runtime.block_on(fetch(&site))?;
            times.push(begin.elapsed());
            look(&site, way, served == before)
                .map_err(|wrong| format!("{}, start {round}: {wrong}", way.name))?;
            drop(hole);
        }
        report(way.name, times);
    }
    Ok(())
}

/// Entries for this user, each with its whole reserve, on disk.
fn fill(site: &Site) -> Result<(), BoxError> {
    let uid = format!("unix:uid:{}", nix::unistd::geteuid());
    for name in 0..ENTRIES {
        let entry = site.entry(&format!("/workload-{name}"), &[&uid]);
        site.operator(&["entry", "policy", "set", &entry, "--offline-reserve", "72h"]);
    }
    let begin = Instant::now();
    while files(site, "rung-") < ENTRIES * RUNGS {
        if begin.elapsed() > FILLING {
            let there = files(site, "rung-");
            return Err(format!("the reserve is not filled within {FILLING:?}: {there} on disk").into());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    until("the SVIDs on disk", || files(site, "svid-") == ENTRIES);
    println!(
        "a reserve of {} SVIDs was on disk after {:.1?}",
        files(site, "rung-"),
        begin.elapsed()
    );
    Ok(())
}

/// Whether a start is as it should be.
fn look(site: &Site, way: &Way, same: bool) -> Result<(), String> {
    if !same {
        return Err("serves something else".to_owned());
    }
    let mut seen = site.status();
    // What is not needed at once is read behind what is.
    until("the whole reserve", || {
        seen = site.status();
        let debt = seen["trust_debt"].as_str().unwrap_or_default();
        let many = debt.split(' ').next().and_then(|many| many.parse().ok());
        many.is_some_and(|many: usize| many >= ENTRIES * (RUNGS - 1))
    });
    let standing = &seen["standing"];
    if standing != "islanded" && standing != "degraded" {
        return Err(format!("is {standing}"));
    }
    if seen["time"]["estimated"] != way.estimated {
        return Err(format!("says of the time: {}", seen["time"]));
    }
    Ok(())
}

fn report(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let part = |part: usize| times.get((times.len() * part / 100).min(times.len().saturating_sub(1)));
    println!(
        "{name}: {0} of {0} starts without a server served {ENTRIES} identities; from exec to the SVIDs: median {1:.1?}, p99 {2:.1?}, longest {3:.1?}",
        times.len(),
        part(50).copied().unwrap_or_default(),
        part(99).copied().unwrap_or_default(),
        times.last().copied().unwrap_or_default(),
    );
}

/// The SVIDs with their keys, as soon as the agent is there.
async fn fetch(site: &Site) -> Result<Svids, BoxError> {
    let endpoint = format!("unix://{}", site.socket().display());
    let begin = Instant::now();
    loop {
        let error = match once(&endpoint).await {
            Ok(svids) => return Ok(svids),
            Err(error) => error,
        };
        if begin.elapsed() > landfast_testkit::PATIENCE {
            return Err(error);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn once(endpoint: &str) -> Result<Svids, BoxError> {
    let context = WorkloadClient::connect(endpoint).await?.fetch_x509().await?;
    let each = context
        .svids
        .iter()
        .map(|svid| (svid.serial_hex(), svid.key().as_pkcs8_der().to_vec()));
    let svids: Svids = each.collect();
    match svids.len() {
        ENTRIES => Ok(svids),
        other => Err(format!("{other} SVIDs").into()),
    }
}

/// How many the cache has of a kind.
fn files(site: &Site, kind: &str) -> usize {
    let cache = site.path().join("agent/data/cache");
    let files = std::fs::read_dir(cache).into_iter().flatten().flatten();
    let names = files.map(|file| file.file_name());
    names
        .filter(|name| name.to_string_lossy().starts_with(kind))
        .count()
}

const SERVER: &str = "[ttl]\nca = \"30d\"\n[reserve]\nlongest = \"72h\"";
const ENTRIES: usize = 20;
/// Of each entry: 72 hours of SVIDs that live one, and begin every half of one.
const RUNGS: usize = 144;
/// A debug build on a busy machine takes a part of a minute.
const FILLING: Duration = Duration::from_secs(120);
