//! A user who works while another floods the agent (T-07, T-22, T-23). Needs root: there are two users.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use landfast_testkit::site::{Plan, Site};
use landfast_testkit::wire;

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
    let request = site.path().join("fetch.bin");
    std::fs::write(&request, wire::fetch_x509())?;
    let request = request.display().to_string();
    let mut charted = [Series::new("p50"), Series::new("p99")];
    for kind in KINDS {
        let socket = site.socket();
        let as_user = |uid: u32, args: &[&str]| {
            let mut command = Command::new(&flood);
            command.args(args).uid(uid).gid(uid).stdin(Stdio::null());
            command
        };
        let socket = socket.to_str().ok_or("a path that is no text")?;
        let attackers = match kind {
            "nobody" => Vec::new(),
            "hashing" => hashing(&site)?,
            "leavers" => vec![attack(
                &place(&site, "fetch")?,
                &["--run", socket, &request, "4000"],
            )?],
            _ => {
                let (flood, processes) = kind.split_once(" x").unwrap_or((kind, "1"));
                vec![
                    as_user(ATTACKER, &[flood, socket, "7", processes])
                        .stdout(Stdio::null())
                        .spawn()?,
                ]
            }
        };
        tokio::time::sleep(Duration::from_secs(1)).await;
        let out = as_user(VICTIM, &["victim", socket, "5", "spiffe://site.test/victim"]).output()?;
        let text = String::from_utf8(out.stdout)?;
        if !out.status.success() {
            return Err(format!("the victim beside {kind} ended with {}: {text}", out.status).into());
        }
        let number = |name: &str| {
            let mut words = text.split_whitespace().skip_while(|word| *word != name);
            let word = words.nth(1).and_then(|word| word.parse::<f64>().ok());
            word.ok_or_else(|| format!("the victim beside {kind} does not say {name}: {text}"))
        };
        if number("fetched")? == 0.0 {
            return Err(format!("beside {kind} the victim fetched nothing: {text}").into());
        }
        let (p50, p99) = (number("p50_us")? / 1e3, number("p99_us")? / 1e3);
        let what = format!("another user's fetch beside {kind}");
        report.add(&format!("{what}: p50"), "ms", p50);
        report.add(&format!("{what}: p99 (aim <= 250)"), "ms", p99);
        report.add(&format!("{what}: failed"), "", number("failed")?);
        charted[0].push(kind, p50);
        charted[1].push(kind, p99);
        for mut attacker in attackers {
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

/// The rig that asks, under a name where the attacker can run it.
fn place(site: &Site, name: &str) -> Result<PathBuf, BoxError> {
    let program = site.path().join(name);
    if !program.exists() {
        let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/rigs/fetch");
        std::fs::copy(&built, &program)
            .map_err(|error| format!("{}: {error}; tests/rigs/build builds it", built.display()))?;
    }
    Ok(program)
}

fn attack(program: &Path, args: &[&str]) -> Result<Child, BoxError> {
    let mut command = Command::new(program);
    command.args(args).uid(ATTACKER).gid(ATTACKER);
    let quiet = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ok(quiet.spawn()?)
}

/// Two hundred processes with programs that are too large to hash, or just not (T-07). From here on programs are hashed.
fn hashing(site: &Site) -> Result<Vec<Child>, BoxError> {
    site.entry(
        "/hashed",
        &["unix:uid:1", &format!("unix:sha256:{}", "0".repeat(64))],
    );
    let (socket, request) = (site.socket(), site.path().join("fetch.bin"));
    let args = [
        "--loop".to_owned(),
        socket.display().to_string(),
        request.display().to_string(),
        "7000".to_owned(),
        "spiffe://site.test/attacker".to_owned(),
    ];
    let args = args.each_ref().map(String::as_str);
    let mut programs = Vec::new();
    for n in 0..20_u64 {
        let program = place(site, &format!("large-{n}"))?;
        // Sparse: no disk is used. Half are over the limit of 512 MiB.
        let size = if n % 2 == 0 { 4 << 30 } else { (500 << 20) + n };
        std::fs::File::options()
            .write(true)
            .open(&program)?
            .set_len(size)?;
        programs.push(program);
    }
    let each = programs.iter().cycle().take(200);
    each.map(|program| attack(program, &args)).collect()
}

/// A number behind: from so many processes of the attacker's, so that the limits of a user are reached and not those of a process.
const KINDS: [&str; 18] = [
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
    "connections x20",
    "stop-reading x20",
    "slow-message x20",
    "full x20",
    "leavers",
    "hashing",
];
const VICTIM: u32 = 61_001;
const ATTACKER: u32 = 61_002;
