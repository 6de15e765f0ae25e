//! Measures a real agent and server beside the raw limits of the same machine in the same run. Reports; never asserts on time.
//!
//! `bench --bin-dir DIR --out DIR [SECTION...]` starts the three binaries of the first folder on loopback, and writes `report.txt`,
//! `report.json` and a chart for each figure that has sizes. Every loop is bounded. `docs/benchmarks.md` says how to read it.

#![expect(
    clippy::print_stdout,
    reason = "a report for a person is what this program is for"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "measures real time with std's clock and writes throw-away files"
)]

mod attestation;
mod bare;
mod basics;
mod chart;
mod crowd;
mod fetch;
mod issuance;
mod ledger;
mod memory;
mod neighbour;
mod node;
mod report;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use landfast_testkit::site::{Plan, Site};

use report::Report;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Every section, in the order in which it is measured.
const SECTIONS: [&str; 8] = [
    "basics",
    "fetch",
    "issuance",
    "ledger",
    "memory",
    "rotation",
    "neighbour",
    "attestation",
];

fn main() -> Result<(), BoxError> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["bare", socket, answer] => {
            raise_descriptors()?;
            runtime.block_on(bare::serve(Path::new(socket), &std::fs::read(answer)?))
        }
        [kind, "run", "--config", config] if ledger::KINDS.contains(kind) => {
            runtime.block_on(ledger::serve(kind, Path::new(config)))
        }
        ["--bin-dir", bin, "--out", out, sections @ ..] => {
            let sections = if sections.is_empty() {
                &SECTIONS[..]
            } else {
                sections
            };
            if let Some(unknown) = sections.iter().find(|name| !SECTIONS.contains(name)) {
                return Err(format!("no section {unknown:?}; there are {SECTIONS:?}").into());
            }
            raise_descriptors()?;
            runtime.block_on(run(Path::new(bin), Path::new(out), sections))
        }
        _ => Err("usage: bench --bin-dir DIR --out DIR [SECTION...]".into()),
    }
}

async fn run(bin: &Path, out: &Path, sections: &[&str]) -> Result<(), BoxError> {
    std::fs::create_dir_all(out)?;
    let mut report = Report::new(out);
    for section in sections {
        report.section(section);
        match *section {
            "basics" => basics::measure(bin, &mut report).await?,
            "fetch" => fetch::measure(bin, &mut report).await?,
            "issuance" => issuance::measure(bin, &mut report).await?,
            "ledger" => ledger::measure(bin, &mut report).await?,
            "memory" => memory::measure(bin, &mut report).await?,
            "rotation" => crowd::measure(bin, &mut report).await?,
            "attestation" => attestation::measure(bin, &mut report).await?,
            _ => neighbour::measure(bin, &mut report).await?,
        }
    }
    report.finish()
}

/// A site whose agent lets one user do what ten thousand would, and a server that signs as fast as it can. Says so.
fn unlimited(bin: &Path, report: &mut Report) -> Site {
    report.note(&format!("quotas raised: {}", AGENT_LIMITS.replace('\n', " ")));
    report.note(&format!("quotas raised: {}", SERVER_LIMITS.replace('\n', " ")));
    Site::start(
        bin,
        &Plan {
            agent_tables: AGENT_LIMITS,
            server_tables: SERVER_LIMITS,
            agent_under: &["prlimit", "--nofile=20000:20000"],
            ..Plan::default()
        },
    )
}

/// The bare handler in a process of its own, answering as the site's agent would.
async fn bare_beside(site: &Site) -> Result<(Daemon, PathBuf), BoxError> {
    let answer = site.path().join("answer.bin");
    std::fs::write(&answer, basics::one_answer(&site.socket()).await?)?;
    let socket = site.path().join("bare.sock");
    let child = Command::new(std::env::current_exe()?)
        .arg("bare")
        .arg(&socket)
        .arg(&answer)
        .stdin(Stdio::null())
        .spawn()?;
    let child = Daemon(child);
    let begin = Instant::now();
    while !socket.exists() {
        if begin.elapsed() > PATIENCE {
            return Err("the bare handler did not start".into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok((child, socket))
}

/// A child that does not outlive us.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn raise_descriptors() -> Result<(), BoxError> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// The `q`-th part of sorted samples.
fn quantile(samples: &mut [f64], q: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples
        .get(((samples.len().saturating_sub(1)) as f64 * q).round() as usize)
        .copied()
        .unwrap_or(f64::NAN)
}

const AGENT_LIMITS: &str = "[limits]\nconnections_per_process = 15000\nconnections_per_uid = 15000\nconnections_total = 15000\nstreams_per_process = 15000\nstreams_per_uid = 15000";
const SERVER_LIMITS: &str = "[limits]\nsignatures_per_second = 1000000";
const PATIENCE: Duration = Duration::from_secs(60);
