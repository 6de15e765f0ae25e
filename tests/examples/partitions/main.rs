//! The eyes and hands of `tests/partitions/run` in one network namespace: it writes down what each agent serves and what each attempt
//! to redeem a token ended with.
//!
//! Invariant: one JSON object a line on standard output, with the time at which it happened; nothing that an agent sent is left out.
//!
//! Usage: `partitions BUNDLE NAME=DIR...`, where DIR holds an agent's `api.sock` and `admin.sock`. On standard input, a line each:
//! `redeem TOKEN KEY SECONDS NAME=ADDRESS...`. It ends with its standard input.

#![expect(clippy::disallowed_methods, reason = "real processes live in real time")]

mod redeem;
mod watch;

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::sync::mpsc;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let mut arguments = std::env::args().skip(1);
    let bundle = PathBuf::from(arguments.next().ok_or("the bundle's file is missing")?);
    for argument in arguments {
        let (name, dir) = argument.split_once('=').ok_or("not NAME=DIR")?;
        let (name, dir) = (name.to_owned(), PathBuf::from(dir));
        tokio::spawn(watch::svids(name.clone(), dir.join("api.sock")));
        tokio::spawn(watch::bundles(name.clone(), dir.join("api.sock")));
        tokio::spawn(watch::status(name, dir.join("admin.sock")));
    }
    // A thread of its own waits for input; one that never comes must not keep this process.
    let (give, mut lines) = mpsc::channel(64);
    std::thread::spawn(move || {
        std::io::stdin()
            .lines()
            .map_while(Result::ok)
            .try_for_each(|line| give.blocking_send(line))
    });
    while let Some(line) = lines.recv().await {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        match words.first().map(String::as_str) {
            Some("redeem") if words.len() > 4 => redeem::begin(&words[1..], &bundle)?,
            _ => return Err(format!("not a command: {line}").into()),
        }
    }
    Ok(())
}

/// Seconds since 1970, as Python's `time.time()`.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

#[expect(clippy::print_stdout, reason = "a program whose output is its purpose")]
fn say(kind: &str, mut what: Value) {
    what["kind"] = json!(kind);
    if what.get("t").is_none() {
        what["t"] = json!(now());
    }
    println!("{what}");
}
