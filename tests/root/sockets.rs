//! Where the socket is: folders and files of others (T-08).

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::process::{Command, Stdio};

use landfast_testkit::site::{Plan, until};

use crate::{ATTACKER, Ground, VICTIM, bin, public_rig};

/// Starts a second agent with its socket elsewhere; it must refuse. Answers why.
fn refusal(ground: &Ground, socket: &std::path::Path) -> String {
    let config = std::fs::read_to_string(ground.site.path().join("agent.toml")).unwrap();
    let own = ground.socket();
    let data = ground.site.path().join("agent/data");
    let config = config
        .replace(&own, socket.to_str().unwrap())
        .replace(
            data.to_str().unwrap(),
            ground.site.path().join("second-data").to_str().unwrap(),
        )
        .replace("agent/admin.sock", "agent/second-admin.sock");
    let file = ground.site.path().join("second.toml");
    std::fs::write(&file, config).unwrap();
    let out = Command::new("timeout")
        .arg("10")
        .arg(bin().join("landfast-agent"))
        .args(["run", "--config"])
        .arg(&file)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(
        out.status.code(),
        Some(1),
        "it must refuse, not run: {}",
        socket.display()
    );
    String::from_utf8(out.stderr).unwrap()
}

/// T-08: a folder of an attacker, a path taken by an attacker's files, a link to a file that matters.
#[test]
fn t08_the_socket_is_never_where_another_user_decides() {
    let ground = Ground::new(&Plan::default());
    let theirs = ground.site.path().join("theirs");
    std::fs::create_dir(&theirs).unwrap();
    chown(&theirs, Some(ATTACKER), Some(ATTACKER)).unwrap();
    assert!(refusal(&ground, &theirs.join("api.sock")).contains("theirs"));

    let open = ground.site.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    assert!(refusal(&ground, &open.join("api.sock")).contains(open.to_str().unwrap()));

    let folder = ground.site.path().join("folder");
    std::fs::create_dir(&folder).unwrap();
    let precious = ground.site.path().join("precious");
    std::fs::write(&precious, "keep me").unwrap();
    symlink(&precious, folder.join("link")).unwrap();
    assert!(refusal(&ground, &folder.join("link")).contains(folder.join("link").to_str().unwrap()));
    std::fs::write(folder.join("file"), "keep me").unwrap();
    assert!(refusal(&ground, &folder.join("file")).contains(folder.join("file").to_str().unwrap()));
    // A dead socket of another user.
    drop(std::os::unix::net::UnixListener::bind(folder.join("dead")).unwrap());
    chown(folder.join("dead"), Some(ATTACKER), Some(ATTACKER)).unwrap();
    assert!(refusal(&ground, &folder.join("dead")).contains(folder.join("dead").to_str().unwrap()));
    assert!(folder.join("dead").exists());
    for kept in [&precious, &folder.join("file")] {
        assert_eq!(std::fs::read_to_string(kept).unwrap(), "keep me");
    }
}

#[test]
fn t08_a_deleted_socket_is_back() {
    let ground = Ground::new(&Plan::default());
    ground.site.entry("/victim", &[&format!("unix:uid:{VICTIM}")]);
    let fetch = public_rig(&ground, "fetch");
    let socket = ground.site.socket();
    for _ in 0..3 {
        let before = std::fs::metadata(&socket).unwrap().ino();
        std::fs::remove_file(&socket).unwrap();
        until("a new socket", || {
            std::fs::metadata(&socket).is_ok_and(|now| now.ino() != before)
        });
        assert_eq!(
            std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777,
            0o777
        );
        assert!(ground.serves(VICTIM, &fetch, "spiffe://site.test/victim"));
    }
}
