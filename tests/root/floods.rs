//! One user takes what he can; another must not notice (T-07, T-22, T-23).

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use landfast_testkit::site::{Plan, until};
use landfast_testkit::wire;

use crate::programs::sha256;
use crate::{ATTACKER, Ground, VICTIM, figures, public_rig, rig, rounds, target};

const NEEDLE: &str = "spiffe://site.test/victim";
/// What the agent may take at most while it is attacked, in bytes.
const MOST_MEMORY: u64 = 160 << 20;

/// A site with a victim, and the program that floods where every user can run it.
fn flooded(plan: &Plan<'_>) -> (Ground, PathBuf) {
    let ground = Ground::new(plan);
    ground.site.entry("/victim", &[&format!("unix:uid:{VICTIM}")]);
    // What the attacker is entitled to: without an identity of his own a flood ends at the first refusal.
    ground.site.entry("/attacker", &[&format!("unix:uid:{ATTACKER}")]);
    assert!(
        ground.serves(VICTIM, &public_rig(&ground, "fetch"), NEEDLE),
        "the control"
    );
    let flood = ground.site.path().join("flood");
    std::fs::copy(target().join("debug/examples/flood"), &flood).unwrap();
    (ground, flood)
}

/// The victim works while others do their worst; he must not fail once.
fn victim_beside(ground: &Ground, flood: &PathBuf, seconds: usize, what: &str) {
    let count = figures(
        Command::new(flood)
            .args(["victim", &ground.socket(), &seconds.to_string(), NEEDLE])
            .uid(VICTIM)
            .gid(VICTIM),
    );
    assert_eq!(count("failed"), 0, "the victim noticed: {what}");
    assert!(count("fetched") > 10, "the victim did not work");
}

fn flood_with(ground: &mut Ground, flood: &PathBuf, kind: &str) {
    let before = ground.site.agent.descriptors();
    let seconds = rounds(4);
    let mut attacker = Command::new(flood)
        .args([kind, &ground.socket(), &(seconds + 1).to_string()])
        .uid(ATTACKER)
        .gid(ATTACKER)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(500));
    victim_beside(ground, flood, seconds, kind);
    let memory = ground.site.agent.rss();
    assert!(attacker.wait().unwrap().success());
    println!("{kind}: agent {} MiB", memory >> 20);
    assert!(memory < MOST_MEMORY, "{kind}: {memory} bytes");
    assert!(ground.site.agent.is_alive(), "{kind}");
    until("the descriptors are given back", || {
        ground.site.agent.descriptors() <= before + 4
    });
}

/// T-22: everything one user can do with connections, streams and frames.
#[test]
fn t22_no_flood_of_one_user_reaches_another() {
    let (mut ground, flood) = flooded(&Plan {
        // Shorter than the flood, so that it is reached.
        agent_tables: "[limits]\nhandshake_timeout = \"2s\"",
        ..Plan::default()
    });
    for kind in [
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
    ] {
        flood_with(&mut ground, &flood, kind);
    }
    let log = ground.site.agent_log();
    for limit in [
        "connections_per_process",
        "streams_per_process",
        "handshake_timeout",
    ] {
        assert!(log.contains(limit), "the log does not name {limit}");
    }
    let _announced = announce_too_much(&ground);
    until("the log names max_message", || {
        ground.site.agent_log().contains("max_message")
    });
    assert!(!log.contains("panicked"), "{log}");
}

/// A message of 64 MiB, of which only the announcement comes: the flood above is cut off by flow control before anybody reads it.
fn announce_too_much(ground: &Ground) -> UnixStream {
    let call = wire::header_block(&wire::call(wire::FETCH_X509));
    let mut stream = UnixStream::connect(ground.socket()).unwrap();
    let frames = [
        wire::preface(),
        wire::frame(wire::HEADERS, wire::END_HEADERS, 1, &call),
        wire::frame(wire::DATA, 0, 1, &[0, 4, 0, 0, 0]),
    ];
    stream.write_all(&frames.concat()).unwrap();
    stream
}

