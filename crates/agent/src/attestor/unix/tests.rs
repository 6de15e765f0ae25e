//! The attestor on real processes: this one and its children.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use super::*;
use crate::entry::EntryIndex;
use crate::keeper::state::{Reach, Snapshot};
use crate::testing::{NOON, entry, td, until};

const LIMITS: HashLimits = HashLimits {
    max_size: 512 << 20,
    rate: 1 << 30,
};

fn views(entry_selectors: &[&str]) -> Views {
    let views = Views::new(&td());
    let entries = Arc::new(EntryIndex::new([Arc::new(entry("a", "/a", entry_selectors))]));
    views.publish(
        Arc::new(Snapshot {
            entries,
            synced_at: Some(NOON),
            ..Snapshot::default()
        }),
        &Reach::All,
        Some(NOON),
    );
    views
}

async fn selectors_of(pid: u32, views: Views) -> Vec<String> {
    let subject = super::super::look::at(pid.cast_signed()).unwrap();
    let found = UnixAttestor::new(LIMITS, views)
        .selectors(&subject)
        .await
        .unwrap();
    found.selectors.iter().map(ToString::to_string).collect()
}

fn value<'a>(selectors: &'a [String], prefix: &str) -> Vec<&'a str> {
    selectors
        .iter()
        .filter_map(|text| text.strip_prefix(prefix))
        .collect()
}

/// Killed and reaped when the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A program that waits, once it runs (between fork and exec it would still be the test).
async fn run(mut command: Command, name: &str) -> Running {
    let child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let link = format!("/proc/{}/exe", child.id());
    let child = Running(child);
    until("the child runs its own program", || {
        std::fs::read_link(&link).is_ok_and(|path| path.to_string_lossy().contains(name))
    })
    .await;
    child
}

#[tokio::test]
async fn this_process_has_the_selectors_the_kernel_says() {
    let found = selectors_of(std::process::id(), views(&["unix:uid:1"])).await;
    assert_eq!(value(&found, "unix:uid:"), [nix::unistd::geteuid().to_string()]);
    assert_eq!(value(&found, "unix:gid:"), [nix::unistd::getegid().to_string()]);
    let mut groups: Vec<String> = nix::unistd::getgroups()
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    groups.sort();
    groups.dedup();
    let mut told: Vec<String> = value(&found, "unix:supplementary_gid:")
        .iter()
        .map(|gid| (*gid).to_owned())
        .collect();
    told.sort();
    assert_eq!(told, groups);
    assert_eq!(
        value(&found, "unix:path:"),
        [std::env::current_exe().unwrap().to_str().unwrap()]
    );
    if let Some(user) = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap() {
        assert_eq!(value(&found, "unix:user:"), [user.name]);
    }
    if let Some(group) = nix::unistd::Group::from_gid(nix::unistd::getegid()).unwrap() {
        assert_eq!(value(&found, "unix:group:"), [group.name]);
    }
}

#[tokio::test]
async fn a_program_is_hashed_only_when_an_entry_asks_for_it() {
    let child = run(Command::new("/bin/cat"), "cat").await;
    assert!(
        value(
            &selectors_of(child.0.id(), views(&["unix:uid:1"])).await,
            "unix:sha256:"
        )
        .is_empty()
    );
    let found = selectors_of(child.0.id(), views(&["unix:sha256:00"])).await;
    let bytes = std::fs::read(std::fs::canonicalize("/bin/cat").unwrap()).unwrap();
    let expected: String = ring::digest::digest(&ring::digest::SHA256, &bytes)
        .as_ref()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    assert_eq!(value(&found, "unix:sha256:"), [expected]);
}

#[tokio::test]
async fn a_deleted_program_has_neither_path_nor_hash() {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("mycat");
    std::fs::copy("/bin/cat", &copy).unwrap();
    let child = run(Command::new(&copy), "mycat").await;
    let before = selectors_of(child.0.id(), views(&["unix:sha256:00"])).await;
    assert_eq!(
        (
            value(&before, "unix:path:").len(),
            value(&before, "unix:sha256:").len()
        ),
        (1, 1),
        "the positive control"
    );
    // Another program takes the path: what runs is not what lies there.
    std::fs::remove_file(&copy).unwrap();
    std::fs::copy("/bin/true", &copy).unwrap();
    let after = selectors_of(child.0.id(), views(&["unix:sha256:00"])).await;
    assert!(
        value(&after, "unix:path:").is_empty() && value(&after, "unix:sha256:").is_empty(),
        "{after:?}"
    );
    assert_eq!(value(&after, "unix:uid:").len(), 1, "the rest stays");
}

