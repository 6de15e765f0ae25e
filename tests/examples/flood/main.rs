//! A user of the Workload API's socket who means harm, and one who does not; `make test-root` and `make bench` run both beside each other.
//!
//! `flood KIND SOCKET SECONDS [PROCESSES]` does its worst for so long, from so many processes, and prints what came of it, all together;
//! `flood victim SOCKET SECONDS NEEDLE` fetches fifty times a second, each time on a new connection, and prints the latencies. Bounded in
//! connections, bytes and time.

#![expect(clippy::print_stdout, reason = "its report is what it is run for")]
#![expect(clippy::disallowed_methods, reason = "measures real time with std's clock")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use landfast_testkit::wire::{self, frame};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};

mod talk;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), BoxError> {
    let args: Vec<String> = std::env::args().collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match args.as_slice() {
        [_, "victim", socket, seconds, needle] => {
            runtime.block_on(victim(Path::new(socket), until(seconds)?, needle));
        }
        [_, kind, socket, seconds] => {
            let (soft, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
            nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, hard.max(soft), hard)?;
            let told = runtime.block_on(attack(kind, Path::new(socket), until(seconds)?))?;
            println!("{kind} {told}");
        }
        [_, kind, socket, seconds, processes] => {
            println!("{kind} {}", crowd(kind, socket, seconds, processes.parse()?)?);
        }
        _ => {
            return Err(
                "usage: flood KIND SOCKET SECONDS [PROCESSES] | flood victim SOCKET SECONDS NEEDLE".into(),
            );
        }
    }
    Ok(())
}

fn until(seconds: &str) -> Result<Instant, BoxError> {
    Ok(Instant::now() + Duration::from_secs(seconds.parse::<u64>()?.min(600)))
}

/// The same from many processes of the user, at most 64; each figure is the sum of theirs.
fn crowd(kind: &str, socket: &str, seconds: &str, processes: u32) -> Result<String, BoxError> {
    let program = std::env::current_exe()?;
    let children = (0..processes.min(64)).map(|_| {
        Command::new(&program)
            .args([kind, socket, seconds])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
    });
    let children: Vec<_> = children.collect::<Result<_, _>>()?;
    let mut sums: Vec<(String, u64)> = Vec::new();
    for child in children {
        let out = child.wait_with_output()?;
        if !out.status.success() {
            return Err(format!("one of {processes} processes has failed: {}", out.status).into());
        }
        let text = String::from_utf8(out.stdout)?;
        let words: Vec<&str> = text.split_whitespace().skip(1).collect();
        for figure in words.chunks_exact(2) {
            let number: u64 = figure[1].parse()?;
            match sums.iter_mut().find(|(name, _)| name == figure[0]) {
                Some((_, sum)) => *sum += number,
                None => sums.push((figure[0].to_owned(), number)),
            }
        }
    }
    let told = sums.iter().map(|(name, sum)| format!("{name} {sum}"));
    Ok(told.collect::<Vec<_>>().join(" "))
}

/// Every kind of flood that is known. "fifty" is none: as many connections as an honest program may have, each with its stream.
const KINDS: [&str; 14] = [
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
    "slow-message",
    "full",
    "ping",
    "fifty",
];

async fn attack(kind: &str, socket: &Path, end: Instant) -> Result<String, BoxError> {
    match kind {
        "streams" => streams(socket, end).await,
        "connections" => held(socket, end, 10_000, wire::fetch_x509()).await,
        "silent" => held(socket, end, 2_000, Vec::new()).await,
        "drip" => drip(socket, end).await,
        "zero-window" => held(socket, end, 500, zero_window()).await,
        "stop-reading" => held(socket, end, 500, wire::fetch_x509()).await,
        "reset" => {
            pour(socket, end, Vec::new(), |stream| {
                [
                    frame(
                        wire::HEADERS,
                        wire::END_HEADERS,
                        stream,
                        &wire::header_block(&wire::call(wire::FETCH_X509)),
                    ),
                    frame(wire::RST_STREAM, 0, stream, &8_u32.to_be_bytes()),
                ]
                .concat()
            })
            .await
        }
        "continuation" => {
            let opening = frame(
                wire::HEADERS,
                0,
                1,
                &wire::header_block(&wire::call(wire::FETCH_X509)),
            );
            let more = wire::header_block(&[("x-flood", "0123456789012345678901234567890123456789")]);
            pour(socket, end, opening, move |_| {
                frame(wire::CONTINUATION, 0, 1, &more)
            })
            .await
        }
        "empty-data" => {
            let opening = frame(
                wire::HEADERS,
                wire::END_HEADERS,
                1,
                &wire::header_block(&wire::call(wire::FETCH_X509)),
            );
            pour(socket, end, opening, |_| frame(wire::DATA, 0, 1, &[])).await
        }
        "large-message" => talk::talking(socket, end, &talk::LARGE).await,
        "slow-message" => talk::talking(socket, end, &talk::SLOW).await,
        "full" => talk::talking(socket, end, &talk::FULL).await,
        "fifty" => held(socket, end, 50, wire::fetch_x509()).await,
        "ping" => pour(socket, end, Vec::new(), |_| frame(wire::PING, 0, 0, &[7; 8])).await,
        other => Err(format!("no flood {other:?}; there are {KINDS:?}").into()),
    }
}

