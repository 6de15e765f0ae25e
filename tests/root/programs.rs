//! Which program a process runs: other namespaces, files that change, programs without a file (T-05, T-06).

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use landfast_testkit::site::Plan;

use crate::{Ground, LONG, VICTIM, contains, figures, public_rig, rig, rounds};

pub(crate) fn sha256(path: &Path) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, &std::fs::read(path).unwrap());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A site where `fetch`, and only `fetch`, has an identity by its hash and another by its path.
fn known_program(plan: &Plan<'_>) -> (Ground, PathBuf) {
    let ground = Ground::new(plan);
    let uid = format!("unix:uid:{VICTIM}");
    let program = public_rig(&ground, "fetch");
    ground
        .site
        .entry("/by-hash", &[&uid, &format!("unix:sha256:{}", sha256(&program))]);
    ground
        .site
        .entry("/by-path", &[&uid, &format!("unix:path:{}", program.display())]);
    for needle in [HASH, PATH] {
        assert!(ground.serves(VICTIM, &program, needle), "the control: {needle}");
    }
    assert!(!ground.serves(VICTIM, &public_rig(&ground, "evil"), HASH));
    (ground, program)
}

const HASH: &str = "spiffe://site.test/by-hash";
const PATH: &str = "spiffe://site.test/by-path";

/// T-05: in its own mount namespace a workload can have any path.
#[test]
fn t05_a_path_of_another_mount_namespace_is_no_program_of_ours() {
    let (ground, program) = known_program(&Plan::default());
    let nested = |inner: &Path| {
        let out = Command::new(rig("nested"))
            .arg(VICTIM.to_string())
            .args([&program, inner])
            .args([
                ground.socket(),
                ground.request(),
                LONG.to_owned(),
                HASH.to_owned(),
            ])
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    };
    let answer = nested(&public_rig(&ground, "evil"));
    assert!(answer.starts_with(b"EVIL\n"), "the other program did run");
    assert!(answer.len() > 50, "it was answered");
    assert!(!contains(&answer, HASH), "hashed by the path");
    assert!(
        !contains(&answer, PATH),
        "a path that leads to another program here"
    );
    // The same program, from there: known by its content.
    let answer = nested(&program);
    assert!(contains(&answer, HASH));
}

/// T-06: the file under the path changes while the program starts and asks.
#[test]
fn t06_a_program_that_is_swapped_while_it_starts_has_no_identity_of_the_other() {
    let (ground, _) = known_program(&Plan {
        agent_tables: "[workload]\nhash_rate = \"100GiB\"",
        ..Plan::default()
    });
    let good = public_rig(&ground, "fetch");
    let evil = public_rig(&ground, "evil");
    let path = ground.site.path().join("swapped");
    let count = figures(
        Command::new(rig("swap"))
            .args(["race", &VICTIM.to_string()])
            .args([&path, &good, &evil])
            .arg(rounds(2000).to_string())
            .args([
                ground.socket(),
                ground.request(),
                LONG.to_owned(),
                HASH.to_owned(),
            ]),
    );
    assert_eq!(count("wrong"), 0, "the identity of a program that does not run");
    assert!(count("evil") > 0 && count("good") > 0, "a race that nobody ran");
    assert!(count("mute") * 10 <= count("rounds"), "too few were answered");
}

/// T-06 with the race decided: when the agent looks, the other program is where the kernel says that this one was.
#[test]
fn t06_nor_has_one_that_is_swapped_just_before_it_is_looked_at() {
    let (ground, good) = known_program(&Plan::default());
    let evil = public_rig(&ground, "evil");
    let count = figures(
        Command::new(rig("swap"))
            .args(["stop", &VICTIM.to_string()])
            .args([&ground.site.path().join("swapped"), &good, &evil])
            .args([rounds(200).to_string(), ground.site.agent.pid().to_string()])
            .args([
                ground.socket(),
                ground.request(),
                LONG.to_owned(),
                HASH.to_owned(),
            ]),
    );
    assert_eq!(count("wrong"), 0, "the identity of a program that does not run");
    assert_eq!(count("evil"), count("rounds"), "the other program ran each time");
    assert_eq!(count("mute"), 0, "each was answered");
}

#[test]
fn t06_a_program_without_a_file_is_no_program() {
    let (ground, program) = known_program(&Plan::default());
    let args = [
        ground.socket(),
        ground.request(),
        LONG.to_owned(),
        HASH.to_owned(),
    ];
    let out = Command::new(rig("swap"))
        .args(["memfd", &VICTIM.to_string()])
        .arg(&program)
        .args(&args)
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(out.stdout.len() > 50, "it was answered");
    assert!(
        !contains(&out.stdout, HASH) && !contains(&out.stdout, PATH),
        "from memory"
    );

    // Its own folder, so that it may remove itself.
    let own = ground.site.path().join("own");
    std::fs::create_dir(&own).unwrap();
    chown(&own, Some(VICTIM), Some(VICTIM)).unwrap();
    let copy = own.join("fetch");
    std::fs::copy(&program, &copy).unwrap();
    assert!(ground.serves(VICTIM, &copy, HASH), "the control");
    let out = Command::new(&copy)
        .args(&args)
        .uid(VICTIM)
        .gid(VICTIM)
        .env("FETCH_UNLINK", "1")
        .output()
        .unwrap();
    assert!(out.status.success() && !copy.exists() && out.stdout.len() > 50);
    assert!(!contains(&out.stdout, HASH), "deleted");
}

/// The kernel knows the interpreter only: a script cannot have an identity by its own path.
#[test]
fn t06_a_script_is_its_interpreter() {
    let ground = Ground::new(&Plan::default());
    let script = ground.site.path().join("collector");
    let fetch = public_rig(&ground, "fetch");
    std::fs::write(&script, format!("#!{} --script\n", fetch.display())).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let uid = format!("unix:uid:{VICTIM}");
    let by_path = |path: &Path| format!("unix:path:{}", path.display());
    ground.site.entry("/by-path", &[&uid, &by_path(&script)]);
    assert!(!ground.serves(VICTIM, &script, PATH), "by the script's own path");
    ground.site.entry("/by-hash", &[&uid, &by_path(&fetch)]);
    ground.site.settle();
    let answer = ground.heard_by(VICTIM, VICTIM, &script, HASH);
    assert!(contains(&answer, HASH), "by its interpreter's");
    assert!(!contains(&answer, PATH));
}
