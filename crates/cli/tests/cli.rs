//! The binary as a person or a script meets it: output, hints, exit codes, and `landfast dev` end to end.

#![expect(clippy::unwrap_used, reason = "the helpers of tests are tests")]
#![expect(clippy::disallowed_methods, reason = "real processes live in real time")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn landfast(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_landfast"));
    command
        .args(args)
        .env_remove("SPIFFE_ENDPOINT_SOCKET")
        .env_remove("LANDFAST_SERVER_SOCKET")
        .env_remove("LANDFAST_AGENT_ADMIN_SOCKET")
        .stdin(Stdio::null());
    command
}

/// Exit code, standard output, standard error.
fn run(args: &[&str]) -> (i32, String, String) {
    outcome(landfast(args).output().unwrap())
}

fn outcome(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// Runs a shell script under `landfast dev`, its runtime directory being `parent`.
fn under_dev(parent: &Path, options: &[&str], script: &str) -> (i32, String, String) {
    let output = landfast(&["dev"])
        .args(options)
        .args(["--", "sh", "-ec", script])
        .env("LANDFAST", env!("CARGO_BIN_EXE_landfast"))
        .env("XDG_RUNTIME_DIR", parent)
        .output();
    outcome(output.unwrap())
}

fn runs_in(parent: &Path) -> Vec<String> {
    fs::read_dir(parent)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn eventually(what: &str, mut there: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !there() {
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "{what}: not within 20 s"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A `landfast dev` that serves until it is killed.
struct Dev {
    child: Child,
    endpoint: String,
}

impl Dev {
    fn start(parent: &Path, options: &[&str]) -> Self {
        let mut command = landfast(&["dev"]);
        let mut child = command
            .args(options)
            .env("XDG_RUNTIME_DIR", parent)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let endpoint = line
            .trim()
            .strip_prefix("SPIFFE_ENDPOINT_SOCKET=")
            .expect("the line a shell can use")
            .to_owned();
        Self { child, endpoint }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[path = "cli/acceptance.rs"]
mod acceptance;
#[path = "cli/audit.rs"]
mod audit;
#[path = "cli/daemon.rs"]
mod daemon;
#[path = "cli/people.rs"]
mod people;
#[path = "cli/quarantine.rs"]
mod quarantine;
#[path = "cli/selftest.rs"]
mod selftest;
#[path = "cli/served.rs"]
mod served;

#[test]
fn a_wrong_command_line_ends_with_a_hint_and_2() {
    for args in [
        &["nonsense"][..],
        &["why"],
        &["entry", "create"],
        &["why", "--pid", "0"],
        &["svid", "fetch", "jwt"],
    ] {
        let (code, out, err) = run(args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}");
        assert!(err.starts_with("error: ") && err.contains("\nhint: "), "{err}");
    }
}

#[test]
fn help_goes_to_standard_output_and_is_fine() {
    let (code, out, _) = run(&["--help"]);
    assert_eq!(code, 0);
    assert!(
        out.contains("speaks to the server") && out.contains("speaks to the local agent"),
        "{out}"
    );
}

/// Every command that `landfast help` shows, `landfast entry create` as `["entry", "create"]`.
fn commands() -> Vec<Vec<String>> {
    let below = |path: &[String]| -> Vec<Vec<String>> {
        let mut args = vec!["help"];
        args.extend(path.iter().map(String::as_str));
        let (code, out, _) = run(&args);
        assert_eq!(code, 0, "{path:?}");
        let listed = out
            .split_once("Commands:\n")
            .map(|(_, rest)| rest)
            .unwrap_or_default();
        listed
            .lines()
            .take_while(|line| !line.is_empty())
            .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
            .filter_map(|line| line.split_whitespace().next())
            .filter(|name| *name != "help")
            .map(|name| [path, &[name.to_owned()]].concat())
            .collect()
    };
    let (mut all, mut level) = (Vec::new(), below(&[]));
    while !level.is_empty() {
        let next = level.iter().flat_map(|command| below(command)).collect();
        all.extend(std::mem::replace(&mut level, next));
    }
    all
}

#[test]
fn each_shell_has_a_completion_that_knows_every_command() {
    let commands = commands();
    assert!(commands.len() > 30, "{commands:?}");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let (code, script, err) = run(&["completion", shell]);
        assert_eq!((code, err.as_str()), (0, ""), "{shell}");
        for command in &commands {
            let name = command.last().unwrap();
            assert!(script.contains(name.as_str()), "{shell}: no {command:?}");
        }
    }
    let (code, out, err) = run(&["completion", "tcsh"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("powershell") && err.contains("\nhint: "), "{err}");
}

#[test]
fn bash_accepts_its_completion_and_completes_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("landfast");
    let (_, text, _) = run(&["completion", "bash"]);
    fs::write(&script, text).unwrap();
    let checked = Command::new("bash").arg("-n").arg(&script).output().unwrap();
    assert_eq!(outcome(checked), (0, String::new(), String::new()));
    let ask = "source $1; COMP_WORDS=(landfast entry cr); COMP_CWORD=2; _landfast landfast cr entry; echo ${COMPREPLY[*]}";
    let completed = Command::new("bash")
        .args(["-c", ask, "bash"])
        .arg(&script)
        .output()
        .unwrap();
    assert_eq!(outcome(completed), (0, "create\n".to_owned(), String::new()));
    let ask = "source $1; COMP_WORDS=(landfast server ba); COMP_CWORD=2; _landfast landfast ba server; echo ${COMPREPLY[*]}";
    let completed = Command::new("bash")
        .args(["-c", ask, "bash"])
        .arg(&script)
        .output()
        .unwrap();
    assert_eq!(outcome(completed), (0, "backup\n".to_owned(), String::new()));
}

#[test]
fn every_program_and_every_command_has_a_manual_page() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("made/by/us");
    let (code, out, err) = run(&["man", pages.to_str().unwrap()]);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "", ""));
    let mut wanted: Vec<String> = commands()
        .iter()
        .map(|command| format!("landfast-{}.1", command.join("-")))
        .collect();
    wanted.push("landfast.1".to_owned());
    for daemon in ["agent", "server"] {
        let names = ["", "-run", "-check"].map(|verb| format!("landfast-{daemon}{verb}.8"));
        wanted.extend(names);
    }
    let others = [
        "accept-loss",
        "backup",
        "backup-key",
        "backup-show",
        "migrate",
        "restore",
    ];
    wanted.extend(others.map(|verb| format!("landfast-server-{verb}.8")));
    wanted.sort_unstable();
    let mut found = runs_in(&pages);
    found.sort_unstable();
    assert_eq!(found, wanted);
    for name in &found {
        let page = fs::read_to_string(pages.join(name)).unwrap();
        let (title, section) = name.rsplit_once('.').unwrap();
        let head = format!(".TH {title} {section}");
        assert!(
            page.lines().any(|line| line.starts_with(&head)),
            "{name}: no {head}"
        );
        assert!(
            page.contains(".SH NAME") && page.contains(".SH SYNOPSIS"),
            "{name}"
        );
    }
    let (code, _, err) = run(&["man", "/proc/landfast"]);
    assert_eq!(code, 1);
    assert!(
        err.starts_with("error: ") && err.contains("/proc/landfast") && err.contains("\nhint: "),
        "{err}"
    );
}

#[test]
fn a_missing_socket_is_not_ready_and_the_hint_names_the_option() {
    let nowhere = "/nonexistent/landfast.sock";
    for (args, option) in [
        (
            &["--server-socket", nowhere, "entry", "list"][..],
            "--server-socket",
        ),
        (
            &["--agent-admin-socket", nowhere, "agent", "status"],
            "--agent-admin-socket",
        ),
        (
            &["--agent-admin-socket", nowhere, "why", "--pid", "1"],
            "--agent-admin-socket",
        ),
        (&["--agent-socket", nowhere, "svid", "fetch"], "--agent-socket"),
    ] {
        let (code, out, err) = run(args);
        assert_eq!((code, out.as_str()), (3, ""), "{args:?}: {err}");
        let lines: Vec<&str> = err.lines().collect();
        assert_eq!(lines.len(), 2, "{err}");
        assert!(
            lines[0].starts_with("error: ") && lines[0].contains(nowhere),
            "{err}"
        );
        assert!(
            lines[1].starts_with("hint: ") && lines[1].contains(option),
            "{err}"
        );
    }
}

#[test]
fn a_socket_nobody_listens_at_is_not_ready() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("admin.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let (code, _, err) = run(&["--server-socket", path.to_str().unwrap(), "token", "create"]);
    assert_eq!(code, 3);
    assert!(err.contains("left over"), "{err}");
}

#[test]
fn a_remote_server_that_cannot_be_reached_is_not_ready_and_an_identity_that_is_missing_fails() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    let (code, _, err) = run(&["--server", "127.0.0.1:1", "--identity-dir", dir, "agent", "list"]);
    assert_eq!(code, 1);
    assert!(
        err.contains("svid.pem") && err.contains("hint: landfast svid fetch"),
        "{err}"
    );
    let (code, _, err) = run(&["--server", "nowhere", "--identity-dir", dir, "agent", "list"]);
    assert_eq!(code, 2, "{err}");
}

#[test]
fn nothing_to_update_is_a_usage_error() {
    let (code, _, err) = run(&["entry", "update", "some-id"]);
    assert_eq!(code, 2);
    assert!(err.contains("nothing to change"), "{err}");
}

#[test]
fn an_entry_without_a_user_is_warned_about() {
    let create = |selectors: &[&str]| {
        let mut args = vec![
            "--server-socket",
            "/nonexistent",
            "entry",
            "create",
            "--node",
            "--spiffe-id",
            "spiffe://a.test/b",
        ];
        for selector in selectors {
            args.extend(["--selector", selector]);
        }
        run(&args).2
    };
    for narrow in [&["unix:path:/bin/x"][..], &["unix:sha256:00", "unix:gid:7"]] {
        assert!(
            create(narrow).contains("warning: no unix:uid selector"),
            "{narrow:?}"
        );
    }
    for fine in [
        &["unix:uid:1", "unix:path:/bin/x"][..],
        &["unix:user:me"],
        &["x509pop:subject:cn:a"],
    ] {
        assert!(!create(fine).contains("warning"), "{fine:?}");
    }
    let said = create(&["unix:uid:1", "unix:uiid:0", "unix:gid:00"]);
    assert_eq!(said.matches("warning: no process ever has").count(), 2, "{said}");
}

#[test]
fn a_wrong_configuration_is_refused_by_the_daemons_own_check() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("daemon.toml");
    fs::write(&file, "trust_domain = \"a.test\"\nsurprise = 1\n").unwrap();
    for daemon in ["agent", "server"] {
        let (code, out, err) = run(&[daemon, "check", file.to_str().unwrap()]);
        assert_eq!((code, out.as_str()), (1, ""), "{daemon}");
        assert!(
            err.contains("daemon.toml") && err.contains("surprise") && err.contains("hint: "),
            "{daemon}: {err}"
        );
    }
    for daemon in ["agent", "server"] {
        let example = format!("{}/../../examples/{daemon}.toml", env!("CARGO_MANIFEST_DIR"));
        let (code, out, err) = run(&[daemon, "check", &example]);
        assert_eq!((code, out.ends_with(": fine\n")), (0, true), "{err}");
    }
}