/// Ten thousand streams on one connection.
async fn streams(socket: &Path, end: Instant) -> Result<String, BoxError> {
    let (mut connections, mut sent) = (0_u32, 0_u64);
    while Instant::now() < end && connections < 1000 {
        let Ok(stream) = UnixStream::connect(socket).await else {
            sleep(SHORT).await;
            continue;
        };
        connections += 1;
        let (mut reader, mut writer) = stream.into_split();
        let mut sink = vec![0; 16_384];
        let drain = async { while matches!(reader.read(&mut sink).await, Ok(1..)) {} };
        let pour = async {
            if writer.write_all(&wire::preface()).await.is_err() {
                return;
            }
            for n in 0..10_000_u32 {
                let request = wire::request(2 * n + 1, &wire::call(wire::FETCH_X509));
                if Instant::now() >= end || writer.write_all(&request).await.is_err() {
                    return;
                }
                sent += 1;
            }
            sleep_until(end.into()).await;
        };
        tokio::select! {
            () = drain => {}
            () = pour => {}
        }
    }
    Ok(format!("opened {connections} streams {sent}"))
}

/// As many connections as can be had, each with its first bytes and then nothing read; those that are closed are opened again.
async fn held(socket: &Path, end: Instant, most: usize, first: Vec<u8>) -> Result<String, BoxError> {
    let mut held: Vec<(UnixStream, Instant)> = Vec::new();
    // Expired: those that were closed after a while. Those over a limit are closed at once.
    let (mut opened, mut closed, mut expired, mut peak) = (0_u64, 0_u64, 0_u64, 0_usize);
    while Instant::now() < end {
        held.retain(|(stream, since)| {
            let over = is_closed(stream);
            closed += u64::from(over);
            expired += u64::from(over && since.elapsed() > LONG);
            !over
        });
        for _ in 0..100 {
            if held.len() >= most {
                break;
            }
            match timeout(SHORT, UnixStream::connect(socket)).await {
                Ok(Ok(stream)) => {
                    opened += 1;
                    // What does not fit into the socket's buffer is not needed.
                    drop(stream.try_write(&first));
                    held.push((stream, Instant::now()));
                }
                _ => break,
            }
        }
        peak = peak.max(held.len());
        sleep(SHORT).await;
    }
    Ok(format!(
        "opened {opened} closed {closed} expired {expired} peak {peak}"
    ))
}

fn is_closed(stream: &UnixStream) -> bool {
    use std::os::fd::AsFd as _;
    let mut fds = [nix::poll::PollFd::new(
        stream.as_fd(),
        nix::poll::PollFlags::POLLIN,
    )];
    let polled = nix::poll::poll(&mut fds, nix::poll::PollTimeout::ZERO);
    polled.is_ok()
        && fds[0]
            .revents()
            .is_some_and(|events| events.contains(nix::poll::PollFlags::POLLHUP))
}

