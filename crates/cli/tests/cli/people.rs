//! `landfast person` and `landfast whoami`, from nobody to two who agree.

use super::{run, under_dev};

/// Whoever runs this is root or a user, logged in or not: all of that becomes the first person, but for root, which stays root.
const FIRST: &str = r#"
    logins="--uid 4711"
    [ "$(id -u)" = 0 ] || logins="$logins --uid $(id -u)"
    session=$(cat /proc/self/loginuid 2>/dev/null || echo 0)
    case $session in 0 | 4294967295 | "$(id -u)") ;; *) logins="$logins --uid $session" ;; esac
"#;

#[test]
fn the_first_person_ends_the_time_without_persons_and_two_agree_from_the_second_on() {
    let parent = tempfile::tempdir().unwrap();
    let script = format!(
        r#"{FIRST}
        "$LANDFAST" --output json whoami | grep '"standing": "administrator"'
        "$LANDFAST" person list
        "$LANDFAST" person add --name Jo --uid 4711 --role read 2>&1 && exit 9
        first=$("$LANDFAST" person add --name 'Jo Berg' $logins --role administer --role approve --reason 'the first' 2>notes)
        grep 'fewer than two persons' notes
        echo "$first" | grep ': in effect'
        "$LANDFAST" whoami
        "$LANDFAST" --output json whoami | grep -E '"standing": "(root|person)"'
        "$LANDFAST" person add --name 'Kim Roth' --uid 4712 --role administer
        "$LANDFAST" person add --name 'Lee' --uid 4713 --role approve=spiffe://dev.test/spire/agent/* | grep 'waits for another person'
        "$LANDFAST" person proposals
        id=$("$LANDFAST" --output json person proposals | sed -n 's/.*"id": "\(.*\)".*/\1/p')
        "$LANDFAST" person confirm "$id" 2>&1 && exit 8
        "$LANDFAST" person reject "$id" --reason 'not now'
        "$LANDFAST" --output json person proposals | grep -x '\[\]'
        person=${{first%%:*}}
        "$LANDFAST" person show "$person"
        "$LANDFAST" --output json person list | grep '"alone": true'
        "$LANDFAST" person grant "$person" --id spiffe://other.test/jo 2>&1 && exit 7
        kim=$("$LANDFAST" person list | sed -n 's/ .*Kim.*//p')
        "$LANDFAST" person forget "$kim"
        "$LANDFAST" person list | grep -c 'Kim' && exit 6
        "$LANDFAST" person list | grep 'forgotten'
        "$LANDFAST" mint x509 --spiffe-id spiffe://dev.test/x --reason "$(printf 'a\nb')" 2>&1 && exit 5
        exit 0
    "#
    );
    let (code, out, err) = under_dev(parent.path(), &[], &script);
    assert_eq!(code, 0, "{out}{err}");
    for said in [
        "the first person has to be able to add the second",
        "by no person",
        "a new person, Lee",
        "role approve=spiffe://dev.test/spire/agent/*",
        "the reason has a control character",
    ] {
        assert!(out.contains(said), "{said}: {out}{err}");
    }
}

#[test]
fn what_is_no_role_is_refused_before_anybody_is_asked() {
    let (code, _, err) = run(&["person", "add", "--name", "Jo", "--role", "own"]);
    assert!(code == 2 && err.contains("administer"), "{err}");
}

#[test]
fn a_login_says_what_it_needs() {
    let (code, _, err) = run(&["login"]);
    assert!(code == 2 && err.contains("which server?"), "{err}");
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().to_str().unwrap();
    let (code, _, err) = run(&["--server", "localhost:1", "--identity-dir", dir, "login"]);
    assert!(code == 1 && err.contains("no trust bundle"), "{err}");
    let (code, _, err) = run(&["login", "--oidc", "--ssh-key", "x"]);
    assert_eq!(code, 2, "{err}");
    let (code, _, err) = run(&["person", "grant", "p-a", "--ssh-key", "ssh-ed25519"]);
    assert_eq!(code, 2, "{err}");
    let (code, _, err) = run(&["person", "grant", "p-a", "--oidc", "https://id.test"]);
    assert!(code == 2 && err.contains("ISSUER#SUB"), "{err}");
}