/// T-07: attestation that costs much: programs too large to hash, and many that are just small enough.
#[test]
fn t07_programs_that_are_expensive_to_hash_cost_only_their_user() {
    let (mut ground, flood) = flooded(&Plan::default());
    // From now on programs are hashed; one of the victim's is known by its hash alone.
    let by_hash = public_rig(&ground, "fetch");
    let known = format!("unix:sha256:{}", sha256(&by_hash));
    ground
        .site
        .entry("/by-hash", &[&format!("unix:uid:{VICTIM}"), &known]);
    let hash = format!("unix:sha256:{}", "0".repeat(64));
    let entry = [
        "entry",
        "create",
        "--spiffe-id",
        "spiffe://site.test/hashed",
        "--parent-id",
    ];
    let agent = ground.site.status()["agent_id"].as_str().unwrap().to_owned();
    ground.site.operator(
        &[
            entry.as_slice(),
            &[&agent, "--selector", "unix:uid:1", "--selector", &hash],
        ]
        .concat(),
    );
    let large: Vec<PathBuf> = (0..20_u64)
        .map(|n| {
            let path = ground.site.path().join(format!("large-{n}"));
            std::fs::copy(rig("fetch"), &path).unwrap();
            // Sparse: no disk is used. Half are over the limit of 512 MiB, half under it.
            let size = if n % 2 == 0 { 4 << 30 } else { (500 << 20) + n };
            std::fs::File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_len(size)
                .unwrap();
            path
        })
        .collect();
    let seconds = rounds(6);
    let attackers: Vec<_> = (0..200)
        .map(|n: usize| {
            Command::new(&large[n % large.len()])
                .args(["--loop", &ground.socket(), &ground.request()])
                .args([&(seconds * 1000).to_string(), "spiffe://site.test/attacker"])
                .uid(ATTACKER)
                .gid(ATTACKER)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    let end = std::time::Instant::now() + Duration::from_secs(seconds as u64 - 1);
    std::thread::scope(|scope| {
        scope.spawn(|| victim_beside(&ground, &flood, seconds.saturating_sub(1), "hashing"));
        while std::time::Instant::now() < end {
            // Its times change, so it is hashed anew.
            std::fs::set_permissions(&by_hash, std::fs::Permissions::from_mode(0o755)).unwrap();
            assert!(
                ground.serves(VICTIM, &by_hash, "spiffe://site.test/by-hash"),
                "the victim's program was not hashed"
            );
        }
    });
    let mut answered = 0;
    for attacker in attackers {
        let out = attacker.wait_with_output().unwrap();
        assert!(out.status.success(), "an attacker that did not run is no attack");
        let text = String::from_utf8(out.stdout).unwrap();
        let (_, count) = text.trim().rsplit_once(' ').unwrap();
        answered += count.parse::<u64>().unwrap();
    }
    println!("hashing: attackers answered {answered} times");
    assert!(answered > 0, "their own identity needs no hash");
    assert!(ground.site.agent.is_alive());
    let log = ground.site.agent_log();
    assert!(
        log.contains("the program is not hashed"),
        "nothing was too expensive: {log}"
    );
    assert!(!log.contains("panicked"), "{log}");
}

/// T-23: out of descriptors the agent neither spins nor dies, and serves again at once afterwards.
#[test]
fn t23_without_descriptors_the_agent_waits_and_recovers() {
    let (mut ground, flood) = flooded(&Plan {
        agent_under: &["prlimit", "--nofile=64:64"],
        ..Plan::default()
    });
    let before = ground.site.agent.descriptors();
    let seconds = 5;
    let mut attacker = Command::new(&flood)
        .args(["connections", &ground.socket(), &seconds.to_string()])
        .uid(ATTACKER)
        .gid(ATTACKER)
        .spawn()
        .unwrap();
    until("no descriptor left", || ground.site.agent.descriptors() >= 63);
    std::thread::sleep(Duration::from_secs(1));
    let from = ground.site.agent.cpu();
    std::thread::sleep(Duration::from_secs(3));
    let used = ground.site.agent.cpu() - from;
    println!("starved for 3 s: {used:?} of CPU");
    // At most 5 % of a core. A loop that spins takes 3 s; ours takes about 10 ms.
    assert!(used < Duration::from_millis(150), "it spins: {used:?}");
    assert!(attacker.wait().unwrap().success());
    assert!(ground.site.agent.is_alive());
    let fetch = public_rig(&ground, "fetch");
    let freed = std::time::Instant::now();
    until("service", || ground.serves(VICTIM, &fetch, NEEDLE));
    println!("served again after {:?}", freed.elapsed());
    until("the descriptors are given back", || {
        ground.site.agent.descriptors() <= before + 4
    });
}

/// T-23: callers that die while they are attested leave nothing behind.
#[test]
fn t23_callers_that_leave_at_once_cost_no_descriptor() {
    let (ground, _) = flooded(&Plan::default());
    let before = ground.site.agent.descriptors();
    let out = Command::new(public_rig(&ground, "fetch"))
        .args([
            "--run",
            &ground.socket(),
            &ground.request(),
            &rounds(10_000).to_string(),
        ])
        .uid(ATTACKER)
        .gid(ATTACKER)
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    until("the descriptors are given back", || {
        ground.site.agent.descriptors() <= before + 4
    });
    assert!(ground.serves(VICTIM, &public_rig(&ground, "fetch"), NEEDLE));
}
