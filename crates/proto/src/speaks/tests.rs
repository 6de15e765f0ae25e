use super::*;

fn of(version: &str, built: i64) -> Speaks {
    Speaks::own(version, built, &[])
}

#[test]
fn what_is_said_is_understood() {
    let own = Speaks::own("0.1.0", 1_764_115_200, OF_SERVER);
    let said = own.to_string();
    assert!(
        said.starts_with("landfast/0.1.0 built=1764115200 chain=1 policies=1"),
        "{said}"
    );
    assert_eq!(Speaks::parse(&said), Some(own));
}

#[test]
fn what_nobody_knows_yet_is_kept_and_harms_nothing() {
    let said = Speaks::parse(
        "landfast/9.0.0-rc.1+x86 built=17 sync=3 permits=2 ?? colour=blue UP=1 =4 zero=0 sync2=99999999999",
    )
    .unwrap();
    assert_eq!(
        said.capabilities().collect::<Vec<_>>(),
        [("permits", 2), ("sync", 3)]
    );
    assert_eq!((said.version(), said.built()), ("9.0.0-rc.1+x86", 17));
    assert_eq!((said.number("sync"), said.number(CHAIN)), (Some(3), None));
}

#[test]
fn what_a_hostile_peer_says_is_short_and_printable() {
    for bad in [
        "",
        "spire/1.15.2 sync=1",
        "landfast/",
        "landfast/\x1b[2J sync=1",
        "landfast/0.1.0\u{202e} sync=1",
        "landfast/0.1.0\nsync=1",
        &format!("landfast/{}", "1".repeat(41)),
        &format!("landfast/0.1.0 {}", "a".repeat(1_000_000)),
    ] {
        assert_eq!(Speaks::parse(bad), None, "{:?}", &bad[..bad.len().min(40)]);
    }
    let many: Vec<String> = (0..100).map(|n| format!("{n}=1")).collect();
    let many = Speaks::parse(&format!("landfast/1 {}", many.join(" "))).unwrap();
    assert_eq!(many.capabilities().count(), MOST);
    let names = Speaks::parse("landfast/1 a\x1b[2J=1 b\u{7f}=1 c\u{e9}=1 built=-5 d=1").unwrap();
    assert_eq!(names.capabilities().collect::<Vec<_>>(), [("d", 1)]);
    assert_eq!(names.built(), 0);
}

#[test]
fn an_agent_may_be_three_years_older_and_not_newer() {
    const DAY: i64 = 86_400;
    let now = 2_000_000_000;
    let server = of("1.4.0", now);
    for (agent, skew) in [
        (of("1.4.0", now), Skew::Supported),
        (of("1.3.9", now - 3 * 365 * DAY), Skew::Supported),
        (of("0.9.0", now - 4 * 365 * DAY), Skew::Old),
        // The same sources, built anew.
        (of("1.4.0", now + 30 * DAY), Skew::Supported),
        (of("1.4.1", now - 4 * 365 * DAY), Skew::Newer),
        (of("1.10.0", now), Skew::Newer),
        (of("2", now), Skew::Newer),
        // Who says no date is not called old.
        (of("0.1.0", 0), Skew::Supported),
        (of("nightly", now), Skew::Supported),
    ] {
        assert_eq!(agent.skew(&server), skew, "{agent}");
    }
    assert_eq!(of("0.1.0", 5).skew(&of("0.1.0", 0)), Skew::Supported);
}