#[test]
fn a_file_that_holds_nothing_of_ours_is_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x");
    for content in [
        "",
        "hello",
        "{}x",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        fs::write(&file, content).unwrap();
        let (code, out, err) = run(&["svid", "inspect", file.to_str().unwrap()]);
        assert_eq!((code, out.as_str()), (1, ""), "{content:?}: {err}");
    }
}

#[test]
fn dev_refuses_a_trust_domain_that_somebody_could_own() {
    let parent = tempfile::tempdir().unwrap();
    for options in [
        &["--trust-domain", "plant.com"][..],
        &["--entry", "spiffe://plant.com/a=unix:uid:1"],
        &[
            "--trust-domain",
            "a.test",
            "--entry",
            "spiffe://b.test/a=unix:uid:1",
        ],
        &["--x509-ttl", "25h"],
    ] {
        let (code, _, err) = under_dev(parent.path(), options, "echo started >&2");
        assert_eq!(code, 2, "{options:?}: {err}");
        assert!(!err.contains("started"));
    }
    assert!(runs_in(parent.path()).is_empty());
}

#[test]
fn dev_gives_the_command_both_kinds_of_svid() {
    let parent = tempfile::tempdir().unwrap();
    let script = r#"
        "$LANDFAST" svid fetch x509 --write "$XDG_RUNTIME_DIR/files"
        "$LANDFAST" svid inspect "$XDG_RUNTIME_DIR/files/svid.pem" --output json
        "$LANDFAST" svid inspect "$XDG_RUNTIME_DIR/files/key.pem" >/dev/null
        "$LANDFAST" svid inspect "$XDG_RUNTIME_DIR/files/bundle.pem" >/dev/null
        "$LANDFAST" svid fetch >&2
        token=$("$LANDFAST" svid fetch jwt --audience historian)
        "$LANDFAST" jwt validate --audience historian "$token" >&2
        printf %s "$token" | "$LANDFAST" svid inspect - >&2
        ! "$LANDFAST" jwt validate --audience other "$token" || exit 9
    "#;
    let (code, out, err) = under_dev(parent.path(), &["--trust-domain", "ci.test"], script);
    assert_eq!(code, 0, "{err}");
    let shown: serde_json::Value = serde_json::from_str(&out[out.find('[').unwrap()..]).unwrap();
    assert_eq!(shown[0]["spiffe_id"], "spiffe://ci.test/dev");
    assert!(err.contains("not valid: ") && err.contains("historian"), "{err}");
    for file in ["svid.pem", "key.pem", "bundle.pem"] {
        let mode = fs::metadata(parent.path().join("files").join(file))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    assert_eq!(runs_in(parent.path()), ["files"]);
}

#[test]
fn dev_serves_the_named_entry_and_says_no_to_others() {
    let parent = tempfile::tempdir().unwrap();
    let uid = nix::unistd::getuid();
    let script = r#""$LANDFAST" svid fetch --output json"#;
    let named = format!("spiffe://ci.test/collector=unix:uid:{uid}");
    let (code, out, err) = under_dev(parent.path(), &["--entry", &named], script);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("spiffe://ci.test/collector"), "{out}");
    let other = format!("spiffe://ci.test/collector=unix:uid:{}", uid.as_raw() + 1);
    let (code, out, err) = under_dev(parent.path(), &["--entry", &other], script);
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(err.contains("landfast why --pid"), "{err}");
}

