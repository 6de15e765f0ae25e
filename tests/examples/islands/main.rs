//! Real daemons: an agent is killed and started again while its server is away, and must serve each time what is valid (G-02).
//!
//! `islands --bin-dir DIR --restarts N`. Every second start finds a server that accepts connections and never answers, so that no attempt to
//! reach it ends. Fails when one start does not serve, or serves something else; reports how long each took from exec to the SVID.

#![expect(
    clippy::print_stdout,
    reason = "a report for a person is what this program is for"
)]
#![expect(clippy::disallowed_methods, reason = "real processes live in real time")]

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use landfast_testkit::site::{Plan, Site, until};
use landfast_workload_api::client::WorkloadClient;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), BoxError> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let ["--bin-dir", bin, "--restarts", restarts] = args.as_slice() else {
        return Err("usage: islands --bin-dir DIR --restarts N".into());
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut site = Site::start(Path::new(bin), &Plan::default());
    let uid = format!("unix:uid:{}", nix::unistd::geteuid());
    for name in 0..ENTRIES {
        site.entry(&format!("/workload-{name}"), &[&uid]);
    }
    let cache = site.path().join("agent/data/cache");
    until("the cache", || svid_files(&cache) == ENTRIES);
    let before = runtime.block_on(fetch(&site))?;
    site.stop_server();
    let mut times = Vec::new();
    for round in 0..restarts.parse::<usize>()? {
        site.stop_agent();
        let hole = (round % 2 == 1).then(|| TcpListener::bind(site.address()));
        let hole = hole.transpose()?;
        let begin = Instant::now();
        site.start_agent(&[]);
        let served = runtime.block_on(fetch(&site))?;
        times.push(begin.elapsed());
        if served != before {
            return Err(format!("start {round} serves something else").into());
        }
        let standing = site.status()["standing"].clone();
        let alone = standing == "islanded" || standing == "degraded";
        if !alone || svid_files(&cache) != ENTRIES {
            return Err(format!("start {round}: {standing}, {} files", svid_files(&cache)).into());
        }
        drop(hole);
    }
    times.sort();
    let part = |part: usize| times.get((times.len() * part / 100).min(times.len() - 1));
    println!(
        "{} of {} starts without a server served {ENTRIES} identities; from exec to the SVIDs: median {:?}, p99 {:?}, longest {:?}",
        times.len(),
        times.len(),
        part(50).copied().unwrap_or_default(),
        part(99).copied().unwrap_or_default(),
        times.last().copied().unwrap_or_default(),
    );
    Ok(())
}

/// The SVIDs with their keys, as soon as the agent is there.
async fn fetch(site: &Site) -> Result<Vec<(String, Vec<u8>)>, BoxError> {
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

async fn once(endpoint: &str) -> Result<Vec<(String, Vec<u8>)>, BoxError> {
    let context = WorkloadClient::connect(endpoint).await?.fetch_x509().await?;
    let each = context
        .svids
        .iter()
        .map(|svid| (svid.serial_hex(), svid.key().as_pkcs8_der().to_vec()));
    let svids: Vec<_> = each.collect();
    match svids.len() {
        ENTRIES => Ok(svids),
        other => Err(format!("{other} SVIDs").into()),
    }
}

fn svid_files(cache: &Path) -> usize {
    let files = std::fs::read_dir(cache).into_iter().flatten().flatten();
    let names = files.map(|file| file.file_name());
    names
        .filter(|name| name.to_string_lossy().starts_with("svid-"))
        .count()
}

const ENTRIES: usize = 20;
