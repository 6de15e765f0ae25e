//! Holds the verifiers to x509-limbo and Wycheproof: `conformance DIR [--output json]`. See docs/conformance.md.
//!
//! Invariant: every case of every file is counted once, and only agreement or a line of `tests/conformance/allow.txt` keeps the
//! exit code at 0. Neither suite is part of this repository; DIR holds what somebody fetched, and a missing file is a failure.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a report for a person is what this program is for"
)]

mod allow;
mod case;
mod limbo;
mod report;
mod wycheproof;

use std::path::Path;
use std::process::ExitCode;

use allow::Allowed;
use case::Source;

type BoxError = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (dir, json) = match args.as_slice() {
        [dir] if !dir.is_empty() && !dir.starts_with('-') => (*dir, false),
        [dir, "--output", "json"] if !dir.is_empty() => (*dir, true),
        _ => {
            eprintln!("error: usage: conformance DIR [--output json], or make vectors DIR=…");
            eprintln!("hint: {}", fetch_hint("DIR"));
            return ExitCode::from(2);
        }
    };
    match run(Path::new(dir), json) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error}");
            eprintln!("hint: {}", fetch_hint(dir));
            ExitCode::from(1)
        }
    }
}

fn fetch_hint(dir: &str) -> String {
    let clone = |s: &Source| format!("git clone --depth 1 {} {dir}/{}", s.url, s.folder);
    [limbo::SOURCE, wycheproof::SOURCE]
        .each_ref()
        .map(clone)
        .join(" && ")
}

/// Whether everything agrees or is explained.
fn run(dir: &Path, json: bool) -> Result<bool, BoxError> {
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join(ALLOW_LIST);
    let mut allowed = Allowed::parse(&std::fs::read_to_string(list)?)?;
    let mut cases = limbo::run(dir)?;
    cases.extend(wycheproof::run(dir)?);
    let judged: Vec<_> = cases.iter().map(|case| (case, allowed.judge(case))).collect();
    let complaints = allowed.complaints();
    if json {
        report::json(&judged, &complaints)?;
    } else {
        report::text(&judged, &complaints);
    }
    Ok(complaints.is_empty() && !judged.iter().any(|(_, verdict)| verdict.fails()))
}

const ALLOW_LIST: &str = "../../tests/conformance/allow.txt";