#[test]
fn the_operators_commands_work_against_dev() {
    let parent = tempfile::tempdir().unwrap();
    let script = r#"
        run=$(dirname "${SPIFFE_ENDPOINT_SOCKET#unix://}")
        lf() { "$LANDFAST" "$@"; }
        lf agent status >&2
        lf agent status --output json | grep -q '"state": "serving"'
        node=$(lf agent list --output json | sed -n 's/.*"id": "\(spiffe:[^"]*\)".*/\1/p')
        lf agent show "$node" >&2
        lf entry create --spiffe-id spiffe://dev.test/x --parent-id "$node" --selector unix:uid:7 --x509-ttl 90s --hint h --output json >"$run/entry"
        id=$(sed -n 's/.*"id": "\([^"]*\)".*/\1/p' "$run/entry")
        lf entry list --spiffe-id spiffe://dev.test/x | grep -q "$id"
        lf entry show "$id" | grep -q '90 s'
        lf entry update "$id" --x509-ttl 2m | grep -q '120 s'
        lf entry policy get "$id" | grep -q 'never set'
        lf entry policy set "$id" 2>"$run/nothing" && exit 24
        grep -q 'give --description' "$run/nothing"
        lf entry policy set "$id" --description 'pump 4, ask hall 2' --output json >"$run/policy"
        revision=$(sed -n 's/.*"revision": \([0-9]*\).*/\1/p' "$run/policy")
        lf entry policy set "$id" --description late --if-revision 999999 2>"$run/late" && exit 25
        grep -q 'hint: landfast entry policy get' "$run/late"
        lf entry policy set "$id" --description "$(printf 'a\tb')" 2>"$run/control" && exit 26
        grep -q 'control character' "$run/control"
        lf entry policy set no-such-entry --description x 2>"$run/unknown" && exit 27
        grep -q 'no entry no-such-entry' "$run/unknown"
        lf entry update "$id" --hint k >&2
        lf entry policy get "$id" | grep -q 'pump 4, ask hall 2'
        lf entry show "$id" | grep -q 'description.*pump 4, ask hall 2'
        lf entry show "$id" --output json | grep -q '"description": "pump 4, ask hall 2"'
        lf entry list --output json | grep -q '"description": "pump 4, ask hall 2"'
        lf entry policy set "$id" --description '' --if-revision "$revision" >&2
        lf entry show "$id" | grep -q description && exit 28
        lf entry policy set "$id" --offline-reserve 72h 2>"$run/reserve" && exit 29
        grep -q '\[reserve\] longest is 0s' "$run/reserve"
        lf entry policy set "$id" --jwt-offline historian 2>"$run/audience" && exit 30
        grep -q 'such as historian=8h' "$run/audience"
        lf entry policy get "$id" | grep -q 'offline reserve.*none'
        lf entry policy set "$id" --privileged true --offline-reserve 0s --no-jwt-offline | grep -q 'privileged.*yes'
        lf entry show "$id" | grep -q 'privileged.*yes'
        lf entry show "$id" --output json | grep -q '"privileged": true'
        lf agent list | grep -q 'RESERVE UNTIL'
        lf agent show "$node" | grep -q 'has ahead.*nothing'
        lf agent ban "$node" --dry-run | grep -q 'would lose: nobody anything'
        lf entry delete "$id" --dry-run --output json | grep -q '"would_lose": \[\]'
        lf authority taint x509 00 --dry-run | grep -q 'would lose: nobody anything'
        lf agent show "$node" | grep -q 'standing.*active'
        lf entry create --spiffe-id spiffe://dev.test/x --parent-id "$node" --selector unix:uid:7 2>"$run/again" && exit 11
        grep -q "landfast entry show $id" "$run/again"
        lf entry delete "$id"
        lf entry show "$id" 2>/dev/null && exit 12
        lf token create --ttl 2m --quiet >/dev/null
        lf bundle show | grep -q 'BEGIN CERTIFICATE'
        lf bundle show --format jwks | grep -q 'jwt-svid'
        lf bundle publish "$run/bundle.json" --refresh-hint 5m --output json | grep -q '"done": "written"'
        lf bundle publish "$run/bundle.json" --refresh-hint 5m | grep -q '^unchanged: .*bundle.json, dev.test, sequence'
        grep -q '"spiffe_refresh_hint":300' "$run/bundle.json"
        echo 'spare me' >"$run/notes"
        lf bundle publish "$run/notes" 2>"$run/spared" && exit 19
        grep -q 'is not a bundle document' "$run/spared" && grep -q 'spare me' "$run/notes"
        "$LANDFAST" bundle publish "$run/bundle.pem" --format pem --watch --interval 1s >"$run/watched" &
        watcher=$!
        lf bundle show >"$run/other.pem"
        lf bundle set --trust-domain other.test "$run/other.pem"
        lf bundle list | grep -q other.test
        lf federation create --trust-domain other.test --url https://127.0.0.1:9/ --profile https-spiffe --endpoint-spiffe-id spiffe://other.test/e --bundle "$run/other.pem" >"$run/created"
        grep -q 'spiffe://other.test/e' "$run/created"
        lf federation create --trust-domain other.test --url https://127.0.0.1:9/ --profile https-web 2>/dev/null && exit 16
        lf federation update other.test --url https://127.0.0.1:10/ --output json | grep -q '"url": "https://127.0.0.1:10/"'
        lf federation list | grep -q 'other.test.*https_spiffe.*:10/'
        lf federation show other.test --output json | grep -q '"endpoint_spiffe_id": "spiffe://other.test/e"'
        lf federation refresh other.test 2>"$run/refused" && exit 17
        grep -q 'error: .*only addresses that are not asked' "$run/refused"
        grep -q 'hint: the bundle we had stays' "$run/refused"
        lf federation delete other.test
        lf federation show other.test 2>/dev/null && exit 18
        lf bundle delete other.test
        lf mint x509 --spiffe-id spiffe://dev.test/minted --ttl 60s --write "$run/minted"
        lf svid inspect "$run/minted/svid.pem" | grep -q spiffe://dev.test/minted
        lf mint x509 --spiffe-id spiffe://dev.test/minted --ttl 60s --write "$run/minted" --output json | grep -q '"written_to"'
        lf entry delete no-such-1 no-such-2 --output json >"$run/deleted" 2>"$run/undeleted" && exit 15
        grep -q '"id": "no-such-2"' "$run/deleted"
        grep -q 'no-such-1: .*no-such-2: ' "$run/undeleted"
        lf mint jwt --spiffe-id spiffe://dev.test/minted --audience me | lf svid inspect - | grep -q 'meant for'
        lf why --pid $$ | grep -q spiffe://dev.test/dev
        lf why --pid 2147483647 2>"$run/nobody" && exit 13
        grep -q 'no process 2147483647' "$run/nobody"
        grep -q 'hint: ps -e' "$run/nobody"
        lf entry create --spiffe-id spiffe://dev.test/y --parent-id "$node" --selector unix:uid:7 2>"$run/known" >&2
        grep -q warning "$run/known" && exit 14
        lf entry create --spiffe-id spiffe://dev.test/y --parent-id spiffe://dev.test/typo --selector unix:uid:7 2>"$run/orphan" >&2
        grep -q 'warning: no node and no alias is spiffe://dev.test/typo' "$run/orphan"
        test "$(lf agent count)" = 1
        test "$(lf entry count --spiffe-id spiffe://dev.test/y)" = 2
        lf agent purge --dry-run | grep -q 'would be forgotten: none'
        lf debug info | grep -q spiffe://dev.test/spire/server
        lf debug info --output json | grep -q '"agents": 1'
        lf log level | grep -q 'at its start'
        lf log level warn --output json | grep -q '"level": "warn"'
        lf log level reset >&2
        lf log level info --agent --server-socket /nowhere --output json | grep -q '"level": "info"'
        lf log level --agent --server-socket /nowhere | grep -q 'at its start'
        lf log level reset --agent --server-socket /nowhere >&2
        lf log level --agent --agent-admin-socket /nowhere 2>"$run/nowhere" && exit 23
        grep -q /nowhere "$run/nowhere"
        lf debug info --agent --server-socket /nowhere | grep -q spiffe://dev.test/spire/agent/
        lf debug info --agent --output json | grep -q '"x509_svids"'
        first=$(lf authority show | sed -n 's/^x509 *active *\([0-9a-f]*\) .*/\1/p')
        lf authority taint x509 "$first" 2>"$run/active" && exit 16
        grep -q 'current local authority' "$run/active"
        next=$(lf authority prepare x509 --output json | sed -n 's/.*"id": "\([^"]*\)".*/\1/p')
        lf authority activate x509 "$next"
        for try in $(seq 200); do test "$(grep -c '^written: ' "$run/watched")" -ge 2 && break; sleep 0.1; done
        kill $watcher
        test "$(grep -c 'BEGIN CERTIFICATE' "$run/bundle.pem")" = 2
        lf bundle publish "$run/bundle.json" | grep -q '^written'
        sed -i 's/"spiffe_sequence":[0-9]*/"spiffe_sequence":9999/' "$run/bundle.json"
        lf bundle publish "$run/bundle.json" 2>"$run/backwards" && exit 20
        grep -q 'has sequence 9999, newer than' "$run/backwards"
        lf bundle publish "$run/bundle.json" --danger-older | grep -q '^written'
        lf authority revoke x509 "$first" 2>"$run/untainted" && exit 17
        grep -q 'untainted' "$run/untainted"
        lf authority taint x509 "$first" 2>&1 | grep -q "landfast authority revoke x509 $first"
        lf authority show | grep "$first" | grep -q 'old, tainted'
        lf authority prepare jwt --output json | grep -q '"done": "prepared"'
        lf svid fetch wit 2>"$run/nowit" && exit 20
        grep -q 'WIT-SVID profile is not supported' "$run/nowit"
        lf mint wit --spiffe-id spiffe://dev.test/minted 2>"$run/nowit" && exit 21
        grep -q 'wit_svid = true' "$run/nowit"
        lf authority show | grep -q '^wit' && exit 22
        lf agent evict "$node"
    "#;
    let (code, out, err) = under_dev(parent.path(), &[], script);
    assert_eq!(code, 0, "{out}\n{err}");
}