#[test]
fn programs_without_a_name_on_disk_have_no_path() {
    let path = |text: &str| path_selector(Path::new(text)).map(str::to_owned);
    assert_eq!(path("/usr/bin/x").as_deref(), Some("/usr/bin/x"));
    for bad in [
        "/usr/bin/x (deleted)",
        "/memfd:evil (deleted)",
        "/memfd:evil",
        "relative",
        "",
    ] {
        assert_eq!(path(bad), None, "{bad}");
    }
    use std::os::unix::ffi::OsStrExt as _;
    assert_eq!(
        path_selector(Path::new(std::ffi::OsStr::from_bytes(b"/x\xff"))),
        None
    );
}

#[test]
fn what_is_missing_is_told_by_capability_and_by_selector() {
    let status = |bits: u64| missing_in(&format!("Name:\tx\nCapEff:\t{bits:016x}\n"));
    assert_eq!(status(1 << 19 | 1 << 2), Missing::default());
    assert_eq!(status(1 << 19).capabilities, ["CAP_DAC_READ_SEARCH"]);
    assert_eq!(status(1 << 19).selectors, ["unix:sha256"]);
    assert_eq!(status(1 << 2).selectors, ["unix:path", "unix:sha256"]);
    assert_eq!(status(0).capabilities.len(), 2);
    assert_eq!(missing_in("").capabilities.len(), 2, "unknown is missing");
}

#[tokio::test]
async fn many_supplementary_groups_are_bounded_and_only_some_are_named() {
    // What the kernel shows of a process with more groups than we take into account.
    let mut groups: BTreeSet<u32> = (0..65_536).collect();
    while groups.len() > MAX_GROUPS {
        groups.pop_last();
    }
    let attestor = UnixAttestor::new(LIMITS, views(&["unix:uid:1"]));
    let subject = super::super::look::at(std::process::id().cast_signed()).unwrap();
    let mut out = Found::default();
    attestor.users_and_groups(&subject, &groups, &mut out).await;
    let found: Vec<String> = out.selectors.iter().map(ToString::to_string).collect();
    assert_eq!(value(&found, "unix:supplementary_gid:").len(), MAX_GROUPS);
    assert!(value(&found, "unix:supplementary_group:").len() <= MAX_NAMED_GROUPS);
}

#[tokio::test]
async fn a_dead_name_service_leaves_only_the_names_out() {
    struct Dead;
    impl super::super::names::NameService for Dead {
        fn user(&self, _: u32) -> Option<String> {
            None
        }
        fn group(&self, _: u32) -> Option<String> {
            None
        }
    }
    let subject = super::super::look::at(std::process::id().cast_signed()).unwrap();
    let attestor = UnixAttestor::with_names(LIMITS, views(&["unix:uid:1"]), Names::with(Arc::new(Dead)));
    let found: Vec<String> = attestor
        .selectors(&subject)
        .await
        .unwrap()
        .selectors
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(value(&found, "unix:user:").is_empty() && value(&found, "unix:group:").is_empty());
    assert_eq!(value(&found, "unix:uid:").len(), 1);
}

#[tokio::test]
async fn a_hash_that_may_come_another_time_leaves_the_look_incomplete() {
    let subject = super::super::look::at(std::process::id().cast_signed()).unwrap();
    let look = async |limits| {
        let attestor = UnixAttestor::new(limits, views(&["unix:sha256:00"]));
        attestor.selectors(&subject).await.unwrap()
    };
    // At a byte a second the budget is not there again while anybody waits.
    let size = std::fs::metadata("/proc/self/exe").unwrap().len();
    let exhausted = UnixAttestor::new(
        HashLimits {
            max_size: size,
            rate: 1,
        },
        views(&["unix:sha256:00"]),
    );
    exhausted.digests.spend(subject.uid);
    let found = exhausted.selectors(&subject).await.unwrap();
    assert!(found.incomplete, "{found:?}");
    assert!(
        found.left_out[0].contains("the program is not hashed"),
        "{found:?}"
    );
    let too_large = look(HashLimits {
        max_size: size - 1,
        rate: 1,
    })
    .await;
    assert!(
        !too_large.incomplete && too_large.left_out.len() == 1,
        "too large today, too large tomorrow: {too_large:?}"
    );
}

#[tokio::test]
async fn a_process_whose_name_is_no_text_can_be_looked_at() {
    use std::os::unix::ffi::OsStrExt as _;
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join(std::ffi::OsStr::from_bytes(b"cat\xff"));
    std::fs::copy("/bin/cat", &program).unwrap();
    let child = run(Command::new(&program), "cat\u{fffd}").await;
    let name = std::fs::read(format!("/proc/{}/comm", child.0.id())).unwrap();
    assert!(String::from_utf8(name).is_err(), "the control");
    let found = selectors_of(child.0.id(), views(&["unix:uid:1"])).await;
    assert_eq!(value(&found, "unix:uid:"), [nix::unistd::geteuid().to_string()]);
}
