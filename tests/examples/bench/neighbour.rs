//! A user who works while another floods the agent (T-07, T-22, T-23). Needs root: there are two users.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use landfast_testkit::site::{Plan, Site};

use crate::chart::Series;
use crate::report::Report;
use crate::{BoxError, own_uid};

pub(crate) async fn measure(bin: &Path, report: &mut Report) -> Result<(), BoxError> {
    if own_uid() != 0 {
        report.note("not measured: it takes two users, and so root");
        return Ok(());
    }
    let site = Site::start(bin, &Plan::default());
    site.entry("/victim", &[&format!("unix:uid:{VICTIM}")]);
    site.entry("/attacker", &[&format!("unix:uid:{ATTACKER}")]);
    let flood = site.path().join("flood");
    let beside = std::env::current_exe()?.with_file_name("flood");
    std::fs::copy(&beside, &flood).map_err(|error| format!("{}: {error}; build it too", beside.display()))?;
    let mut charted = [Series::new("p50"), Series::new("p99")];
    for kind in KINDS {
        let socket = site.socket();
        let as_user = |uid: u32, args: &[&str]| {
            let mut command = Command::new(&flood);
            command.args(args).uid(uid).gid(uid).stdin(Stdio::null());
            command
        };
        let socket = socket.to_str().ok_or("a path that is no text")?;
        let attacker = if kind == "nobody" {
            None
        } else {
            Some(
                as_user(ATTACKER, &[kind, socket, "7"])
                    .stdout(Stdio::null())
                    .spawn()?,
            )
        };
        tokio::time::sleep(Duration::from_secs(1)).await;
        let out = as_user(VICTIM, &["victim", socket, "5", "spiffe://site.test/victim"]).output()?;
        let text = String::from_utf8(out.stdout)?;
        let number = |name: &str| {
            let mut words = text.split_whitespace().skip_while(|word| *word != name);
            words
                .nth(1)
                .and_then(|word| word.parse::<f64>().ok())
                .unwrap_or(f64::NAN)
        };
        report.add(
            &format!("another user's fetch beside {kind}: p50"),
            "ms",
            number("p50_us") / 1e3,
        );
        report.add(
            &format!("another user's fetch beside {kind}: p99 (aim <= 250)"),
            "ms",
            number("p99_us") / 1e3,
        );
        report.add(
            &format!("another user's fetch beside {kind}: failed"),
            "",
            number("failed"),
        );
        charted[0].push(kind, number("p50_us") / 1e3);
        charted[1].push(kind, number("p99_us") / 1e3);
        if let Some(mut attacker) = attacker {
            attacker.wait()?;
        }
    }
    report.chart(
        "neighbour",
        "Another user's fetch while one floods",
        "the flood",
        "ms",
        &charted,
    )
}

const KINDS: [&str; 12] = [
    "nobody",
    "streams",
    "connections",
    "silent",
    "drip",
    "zero-window",
    "stop-reading",
    "reset",
    "continuation",
    "empty-data",
    "large-message",
    "ping",
];
const VICTIM: u32 = 61_001;
const ATTACKER: u32 = 61_002;