#[test]
fn wit_svids_are_minted_fetched_and_shown_where_they_are_switched_on() {
    let parent = tempfile::tempdir().unwrap();
    let script = r#"
        run=$(dirname "${SPIFFE_ENDPOINT_SOCKET#unix://}")
        lf() { "$LANDFAST" "$@"; }
        lf svid fetch wit | grep -q spiffe://dev.test/dev
        lf svid fetch wit --output json >"$run/shown"
        grep -q '"token": "ey' "$run/shown"
        grep -q '"d' "$run/shown" && exit 10
        lf svid fetch wit --id spiffe://dev.test/other 2>/dev/null && exit 11
        lf svid fetch wit --write "$run/held"
        test "$(stat -c %a "$run/held/wit.jwk" "$run/held/wit.token" | sort -u)" = 600
        grep -q '"d":"' "$run/held/wit.jwk"
        lf svid inspect "$run/held/wit.token" | grep -q 'worth *nothing without'
        lf svid inspect "$run/held/wit.token" --output json | grep -q '"kind": "wit"'
        lf bundle show --format jwks >"$run/bundle"
        grep -q 'wit-svid' "$run/bundle"
        lf svid inspect "$run/bundle" | grep -q '^WIT *key id '
        lf mint x509 --spiffe-id spiffe://dev.test/minted --write "$run/minted"
        lf mint wit --spiffe-id spiffe://dev.test/minted --key "$run/minted/key.pem" --ttl 5m --write "$run/minted"
        lf svid inspect "$run/minted/key.pem" | sed -n 's/.*SHA-256 //p' >"$run/key"
        lf svid inspect "$run/minted/wit.token" | grep -q "$(cat "$run/key")"
        lf mint wit --spiffe-id spiffe://dev.test/minted --key-type ec-p384 --output json >"$run/made"
        grep -q 'ES384' "$run/made"
        lf mint wit --spiffe-id spiffe://dev.test/minted | head -1 | lf svid inspect - | grep -q ES256
        lf mint wit --spiffe-id spiffe://elsewhere.test/x 2>/dev/null && exit 12
        lf mint wit --spiffe-id spiffe://dev.test/x --key "$run/bundle" 2>"$run/nokey" && exit 13
        grep -q 'PKCS#8' "$run/nokey"
        first=$(lf authority show | sed -n 's/^wit *active *\([^ ]*\) .*/\1/p')
        next=$(lf authority prepare wit --output json | sed -n 's/.*"id": "\([^"]*\)".*/\1/p')
        lf authority activate wit "$next"
        lf authority taint wit "$first" >&2
        lf authority show | grep "$first" | grep -q 'old, tainted'
        lf authority revoke wit "$first"
        lf authority show | grep -q "$first" && exit 14
        exit 0
    "#;
    let (code, out, err) = under_dev(parent.path(), &["--wit-svid"], script);
    assert_eq!(code, 0, "{out}\n{err}");
}

