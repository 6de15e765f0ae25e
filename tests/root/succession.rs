//! Who comes after: another process with the pid, the connection or the program of one that was attested (T-01, T-02, T-03).

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use landfast_testkit::site::{Plan, until};

use crate::{ATTACKER, Ground, VICTIM, figures, public_rig, rig, rounds};

const NEEDLE: &str = "spiffe://site.test/victim";

fn victim_of(plan: &Plan<'_>) -> Ground {
    let ground = Ground::new(plan);
    ground.site.entry("/victim", &[&format!("unix:uid:{VICTIM}")]);
    let fetch = public_rig(&ground, "fetch");
    assert!(ground.serves(VICTIM, &fetch, NEEDLE), "the control");
    assert!(!ground.serves(ATTACKER, &fetch, NEEDLE));
    ground
}

fn reuse(ground: &Ground, rounds: usize, stopped: bool) {
    let before = ground.site.agent.descriptors();
    let agent = if stopped { ground.site.agent.pid() } else { 0 };
    let count = figures(Command::new(rig("pidreuse")).args([
        ground.socket(),
        ground.request(),
        rounds.to_string(),
        ATTACKER.to_string(),
        VICTIM.to_string(),
        agent.to_string(),
        NEEDLE.to_owned(),
    ]));
    assert_eq!(count("wrong"), 0, "the identity of a process that came later");
    assert_eq!(count("silent"), 0, "a connection that nobody ends");
    assert!(
        count("reused") * 10 >= count("rounds") * 9,
        "too few pids came again"
    );
    until("the descriptors are given back", || {
        ground.site.agent.descriptors() <= before + 4
    });
    assert!(
        ground.serves(VICTIM, &rig_for_all(ground), NEEDLE),
        "the agent serves on"
    );
}

fn rig_for_all(ground: &Ground) -> std::path::PathBuf {
    public_rig(ground, "fetch")
}

/// T-01 with the race decided: the agent looks only when the victim has the attacker's pid.
#[test]
fn t01_the_pid_of_an_attacker_that_has_gone_is_not_an_identity() {
    reuse(&victim_of(&Plan::default()), rounds(1000), true);
}

#[test]
fn t01_nor_is_it_when_nobody_decides_the_race() {
    reuse(&victim_of(&Plan::default()), rounds(1000), false);
}

/// T-02: the kernel has no SO_PEERPIDFD.
#[test]
fn t02_an_old_kernel_is_named_and_as_safe() {
    let old = rig("oldkernel");
    let ground = victim_of(&Plan {
        agent_under: &[old.to_str().unwrap()],
        ..Plan::default()
    });
    assert_eq!(ground.site.status()["attestation_mode"], "sock-diag");
    reuse(&ground, rounds(1000), true);
    reuse(&ground, rounds(500), false);
}

#[test]
fn t02_on_this_kernel_the_better_way_is_used() {
    let ground = victim_of(&Plan::default());
    assert_eq!(ground.site.status()["attestation_mode"], "peer-pidfd");
}

/// T-03: what becomes of open streams when their process leaves, executes another program, or drops its user.
fn hand_over(ground: &Ground, entry: &str, how: &str, count: usize) {
    // What is pushed while the old holder lives is the old holder's, also when nobody has read it yet.
    ground.site.settle();
    let mut rounds = 0;
    let mut child = Command::new(rig("handover"))
        .args([how, &ground.socket(), &ground.request(), &count.to_string()])
        .args([VICTIM.to_string(), ATTACKER.to_string()])
        .args(["6000", NEEDLE])
        .arg(public_rig(ground, "reader"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), format!("armed {count}"));
    // New SVIDs are pushed again and again while the others listen.
    let last = loop {
        rounds += 1;
        ground.site.renew(entry, rounds);
        if child.try_wait().unwrap().is_some() {
            break lines.next().unwrap().unwrap();
        }
        assert!(rounds < 1000, "the rig does not end");
    };
    println!("{how}: {last} ({rounds} renewals)");
    let words: Vec<&str> = last.split(' ').collect();
    let ["before", before, "after", after, "open", open, "slowest", slowest] = words.as_slice() else {
        panic!("{last}")
    };
    assert_eq!(
        before.parse::<usize>().unwrap(),
        count,
        "the control: all had it before"
    );
    assert_eq!(*after, "0", "keys for the new holder");
    assert_eq!(*open, "0", "a stream outlived its process");
    // A process is looked at once a second; the rest is what the machine does.
    assert!(
        slowest.parse::<u64>().unwrap() <= 3000,
        "the last ended after {slowest} ms"
    );
}

/// A victim with a second identity that can be renewed at will.
fn renewable() -> (Ground, String) {
    let ground = victim_of(&Plan::default());
    let entry = ground
        .site
        .entry("/line", &[&format!("unix:uid:{VICTIM}"), "unix:gid:61001"]);
    (ground, entry)
}

#[test]
fn t03_a_stream_that_was_handed_on_ends_and_carries_nothing_more() {
    let (ground, entry) = renewable();
    for _ in 0..rounds(10) {
        hand_over(&ground, &entry, "pass", 100);
    }
}

#[test]
fn t03_so_does_one_whose_process_executes_another_program() {
    let (ground, entry) = renewable();
    hand_over(&ground, &entry, "exec", 100);
}

#[test]
fn t03_and_one_whose_process_becomes_another_user() {
    let (ground, entry) = renewable();
    hand_over(&ground, &entry, "setuid", 100);
}