fn zero_window() -> Vec<u8> {
    // SETTINGS_INITIAL_WINDOW_SIZE = 0
    let settings = frame(wire::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    [
        wire::preface(),
        settings,
        wire::request(1, &wire::call(wire::FETCH_X509)),
    ]
    .concat()
}

/// A byte now and then on many connections: never quite silent, never a request.
async fn drip(socket: &Path, end: Instant) -> Result<String, BoxError> {
    let mut tasks = JoinSet::new();
    for _ in 0..200 {
        let socket = socket.to_owned();
        tasks.spawn(async move {
            let (mut opened, mut expired) = (0_u64, 0_u64);
            while Instant::now() < end {
                let Ok(mut stream) = UnixStream::connect(&socket).await else {
                    sleep(SHORT).await;
                    continue;
                };
                opened += 1;
                let since = Instant::now();
                for byte in wire::fetch_x509() {
                    if Instant::now() >= end {
                        return (opened, expired);
                    }
                    if stream.write_all(&[byte]).await.is_err() {
                        expired += u64::from(since.elapsed() > LONG);
                        break;
                    }
                    sleep(Duration::from_millis(250)).await;
                }
            }
            (opened, expired)
        });
    }
    let (opened, expired) = sum(tasks).await;
    Ok(format!("opened {opened} expired {expired}"))
}

async fn sum(tasks: JoinSet<(u64, u64)>) -> (u64, u64) {
    let done = tasks.join_all().await.into_iter();
    done.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

/// The same frames again and again on a few connections, as fast as they are taken.
async fn pour(
    socket: &Path,
    end: Instant,
    opening: Vec<u8>,
    more: impl Fn(u32) -> Vec<u8> + Clone + Send + Sync + 'static,
) -> Result<String, BoxError> {
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let (socket, opening, more) = (socket.to_owned(), opening.clone(), more.clone());
        tasks.spawn(async move {
            let (mut frames, mut closed) = (0_u64, 0_u64);
            while Instant::now() < end && closed < 100_000 {
                let Ok(stream) = UnixStream::connect(&socket).await else {
                    sleep(SHORT).await;
                    continue;
                };
                let (mut reader, mut writer) = stream.into_split();
                let mut sink = vec![0; 16_384];
                let drain = async { while matches!(reader.read(&mut sink).await, Ok(1..)) {} };
                let writing = async {
                    let mut batch = [wire::preface(), opening.clone()].concat();
                    let mut stream = 1;
                    while Instant::now() < end && stream < 2_000_000 {
                        for _ in 0..32 {
                            batch.extend(more(stream));
                            stream += 2;
                        }
                        if writer.write_all(&batch).await.is_err() {
                            break;
                        }
                        frames += 32;
                        batch.clear();
                    }
                };
                tokio::select! {
                    () = drain => {}
                    () = writing => {}
                }
                closed += 1;
            }
            (frames, closed)
        });
    }
    let (frames, closed) = sum(tasks).await;
    Ok(format!("frames {frames} closed {closed}"))
}

/// Somebody else's work goes on, or not.
async fn victim(socket: &Path, end: Instant, needle: &str) {
    let (mut took, mut failed) = (Vec::new(), 0);
    while Instant::now() < end {
        let begin = Instant::now();
        match timeout(Duration::from_secs(5), fetch(socket, needle)).await {
            Ok(true) => took.push(begin.elapsed()),
            _ => failed += 1,
        }
        sleep(Duration::from_millis(20)).await;
    }
    took.sort();
    let at = |q: usize| {
        took.get((took.len() * q / 100).min(took.len().saturating_sub(1)))
            .map_or(0, Duration::as_micros)
    };
    println!(
        "fetched {} failed {failed} p50_us {} p99_us {} max_us {}",
        took.len(),
        at(50),
        at(99),
        at(100)
    );
}

async fn fetch(socket: &Path, needle: &str) -> bool {
    // As connect(2) waits for whoever has not asked it not to: the queue before the agent is the kernel's, and one for all.
    let mut stream = loop {
        match UnixStream::connect(socket).await {
            Ok(stream) => break stream,
            Err(full) if full.kind() == std::io::ErrorKind::WouldBlock => sleep(SHORT).await,
            Err(_) => return false,
        }
    };
    if stream.write_all(&wire::fetch_x509()).await.is_err() {
        return false;
    }
    let mut heard = Vec::new();
    while !heard
        .windows(needle.len())
        .any(|window| window == needle.as_bytes())
    {
        match stream.read_buf(&mut heard).await {
            Ok(1..) if heard.len() < 1 << 20 => {}
            _ => return false,
        }
    }
    true
}

const SHORT: Duration = Duration::from_millis(10);
/// Who is refused is refused sooner.
const LONG: Duration = Duration::from_secs(3);