#[test]
fn dev_ends_with_the_status_of_its_command_and_leaves_nothing() {
    let parent = tempfile::tempdir().unwrap();
    for (script, expected) in [
        ("exit 7", 7),
        ("kill -9 $$", 128 + 9),
        ("kill -TERM $$", 128 + 15),
        ("exit 0", 0),
    ] {
        let (code, _, err) = under_dev(parent.path(), &[], script);
        assert_eq!(code, expected, "{script}: {err}");
        assert!(runs_in(parent.path()).is_empty(), "{script}");
    }
    let (code, _, err) = outcome(
        landfast(&["dev", "--", "/nonexistent"])
            .env("XDG_RUNTIME_DIR", parent.path())
            .output()
            .unwrap(),
    );
    assert_eq!(code, 1);
    assert!(err.contains("cannot run /nonexistent"), "{err}");
    assert!(runs_in(parent.path()).is_empty());
}

#[test]
fn dev_passes_signals_on() {
    let parent = tempfile::tempdir().unwrap();
    for (name, signal) in [
        ("TERM", Signal::SIGTERM),
        ("INT", Signal::SIGINT),
        ("HUP", Signal::SIGHUP),
        ("QUIT", Signal::SIGQUIT),
        ("USR1", Signal::SIGUSR1),
        ("USR2", Signal::SIGUSR2),
    ] {
        // The loop's sleep is short because a shell runs its trap only between commands.
        let script =
            format!("trap 'echo got {name}; exit 5' {name}; echo there; while :; do sleep 0.05; done");
        let mut child = landfast(&["dev", "--", "sh", "-c", &script])
            .env("XDG_RUNTIME_DIR", parent.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "there\n");
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        let mut rest = String::new();
        out.read_to_string(&mut rest).unwrap();
        assert_eq!(
            (rest.as_str(), child.wait().unwrap().code()),
            (&*format!("got {name}\n"), Some(5))
        );
    }
    assert!(runs_in(parent.path()).is_empty());
}

