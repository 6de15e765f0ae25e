use std::time::Duration;

use super::super::tests::load;
use crate::reserve::ReserveLimits;

fn file(ca: &str, reserve: &str) -> String {
    format!("trust_domain = \"plant.example\"\n[ttl]\nca = \"{ca}\"\nagent = \"1h\"\n[reserve]\n{reserve}\n")
}

#[test]
fn nobody_has_anything_ahead_unless_the_file_says_so() {
    let config = load("trust_domain = \"plant.example\"\n").unwrap();
    assert_eq!(config.reserve, ReserveLimits::default());
    let text = file("30d", "longest = \"72h\"\nlongest_token = \"8h\"");
    let limits = load(&text).unwrap().reserve;
    assert_eq!(limits.longest, Duration::from_secs(259_200));
    assert_eq!(limits.longest_token, Duration::from_secs(28_800));
}

#[test]
fn a_reserve_that_authorities_do_not_last_for_is_refused() {
    // 6 x (72 h + 1 h) = 438 h.
    assert!(load(&file("438h", "longest = \"72h\"")).is_ok());
    let error = load(&file("437h", "longest = \"72h\"")).unwrap_err();
    for part in [
        "reserve.longest",
        "6 x (reserve 259200 s + TTL 3600 s) is 1576800 s",
        "ttl.ca = 1573200 s",
    ] {
        assert!(error.contains(part), "{error}");
    }
    let error = load(&file("47h", "longest_token = \"8h\"")).unwrap_err();
    assert!(
        error.contains("reserve.longest_token") && error.contains("172800 s"),
        "{error}"
    );
    let error = load(&file("300d", "longest_token = \"25h\"")).unwrap_err();
    assert!(error.contains("at most 24h"), "{error}");
    assert!(load(&file("30d", "longest = 72")).is_err(), "not a duration");
    assert!(load(&file("30d", "longer = \"72h\"")).is_err(), "no such key");
}
