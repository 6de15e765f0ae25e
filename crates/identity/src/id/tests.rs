//! Every rule of SPIFFE-ID §2, one by one.

use proptest::prelude::*;

use super::*;

fn refused(text: &str) -> IdError {
    SpiffeId::parse(text).expect_err(text)
}

#[test]
fn parts_are_what_was_written() {
    let id = SpiffeId::parse("spiffe://plant-7.example_x/line/4/Robot.a_b-c").unwrap();
    assert_eq!(id.trust_domain().as_str(), "plant-7.example_x");
    assert_eq!(id.path(), "/line/4/Robot.a_b-c");
    assert_eq!(id.to_string(), "spiffe://plant-7.example_x/line/4/Robot.a_b-c");
    assert_eq!(SpiffeId::parse("spiffe://td.test").unwrap().path(), "");
}

#[test]
fn the_scheme_is_exact() {
    for bad in [
        "",
        "td.test/a",
        "SPIFFE://td.test/a",
        "Spiffe://td.test/a",
        "https://td.test/a",
        "spiffe:/td.test/a",
        " spiffe://td.test/a",
    ] {
        assert_eq!(refused(bad), IdError::Scheme, "{bad}");
    }
}

#[test]
fn the_trust_domain_has_no_port_user_query_fragment_percent_or_capitals() {
    for (bad, found) in [
        ("spiffe://td.test:80/a", ':'),
        ("spiffe://user@td.test/a", '@'),
        ("spiffe://td.test?x", '?'),
        ("spiffe://td.test#x", '#'),
        ("spiffe://td%2etest/a", '%'),
        ("spiffe://TD.test/a", 'T'),
        ("spiffe://tdé.test/a", 'é'),
        ("spiffe://[::1]/a", '['),
    ] {
        assert_eq!(refused(bad), IdError::TrustDomainCharacter { found }, "{bad}");
    }
    assert_eq!(refused("spiffe:///a"), IdError::NoTrustDomain);
    assert_eq!(refused("spiffe://"), IdError::NoTrustDomain);
}

#[test]
fn the_path_has_no_empty_dotted_or_encoded_segment() {
    assert_eq!(refused("spiffe://td.test/"), IdError::TrailingSlash);
    assert_eq!(refused("spiffe://td.test/a/"), IdError::TrailingSlash);
    assert_eq!(refused("spiffe://td.test//a"), IdError::EmptySegment);
    assert_eq!(refused("spiffe://td.test/a//b"), IdError::EmptySegment);
    assert_eq!(refused("spiffe://td.test/./a"), IdError::DotSegment);
    assert_eq!(refused("spiffe://td.test/a/.."), IdError::DotSegment);
    assert!(SpiffeId::parse("spiffe://td.test/...").is_ok());
    for (bad, found) in [
        ("/a%20", '%'),
        ("/a?b", '?'),
        ("/a#b", '#'),
        ("/ä", 'ä'),
        ("/a b", ' '),
        ("/a:b", ':'),
        ("/a\0", '\0'),
    ] {
        assert_eq!(
            refused(&format!("spiffe://td.test{bad}")),
            IdError::PathCharacter { found },
            "{bad}"
        );
    }
}

#[test]
fn lengths_end_at_255_and_2048_bytes() {
    let name = "a".repeat(255);
    assert!(SpiffeId::parse(&format!("spiffe://{name}/x")).is_ok());
    assert_eq!(
        refused(&format!("spiffe://{name}a/x")),
        IdError::TrustDomainTooLong { length: 256 }
    );
    let id = |n: usize| format!("spiffe://td/{}", "p".repeat(n - "spiffe://td/".len()));
    assert!(SpiffeId::parse(&id(2048)).is_ok());
    assert_eq!(refused(&id(2049)), IdError::TooLong { length: 2049 });
}