#[test]
fn dev_without_a_command_serves_until_it_is_asked_to_stop() {
    let parent = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(parent.path(), &[]);
    let run_mode = |name: &str| {
        fs::metadata(parent.path().join(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    let runs = runs_in(parent.path());
    assert_eq!((runs.len(), run_mode(&runs[0])), (1, 0o700));
    let (code, out, err) = run(&["--agent-socket", &dev.endpoint, "svid", "fetch"]);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains("spiffe://dev.test/dev") && out.contains("(in "),
        "{out}"
    );
    dev.signal(Signal::SIGTERM);
    assert_eq!(dev.child.wait().unwrap().code(), Some(0));
    assert!(runs_in(parent.path()).is_empty());
    // A terminal that is closed, ^C and ^\.
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT] {
        let mut dev = Dev::start(parent.path(), &[]);
        dev.signal(signal);
        assert_eq!(dev.child.wait().unwrap().code(), Some(0), "{signal}");
        assert!(runs_in(parent.path()).is_empty(), "{signal}");
    }
}

#[test]
fn a_watch_outlives_its_agent() {
    let parent = tempfile::tempdir().unwrap();
    let link = parent.path().join("api.sock");
    let lead_to = |dev: &Dev| {
        drop(fs::remove_file(&link));
        std::os::unix::fs::symlink(dev.endpoint.strip_prefix("unix://").unwrap(), &link).unwrap();
    };
    let first = Dev::start(parent.path(), &[]);
    lead_to(&first);
    let mut watch = landfast(&["--agent-socket", link.to_str().unwrap(), "svid", "watch"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut said = BufReader::new(watch.stderr.take().unwrap()).lines();
    let mut served = || out.any(|line| line.unwrap().contains("spiffe://dev.test/dev"));
    assert!(served());
    drop(first);
    let line = said.next().unwrap().unwrap();
    assert!(line.starts_with("waiting for the agent: "), "{line}");
    let second = Dev::start(parent.path(), &[]);
    lead_to(&second);
    assert!(served());
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
fn the_next_dev_removes_what_a_killed_one_left() {
    let parent = tempfile::tempdir().unwrap();
    let mut killed = Dev::start(parent.path(), &[]);
    killed.signal(Signal::SIGKILL);
    killed.child.wait().unwrap();
    let left = runs_in(parent.path());
    assert_eq!(left.len(), 1);
    let next = Dev::start(parent.path(), &[]);
    let now = runs_in(parent.path());
    assert!(now.len() == 1 && now != left, "{left:?} {now:?}");
    next.signal(Signal::SIGINT);
    eventually("everything is gone", || runs_in(parent.path()).is_empty());
}

#[test]
fn no_private_key_of_the_authority_is_on_disk() {
    let parent = tempfile::tempdir().unwrap();
    let _dev = Dev::start(parent.path(), &[]);
    let mut files = Vec::new();
    collect(parent.path(), &mut files);
    let server: Vec<_> = files
        .iter()
        .filter(|file| file.to_string_lossy().contains("/server/"))
        .collect();
    assert!(
        server.iter().all(|file| file.ends_with("admin.sock")),
        "{server:?}"
    );
    assert!(files.iter().any(|file| file.ends_with("api.sock")), "{files:?}");
}

fn collect(dir: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files)
        } else {
            files.push(path)
        }
    }
}

#[test]
fn the_ci_job_of_the_examples_passes() {
    let parent = tempfile::tempdir().unwrap();
    let job = format!("{}/../../examples/ci-job/job.sh", env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(job)
        .env_remove("SPIFFE_ENDPOINT_SOCKET")
        .env("LANDFAST", env!("CARGO_BIN_EXE_landfast"))
        .env("XDG_RUNTIME_DIR", parent.path())
        .output();
    let (code, out, err) = outcome(output.unwrap());
    assert_eq!(code, 0, "{out}\n{err}");
    assert!(out.ends_with("the job had an identity\n"), "{out}");
}
