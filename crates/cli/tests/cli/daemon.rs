//! `landfast server`: what is asked of `landfast-server` is answered by it, as if it had been called itself.

use super::*;

/// A copy of `landfast` in a directory of its own, so that nothing lies beside it but what a test puts there.
fn copied(into: &Path) -> Command {
    let copy = into.join("landfast");
    let from = Path::new(env!("CARGO_BIN_EXE_landfast"));
    if !copy.exists() && fs::hard_link(from, &copy).is_err() {
        cp(from, &copy);
    }
    let mut command = Command::new(copy);
    command.env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    command
}

/// A `landfast-server` that says how it was called.
fn daemon(directory: &Path, named: &str) {
    let (written, file) = (directory.join("written"), directory.join("landfast-server"));
    let script = format!(
        "#!/bin/sh\necho {named}\nfor word; do echo \"[$word]\"; done\ncat\necho complaint >&2\nexit 42\n"
    );
    fs::write(&written, script).unwrap();
    fs::set_permissions(&written, fs::Permissions::from_mode(0o755)).unwrap();
    cp(&written, &file);
}

/// By another process: a file that we had open for writing could not be executed while a child of another test, between its fork and its
/// exec, holds it as well.
fn cp(from: &Path, to: &Path) {
    assert!(Command::new("cp").args([from, to]).status().unwrap().success());
}

#[test]
fn server_words_go_to_landfast_server_as_they_were_typed() {
    let dir = tempfile::tempdir().unwrap();
    daemon(dir.path(), "beside");
    let typed = [
        &["backup", "--out", "a b", "--recipient=age1x"][..],
        &["backup", "show", "--help"],
        &["restore", "--output", "x", "--server", "y"],
        &["migrate", "--from", "sqlite", "--", "*"],
        &["help", "restore"],
        &["check", "--database", "a.toml"],
        &["--help"],
        &["--version"],
        &["nonsense"],
    ];
    for words in typed {
        let output = copied(dir.path()).arg("server").args(words).output().unwrap();
        let shown: String = words.iter().map(|word| format!("[{word}]\n")).collect();
        let wanted = (42, format!("beside\n{shown}"), "complaint\n".to_owned());
        assert_eq!(outcome(output), wanted, "{words:?}");
    }
}

#[test]
fn the_landfast_server_in_path_is_taken_when_none_lies_beside() {
    let (own, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    daemon(elsewhere.path(), "path");
    let path = format!("{}:/usr/bin:/bin", elsewhere.path().display());
    let input = fs::File::open(elsewhere.path().join("landfast-server")).unwrap();
    let mut command = copied(own.path());
    command.args(["server", "backup"]).env("PATH", &path).stdin(input);
    let (code, out, err) = outcome(command.output().unwrap());
    assert_eq!((code, err.as_str()), (42, "complaint\n"));
    assert!(
        out.starts_with("path\n[backup]\n#!/bin/sh\n"),
        "arguments and standard input: {out}"
    );
    daemon(own.path(), "beside");
    command.stdin(Stdio::null());
    let (_, out, _) = outcome(command.output().unwrap());
    assert_eq!(out, "beside\n[backup]\n", "the one beside us comes first");
}

#[test]
fn without_a_landfast_server_a_hint_says_where_it_comes_from() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = copied(dir.path());
    let (code, out, err) = outcome(command.args(["server", "restore"]).output().unwrap());
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.starts_with("error: there is no landfast-server"), "{err}");
    assert!(
        err.contains("\nhint: ") && err.contains("package landfast-server"),
        "{err}"
    );

    fs::write(dir.path().join("landfast-server"), "not a program").unwrap();
    let (code, _, err) = outcome(command.output().unwrap());
    assert_eq!(code, 1);
    assert!(
        err.starts_with("error: cannot run ")
            && err.contains("/landfast-server: ")
            && err.contains("\nhint: "),
        "{err}"
    );
}

#[test]
fn what_landfast_server_could_not_heed_is_refused_before_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    daemon(dir.path(), "beside");
    for options in [&["--output", "json"][..], &["--server", "a.test:8081"]] {
        let output = copied(dir.path())
            .args(options)
            .args(["server", "backup"])
            .output()
            .unwrap();
        let (code, out, err) = outcome(output);
        assert_eq!((code, out.as_str()), (2, ""), "{options:?}");
        assert!(
            err.contains("landfast-server works on this machine alone"),
            "{err}"
        );
    }
    let (code, _, err) = run(&["server"]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("hint: landfast server --help"), "{err}");
}
