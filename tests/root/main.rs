//! Attacks that need root: other users, namespaces, chosen process IDs, old kernels. `make test-root` runs them.
//!
//! Every test has its positive control: the same client, honest, gets what the attacker must not get.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]
#![expect(clippy::disallowed_methods, reason = "real processes live in real time")]
#![expect(
    clippy::print_stdout,
    reason = "figures of a test that has passed are worth a line"
)]

mod delegates;
mod floods;
mod ledger;
mod programs;
mod sockets;
mod succession;
mod users;

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use landfast_testkit::site::{Plan, Site};
use landfast_testkit::wire;

/// The user the identities are for, and one who has none.
const VICTIM: u32 = 61_001;
const ATTACKER: u32 = 61_002;
/// Milliseconds for an answer. Rigs stop listening when they have heard what they are told to look for, or a refusal: only who gets
/// neither waits so long.
const LONG: &str = "5000";

/// A site, the request of a workload as a file, and the rigs.
struct Ground {
    site: Site,
    request: PathBuf,
}

impl Ground {
    fn new(plan: &Plan<'_>) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "run it with: make test-root, as root"
        );
        let site = Site::start(&bin(), plan);
        let request = site.path().join("fetch.bin");
        std::fs::write(&request, wire::fetch_x509()).unwrap();
        Self { site, request }
    }

    fn socket(&self) -> String {
        self.site.socket().display().to_string()
    }

    fn request(&self) -> String {
        self.request.display().to_string()
    }

    /// What a user hears who asks with a program: the raw bytes of the answer, up to `needle` or a refusal. See [`LONG`].
    fn heard_by(&self, uid: u32, gid: u32, program: &Path, needle: &str) -> Vec<u8> {
        let out = Command::new(program)
            .args([&self.socket(), &self.request(), LONG, needle])
            .uid(uid)
            .gid(gid)
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    }

    /// Whether that user gets the identity.
    fn serves(&self, uid: u32, program: &Path, needle: &str) -> bool {
        contains(&self.heard_by(uid, uid, program, needle), needle)
    }
}

/// The programs under test; a debug build unless the environment says otherwise.
fn bin() -> PathBuf {
    std::env::var_os("LANDFAST_BIN_DIR").map_or_else(|| target().join("debug"), PathBuf::from)
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .join("target")
}

fn rig(name: &str) -> PathBuf {
    let path = target().join("rigs").join(name);
    assert!(
        path.exists(),
        "{} is not built: tests/rigs/build builds it",
        path.display()
    );
    path
}

/// A rig where every user may run it.
fn public_rig(ground: &Ground, name: &str) -> PathBuf {
    let path = ground.site.path().join(name);
    if !path.exists() {
        std::fs::copy(rig(name), &path).unwrap();
    }
    path
}

/// Runs a rig to its end and answers the numbers of its last line by name.
fn figures(command: &mut Command) -> impl Fn(&str) -> i64 + use<> {
    let out = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(
        out.status.success(),
        "{command:?}: {text}{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let line = text.lines().last().unwrap().to_owned();
    println!("{line}");
    move |name| {
        let words: Vec<&str> = line.split(' ').collect();
        // A name can stand there without a number, too: that of the flood.
        let mut pairs = words.windows(2).filter(|pair| pair[0] == name);
        let number = pairs.find_map(|pair| pair[1].parse().ok());
        number.unwrap_or_else(|| panic!("no {name} in {line}"))
    }
}

/// How often a test repeats its attack: `LANDFAST_ROUNDS` multiplies (make torture).
fn rounds(usual: usize) -> usize {
    let factor = std::env::var("LANDFAST_ROUNDS").map_or(1, |text| text.parse().unwrap());
    usual * factor
}

fn contains(bytes: &[u8], needle: &str) -> bool {
    bytes
        .windows(needle.len())
        .any(|window| window == needle.as_bytes())
}