#[test]
fn a_trust_domain_is_read_with_and_without_scheme() {
    assert_eq!(
        TrustDomain::parse("td.test").unwrap(),
        TrustDomain::parse("spiffe://td.test").unwrap()
    );
    assert_eq!(
        TrustDomain::parse("td.test").unwrap().id_string(),
        "spiffe://td.test"
    );
    assert_eq!(
        TrustDomain::parse("td.test").unwrap().id(),
        SpiffeId::parse("spiffe://td.test").unwrap()
    );
    for bad in [
        "",
        "spiffe://",
        "spiffe://td/a",
        "td/",
        "spiffe://spiffe://td",
        "Td",
    ] {
        assert!(TrustDomain::parse(bad).is_err(), "{bad}");
    }
    assert!(TrustDomain::parse("10.0.0.1").is_ok());
}

#[test]
fn names_of_servers_and_agents_are_reserved() {
    let td = TrustDomain::parse("td.test").unwrap();
    assert_eq!(SpiffeId::server(&td).as_str(), "spiffe://td.test/spire/server");
    let agent = SpiffeId::agent(&td, "join_token", "abc").unwrap();
    assert_eq!(agent.as_str(), "spiffe://td.test/spire/agent/join_token/abc");
    assert!(agent.is_agent() && agent.is_reserved());
    assert!(SpiffeId::agent(&td, "x509pop", "a/b").is_ok());
    for (kind, rest) in [
        ("", "a"),
        ("a", ""),
        ("a/b", "c"),
        ("a", "../server"),
        ("a", "b/"),
    ] {
        assert!(SpiffeId::agent(&td, kind, rest).is_err(), "{kind} {rest}");
    }
    let reserved = |path: &str| SpiffeId::from_parts(&td, path).unwrap().is_reserved();
    assert!(reserved("/spire") && reserved("/spire/server"));
    assert!(!reserved("/spirex") && !reserved("/a/spire") && !reserved(""));
    assert!(reserved("/landfast/person") && reserved("/landfast/person/p-a/b"));
    assert!(!reserved("/landfast") && !reserved("/landfast/persons") && !reserved("/a/landfast/person/b"));
    let person = SpiffeId::person(&td, "p-a", "b").unwrap();
    assert_eq!(person.as_str(), "spiffe://td.test/landfast/person/p-a/b");
    assert!(person.is_person() && !SpiffeId::from_parts(&td, "/landfast/person").unwrap().is_person());
    for (reference, login) in [("", "b"), ("p-a", ""), ("a/b", "c"), ("a", "b/c"), ("..", "b")] {
        assert!(
            SpiffeId::person(&td, reference, login).is_err(),
            "{reference} {login}"
        );
    }
    assert!(!SpiffeId::server(&td).is_agent());
}

#[test]
fn a_path_is_given_with_its_slash() {
    let td = TrustDomain::parse("td.test").unwrap();
    assert_eq!(SpiffeId::from_parts(&td, "a"), Err(IdError::RelativePath));
    assert_eq!(SpiffeId::from_parts(&td, "x.evil/a"), Err(IdError::RelativePath));
    assert_eq!(SpiffeId::from_parts(&td, "").unwrap(), td.id());
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text: String) {
        let _result = SpiffeId::parse(&text);
        let _result = SpiffeId::parse(&format!("spiffe://{text}"));
    }

    #[test]
    fn what_is_accepted_prints_as_it_was_read(td in "[a-z0-9._-]{1,30}", path in "(/[a-zA-Z0-9_-]{1,9}){0,5}") {
        let text = format!("spiffe://{td}{path}");
        let id = SpiffeId::parse(&text).unwrap();
        prop_assert_eq!(id.as_str(), &text);
        prop_assert_eq!(id.path(), &path);
        prop_assert_eq!(SpiffeId::from_parts(id.trust_domain(), id.path()).unwrap(), id);
    }

    #[test]
    fn one_foreign_character_anywhere_is_refused(at in 0usize..20, c in "[^a-zA-Z0-9._/-]") {
        let mut text = "spiffe://td/abcdefghij".to_owned();
        text.insert_str(at, &c);
        prop_assert!(SpiffeId::parse(&text).is_err());
    }
}
