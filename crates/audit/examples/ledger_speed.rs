//! How fast a ledger is written and verified: `ledger_speed DIR [RECORDS]`. The directory must not be there yet; it stays, to be looked at.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use landfast_audit::verify::{DirSource, VerifierKey, verify};
use landfast_audit::{Actor, ActorClass, Category, CheckpointKey, Decision, Log, Record, TimeQuality};
use landfast_identity::UnixTime;
use landfast_store::Store;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(dir) = arguments.next().map(PathBuf::from) else {
        eprintln!("usage: ledger_speed DIR [RECORDS]");
        return ExitCode::from(2);
    };
    let records = arguments
        .next()
        .and_then(|count| count.parse().ok())
        .unwrap_or(1_000_000);
    match run(&dir, records) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(dir: &std::path::Path, records: u64) -> Result<bool, Box<dyn std::error::Error>> {
    let key = CheckpointKey::from_pkcs8_der("plant.test/landfast/ledger", &CheckpointKey::generate()?)?;
    let verifier_key = VerifierKey::parse(&key.verifier_key())?;
    let mut log = Log::begin(Store::open(dir)?, key)?;
    let (mut bytes, mut slowest, mut batches) = (0, Duration::ZERO, 0_u64);
    let (written, outcome) = timed(|| -> Result<(), landfast_audit::LogError> {
        while log.size() < records {
            let first = log.size();
            let batch: Vec<_> = (first..records.min(first + BATCH)).map(record).collect();
            let (took, committed) = timed(|| log.append(&batch));
            bytes += committed?.bytes;
            slowest = slowest.max(took);
            batches += 1;
        }
        log.checkpoint()
    });
    outcome?;
    drop(log);
    let (verified, report) = timed(|| verify(&DirSource::new(dir), &verifier_key, &[]));
    let per_second = records as f64 / written.as_secs_f64();
    eprintln!(
        "{records} records of {} bytes in batches of {BATCH}: written in {:.1} s ({per_second:.0} records/s, {:.2} ms a batch, the slowest {:.0} ms)",
        bytes / records.max(1),
        written.as_secs_f64(),
        written.as_secs_f64() * 1000.0 / batches.max(1) as f64,
        slowest.as_secs_f64() * 1000.0,
    );
    eprintln!(
        "verified in {:.2} s: {} records, {} findings",
        verified.as_secs_f64(),
        report.records,
        report.findings.len()
    );
    Ok(report.is_good() && report.records == records)
}

/// Such as the server writes for an X.509-SVID.
fn record(number: u64) -> Record {
    let agent = format!("spiffe://plant.test/spire/agent/join_token/{:032x}", number % 500);
    Record {
        time: Some(UnixTime::from_secs(
            1_795_420_800 + i64::try_from(number / 100).unwrap_or(0),
        )),
        time_quality: TimeQuality::Unconfirmed,
        subject: Some(format!("spiffe://plant.test/line/{}/collector", number % 4000)),
        decision: Decision::Allow,
        ..Record::new(
            Category::AccessControl,
            "svid.issued",
            Actor::new(ActorClass::Node, Some(agent)).known_by("attestation", "join_token"),
        )
    }
    .with("authority", "3f0c9f7c2b9a4a64c8d2f6a6f1d07e21f4a2c9b1")
    .with("entry", format!("{:032x}", number % 4000))
    .with("kind", "x509")
    .with("not_after", UnixTime::from_secs(1_795_424_400))
    .with("not_before", UnixTime::from_secs(1_795_420_500))
    .with("serial", format!("{number:040x}"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a measurement is of real time, and there is no tokio here"
)]
fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let began = std::time::Instant::now();
    let done = work();
    (began.elapsed(), done)
}

const BATCH: u64 = 64;
