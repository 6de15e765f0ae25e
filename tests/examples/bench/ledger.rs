//! What the ledger costs: signing over `BatchNewX509SVID` with it and without, by turns, in one run; and how much it grows.

use std::path::Path;

use landfast_server::{Server, ServerConfig, ServerParts};
use landfast_testkit::site::{Plan, Site};

use crate::node::Node;
use crate::report::Report;
use crate::{BoxError, SERVER_LIMITS, quantile};

/// The words by which this program is a server, with the ledger and without.
pub(crate) const KINDS: [&str; 2] = ["server-with-ledger", "server-without-ledger"];

/// A server in this process: the same code both ways, since no configuration has one without.
pub(crate) async fn serve(kind: &str, config: &Path) -> Result<(), BoxError> {
    let tree = landfast_daemon::TaskTree::new();
    let parts = ServerParts {
        ledger: kind == KINDS[0],
        ..ServerParts::default()
    };
    Server::start(ServerConfig::load_to_run(config)?, parts, &tree.handle()).await?;
    Ok(landfast_daemon::serve_until_asked(tree, std::time::Duration::from_secs(5)).await?)
}

pub(crate) async fn measure(bin: &Path, report: &mut Report) -> Result<(), BoxError> {
    report.note(&format!("quotas raised: {SERVER_LIMITS}"));
    report.note(&format!(
        "{ROUNDS} rounds, with and without by turns, each on a server of its own; medians"
    ));
    let program = std::env::current_exe()?;
    let program = program.to_str().ok_or("a path that is no UTF-8")?;
    let mut rates = KINDS.map(|_| BATCHES.map(|_| Vec::new()));
    let (mut issued, mut grown) = (0_u64, 0_u64);
    for round in 0..ROUNDS {
        // Whoever begins has the colder machine: each does in turn.
        for turn in 0..KINDS.len() {
            let kind = (round + turn) % KINDS.len();
            let site = Site::start(
                bin,
                &Plan {
                    server: &[program, KINDS[kind]],
                    server_tables: SERVER_LIMITS,
                    ..Plan::default()
                },
            );
            let node = Node::enrol(&site).await?;
            let requests = node.requests(&site, 500).await?;
            let ledger = site.path().join("server/data/ledger");
            let before = tree(&ledger)?;
            let mut count = 0;
            for (batch, rates) in BATCHES.iter().zip(&mut rates[kind]) {
                let begin = std::time::Instant::now();
                let signed = node.load(&requests, *batch).await?;
                rates.push(signed as f64 / begin.elapsed().as_secs_f64());
                count += signed;
            }
            let growth = tree(&ledger)?.saturating_sub(before);
            if (growth == 0) != (kind != 0) {
                return Err(format!("{}: its ledger grew by {growth} bytes", KINDS[kind]).into());
            }
            if kind == 0 {
                issued += count;
                grown += growth;
            }
        }
    }
    for (nth, batch) in BATCHES.iter().enumerate() {
        let [with, without] = [0, 1].map(|kind| quantile(&mut rates[kind][nth], 0.5));
        let label = format!("batches of {batch}, 4 at once");
        report.add(&format!("{label}: with the ledger"), "/s", with);
        report.add(&format!("{label}: without it"), "/s", without);
        report.add(&format!("{label}: share (aim >= 0.80)"), "x", with / without);
    }
    let each = grown as f64 / issued as f64;
    report.add(&format!("growth for a million, of {issued} issued"), "MB", each);
    Ok(())
}

/// Bytes of the files in a folder and below; nothing when it is not there.
fn tree(dir: &Path) -> Result<u64, BoxError> {
    let mut total = 0;
    if !dir.exists() {
        return Ok(0);
    }
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        total += match entry.file_type()?.is_dir() {
            true => tree(&entry.path())?,
            false => entry.metadata()?.len(),
        };
    }
    Ok(total)
}

const BATCHES: [usize; 3] = [1, 50, 500];
const ROUNDS: usize = 3;
