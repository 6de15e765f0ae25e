use super::*;

#[test]
fn addresses_are_read_and_others_refused() {
    for (text, host) in [
        ("landfast.plant.example:8081", "landfast.plant.example"),
        ("10.0.0.1:8081", "10.0.0.1"),
        ("[fd00::1]:8081", "fd00::1"),
    ] {
        assert_eq!(host_and_port(text), Some((host.to_owned(), 8081)), "{text}");
    }
    for text in [
        "",
        "host",
        "host:0",
        "host:65536",
        ":8081",
        "fd00::1:8081",
        "[host]:8081",
        "[fd00::1]",
        "a b:1",
        "https://host:1",
    ] {
        assert_eq!(host_and_port(text), None, "{text}");
    }
}

#[test]
fn one_authority_above_and_only_what_makes_sense() {
    use crate::config::tests::load;
    let disk = "[upstream.disk]\ncert_file = \"/c\"\nkey_file = \"/k\"\n";
    let spire = "[upstream.spire]\nserver = \"parent:8081\"\nworkload_api = \"unix:///a.sock\"\n";
    let begin = "trust_domain = \"plant.example\"\n";
    for good in [
        disk.to_owned(),
        spire.to_owned(),
        format!("{spire}spiffe_id = \"spiffe://plant.example/x\"\n"),
    ] {
        let config = load(&format!("{begin}{good}")).unwrap();
        assert!(config.upstream.is_some(), "{good}");
    }
    for (bad, words) in [
        (format!("{disk}{spire}"), "one of [upstream.disk]"),
        (disk.replace("/k", "k"), "upstream.disk.key_file"),
        (spire.replace("parent:8081", "parent"), "upstream.spire.server"),
        (
            spire.replace("unix:///a.sock", "tcp://1.2.3.4:1"),
            "upstream.spire.workload_api",
        ),
        (
            format!("{spire}spiffe_id = \"spiffe://office.example/x\"\n"),
            "a SPIFFE ID of plant.example",
        ),
        (format!("{disk}password = \"x\"\n"), "password"),
    ] {
        let error = load(&format!("{begin}{bad}")).unwrap_err();
        assert!(error.contains(words), "{words}: {error}");
    }
}
