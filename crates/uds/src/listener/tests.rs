//! Socket files in every state an attacker or a crash can leave, and peers over real sockets.

use std::os::unix::{
    fs::{FileTypeExt as _, PermissionsExt as _, symlink},
    net::{UnixListener as StdListener, UnixStream as StdStream},
};

use tokio::io::AsyncReadExt as _;

use super::*;
use crate::search::{Bounds, Budgets};

fn open_to_all() -> SocketMode {
    SocketMode {
        mode: 0o777,
        group: None,
    }
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    (folder, path)
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn a_socket_has_its_mode_and_goes_with_its_listener() {
    for mode in [0o777, 0o600] {
        let (folder, path) = folder();
        let path = folder
            .path()
            .join("made/on/the/way")
            .join(path.file_name().unwrap());
        let listener = UdsListener::bind(&path, SocketMode { mode, group: None }).unwrap();
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        assert!(metadata.file_type().is_socket());
        assert_eq!(metadata.mode() & 0o7777, mode);
        assert_eq!(
            std::fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "the temporary name is left"
        );
        drop(listener);
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn the_group_is_given_and_an_unknown_one_refused() {
    let (_folder, path) = folder();
    let own = rustix::process::getegid().as_raw();
    let mode = SocketMode {
        mode: 0o660,
        group: Some(own.to_string()),
    };
    let _listener = UdsListener::bind(&path, mode).unwrap();
    assert_eq!(std::fs::symlink_metadata(&path).unwrap().gid(), own);
    let unknown = SocketMode {
        mode: 0o660,
        group: Some("no-such-group-here".to_owned()),
    };
    let refused = UdsListener::bind(&path.with_extension("b"), unknown);
    assert!(
        matches!(refused, Err(UdsError::UnknownGroup { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn relative_and_overlong_paths_are_refused() {
    let refused = UdsListener::bind(Path::new("api.sock"), open_to_all());
    assert!(
        matches!(refused, Err(UdsError::NotAbsolute { .. })),
        "{refused:?}"
    );
    let (folder, _) = folder();
    let refused = UdsListener::bind(&folder.path().join("x".repeat(100)), open_to_all());
    assert!(matches!(refused, Err(UdsError::TooLong { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_folder_that_others_can_write_is_refused() {
    for mode in [0o777, 0o775, 0o1777, 0o757] {
        let (folder, path) = folder();
        set_mode(folder.path(), mode);
        let refused = UdsListener::bind(&path, open_to_all());
        assert!(
            matches!(refused, Err(UdsError::WritableFolder { .. })),
            "{mode:o}: {refused:?}"
        );
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn a_folder_within_a_writable_one_is_refused_unless_that_is_sticky() {
    for (mode, fine) in [(0o777, false), (0o1777, true)] {
        let (folder, _) = folder();
        let inner = folder.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        set_mode(folder.path(), mode);
        assert_eq!(
            UdsListener::bind(&inner.join("s"), open_to_all()).is_ok(),
            fine,
            "{mode:o}"
        );
    }
}

#[tokio::test]
async fn a_folder_of_another_user_is_refused() {
    let (folder, path) = folder();
    let own = rustix::process::geteuid().as_raw();
    let refused = if own == 0 {
        // Root's folders are everybody's, so it gives this one away.
        nix::unistd::chown(folder.path(), Some(nix::unistd::Uid::from_raw(65_534)), None).unwrap();
        UdsListener::bind(&path, open_to_all()).map(|_| ())
    } else {
        // Nobody else can, so somebody else looks at it.
        socket_file::check_folders(folder.path(), own + 1)
    };
    assert!(
        matches!(refused, Err(UdsError::ForeignFolder { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn nothing_but_an_own_dead_socket_is_removed() {
    let (folder, path) = folder();
    let precious = folder.path().join("precious");
    std::fs::File::create(&precious).unwrap();
    type Occupy = fn(&Path, &Path);
    let occupy: [(&str, Occupy); 3] = [
        ("symbolic link", |path, precious| symlink(precious, path).unwrap()),
        ("not a socket", |path, _| {
            drop(std::fs::File::create(path).unwrap())
        }),
        ("folder", |path, _| std::fs::create_dir(path).unwrap()),
    ];
    for (what, occupy) in occupy {
        occupy(&path, &precious);
        let refused = UdsListener::bind(&path, open_to_all());
        assert!(
            matches!(&refused, Err(UdsError::Occupied { what: found, .. }) if found.contains(what)),
            "{refused:?}"
        );
        assert!(std::fs::symlink_metadata(&path).is_ok(), "{what} was removed");
        if path.is_dir() {
            std::fs::remove_dir(&path).unwrap()
        } else {
            std::fs::remove_file(&path).unwrap()
        }
    }
    assert!(precious.exists());
    drop(StdListener::bind(&path).unwrap());
    assert!(path.exists(), "a dead socket lies there");
    UdsListener::bind(&path, open_to_all()).unwrap();
}

#[tokio::test]
async fn a_dead_socket_of_another_user_is_left_alone() {
    let (_folder, path) = folder();
    drop(StdListener::bind(&path).unwrap());
    let own = rustix::process::geteuid().as_raw();
    let refused = socket_file::clear(&path, own + 1);
    assert!(matches!(refused, Err(UdsError::Occupied { .. })), "{refused:?}");
    assert!(path.exists());
    // The control: to its owner it is just a dead socket.
    socket_file::clear(&path, own).unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn a_living_server_is_not_pushed_aside() {
    let (_folder, path) = folder();
    let living = UdsListener::bind(&path, open_to_all()).unwrap();
    let refused = UdsListener::bind(&path, open_to_all());
    assert!(matches!(refused, Err(UdsError::InUse { .. })), "{refused:?}");
    assert!(living.file.is_in_place());
}

#[tokio::test]
async fn a_socket_that_is_no_longer_ours_is_not_removed() {
    let (_folder, path) = folder();
    let ours = UdsListener::bind(&path, open_to_all()).unwrap();
    std::fs::remove_file(&path).unwrap();
    let _theirs = StdListener::bind(&path).unwrap();
    drop(ours);
    assert!(path.exists());
}

#[tokio::test]
async fn a_deleted_socket_is_back_within_two_seconds() {
    let (_folder, path) = folder();
    let mut listener = UdsListener::bind(&path, open_to_all()).unwrap();
    for replaced in [false, true] {
        std::fs::remove_file(&path).unwrap();
        if replaced {
            drop(StdListener::bind(&path).unwrap());
        }
        let client = async {
            loop {
                match tokio::net::UnixStream::connect(&path).await {
                    Ok(stream) => return stream,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        let both = async { tokio::join!(listener.accept(), client) };
        let (accepted, _client) = tokio::time::timeout(Duration::from_secs(60), both)
            .await
            .expect("it is not back");
        accepted.unwrap();
        assert_eq!(std::fs::symlink_metadata(&path).unwrap().mode() & 0o7777, 0o777);
    }
}

#[tokio::test]
async fn the_peer_is_pinned_in_both_modes() {
    assert_eq!(
        PinMode::detect(),
        PinMode::PeerPidfd,
        "this kernel has SO_PEERPIDFD"
    );
    for (mode, name) in [
        (PinMode::PeerPidfd, "peer-pidfd"),
        (PinMode::SockDiag, "sock-diag"),
    ] {
        let (_folder, path) = folder();
        let mut listener = UdsListener::bind_with(&path, open_to_all(), mode).unwrap();
        assert_eq!(listener.mode_name(), name);
        let _client = StdStream::connect(&path).unwrap();
        let _second = StdStream::connect(&path).unwrap();
        let stream = listener.accept().await.unwrap();
        let process = stream
            .peer()
            .process()
            .unwrap_or_else(|| panic!("{:?}", stream.peer()));
        assert_eq!(process.pid(), std::process::id() as i32);
        assert_eq!(stream.peer().pid, Some(process.pid()));
        assert_eq!(process.uid(), rustix::process::geteuid().as_raw());
        let second = listener.accept().await.unwrap();
        assert!(
            Arc::ptr_eq(process, second.peer().process().unwrap()),
            "one pin a process"
        );
    }
}

#[tokio::test]
async fn a_peer_that_has_gone_or_handed_its_socket_on_is_not_pinned() {
    if let Some(path) = std::env::var_os("LANDFAST_TEST_SOCKET") {
        return connect_and_leave(&path);
    }
    for mode in [PinMode::PeerPidfd, PinMode::SockDiag] {
        let (_folder, path) = folder();
        let mut listener = UdsListener::bind_with(&path, open_to_all(), mode).unwrap();
        // The test binary, started again, connects; the socket outlives it in its own child.
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "listener::tests::a_peer_that_has_gone_or_handed_its_socket_on_is_not_pinned",
                "--nocapture",
            ])
            .env("LANDFAST_TEST_SOCKET", &path)
            .status()
            .unwrap();
        assert!(status.success());
        let stream = listener.accept().await.unwrap();
        assert!(stream.peer().process().is_none(), "{mode:?}: {:?}", stream.peer());
        assert!(
            matches!(stream.peer().unpinned(), Some(crate::PinError::Exited { .. })),
            "{:?}",
            stream.peer()
        );
    }
}

/// The other half of the test above, in a process of its own.
fn connect_and_leave(path: &std::ffi::OsStr) {
    let stream = StdStream::connect(path).unwrap();
    // Another program keeps the socket as its input after we are gone.
    let child = std::process::Command::new("/bin/sleep")
        .arg("2")
        .stdin(std::os::fd::OwnedFd::from(stream))
        .stdout(std::process::Stdio::null())
        .spawn();
    drop(child);
}

#[tokio::test]
async fn without_a_pidfd_of_the_peer_only_the_holder_of_the_socket_is_pinned() {
    let (_folder, path) = folder();
    let mut listener = UdsListener::bind_with(&path, open_to_all(), PinMode::SockDiag).unwrap();
    let client = StdStream::connect(&path).unwrap();
    // We are still there, but another program holds the socket: as if it had taken our pid.
    let mut other = std::process::Command::new("/bin/sleep")
        .arg("60")
        .stdin(std::os::fd::OwnedFd::from(client))
        .spawn()
        .unwrap();
    let stream = listener.accept().await.unwrap();
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(
        matches!(
            stream.peer().unpinned(),
            Some(crate::PinError::NotTheHolder { .. })
        ),
        "{:?}",
        stream.peer()
    );
}

/// With the socket's mode of old kernels and a search that costs at most this.
async fn refused_by_a_search(path: &Path, bounds: Bounds, connections: usize) -> Vec<Option<String>> {
    let mut listener = UdsListener::bind_with(path, open_to_all(), PinMode::SockDiag).unwrap();
    let mut processes = ProcessTable::default();
    processes.searches = Budgets::new(bounds);
    listener.processes = Arc::new(processes);
    let mut refusals = Vec::new();
    for _ in 0..connections {
        let _client = StdStream::connect(path).unwrap();
        let stream = listener.accept().await.unwrap();
        refusals.push(stream.peer().unpinned().map(ToString::to_string));
    }
    refusals
}

#[tokio::test]
async fn without_a_pidfd_of_the_peer_a_caller_with_too_many_descriptors_is_refused() {
    let (_folder, path) = folder();
    let bounds = |each, burst| Bounds { each, burst, rate: 0 };
    // Standard input, output and error are before any socket of ours.
    let refused = refused_by_a_search(&path, bounds(3, 100), 1).await;
    let refused = refused[0].clone().unwrap();
    assert!(refused.contains("the first 3 descriptors"), "{refused}");
    // The control, and then its user has nothing left.
    let fine = refused_by_a_search(&path, bounds(4096, 4096), 2).await;
    assert_eq!(fine, [None, None]);
    let spent = refused_by_a_search(&path, bounds(3, 4), 3).await;
    let spent: Vec<String> = spent.into_iter().flatten().collect();
    assert!(spent[0].contains("the first 3 descriptors"), "{spent:?}");
    for refused in &spent[1..] {
        assert!(refused.contains("come again in a second"), "{spent:?}");
    }
    assert_eq!(spent.len(), 3);
}

#[tokio::test]
async fn a_client_without_preface_is_given_up_in_time() {
    let (_folder, path) = folder();
    let mut listener = UdsListener::bind(&path, open_to_all()).unwrap();
    let client = StdStream::connect(&path).unwrap();
    let mut stream = listener.accept().await.unwrap();
    stream.set_handshake_timeout(Duration::from_millis(50));
    // One byte now and then does not help.
    std::io::Write::write_all(&mut (&client), b"PRI").unwrap();
    let mut buffer = [0; 64];
    assert_eq!(stream.read(&mut buffer).await.unwrap(), 3);
    let given_up = tokio::time::timeout(Duration::from_secs(60), stream.read(&mut buffer)).await;
    let error = given_up.expect("it waits on").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}
