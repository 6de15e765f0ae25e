//! What a peer can publish (T-26). Each time the last good bundle stays, and nothing the peer wrote is told to anybody.

use super::*;

/// With a good bundle stored.
async fn begun() -> Web {
    let it = Web::new().await;
    it.endpoint.publish(&it.site.bundle(5));
    it.ask().await.unwrap();
    it
}

fn keys(keys: &[String], rest: &str) -> String {
    format!("{{\"keys\":[{}],\"spiffe_sequence\":6{rest}}}", keys.join(","))
}

fn jwt(kid: &str) -> String {
    let mut bundle: serde_json::Value =
        serde_json::from_str(&Site::new("k.example").bundle(1).to_jwks()).unwrap();
    let mut key = bundle["keys"].as_array_mut().unwrap().pop().unwrap();
    assert_eq!(key["use"], "jwt-svid");
    key["kid"] = kid.into();
    key.to_string()
}

#[tokio::test]
async fn a_document_that_breaks_a_rule_changes_nothing() {
    let it = begun().await;
    let good = it.stored().unwrap();
    let one = jwt("one");
    let cases = [
        ("no JSON", "MARK".to_owned()),
        ("no keys", "{\"MARK\":1}".to_owned()),
        ("257 keys", keys(&vec![one.clone(); 257], "")),
        (
            "100k keys",
            keys(&vec!["{\"use\":\"MARK\"}".to_owned(); 60_000], ""),
        ),
        ("a kid twice", keys(&[jwt("MARK"), jwt("MARK")], "")),
        ("no kid", keys(&[jwt("")], "")),
        (
            "a weak key",
            keys(
                &[format!(
                    "{{\"kty\":\"RSA\",\"use\":\"jwt-svid\",\"kid\":\"MARK\",\"e\":\"AQAB\",\"n\":\"{}\"}}",
                    "q".repeat(86)
                )],
                "",
            ),
        ),
        (
            "no certificate",
            keys(
                &["{\"use\":\"x509-svid\",\"kty\":\"EC\",\"x5c\":[\"TUFSSw==\"]}".to_owned()],
                "",
            ),
        ),
        (
            "a depth bomb",
            format!("{{\"keys\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000)),
        ),
        (
            "many values",
            format!("{{\"keys\":[],\"MARK\":[{}0]}}", "0,".repeat(500_000)),
        ),
        (
            "a member twice",
            "{\"keys\":[],\"keys\":[],\"MARK\":1}".to_owned(),
        ),
        (
            "a hint of -1",
            keys(std::slice::from_ref(&one), ",\"spiffe_refresh_hint\":-1"),
        ),
        (
            "a hint of 1e18",
            keys(std::slice::from_ref(&one), ",\"spiffe_refresh_hint\":1e18"),
        ),
        (
            "a sequence of -1",
            "{\"keys\":[],\"spiffe_sequence\":-1}".to_owned(),
        ),
    ];
    for (what, document) in cases {
        assert!(
            document.len() < 1 << 20,
            "{what}: the limit on size would hide it"
        );
        it.endpoint.say("/", Reply::Document(document));
        let error = it.ask().await.unwrap_err();
        assert!(matches!(error, RoundError::Document { .. }), "{what}: {error:?}");
        assert!(!error.told().contains("MARK"), "{what}: {}", error.told());
        assert_eq!(it.stored().unwrap(), good, "{what}");
    }
}

#[tokio::test]
async fn an_answer_that_is_no_document_changes_nothing() {
    let it = begun().await;
    let good = it.stored().unwrap();
    let ok = "HTTP/1.1 200 OK\r\n";
    let cases = [
        (Reply::Flood, "larger than"),
        (
            Reply::Raw(format!("{ok}content-length: 1048577\r\n\r\n")),
            "larger than",
        ),
        (
            Reply::Raw(format!(
                "{ok}content-length: 1\r\ncontent-encoding: gzip\r\n\r\nM"
            )),
            "packed",
        ),
        (
            Reply::Raw(format!("{ok}content-length: 50\r\n\r\nMARK")),
            "HTTP/1.1 properly",
        ),
        (
            Reply::Raw(format!("{ok}MARK: {}\r\n\r\n", "x".repeat(1 << 20))),
            "HTTP/1.1 properly",
        ),
        (Reply::Raw("MARK\r\n\r\n".to_owned()), "HTTP/1.1 properly"),
        (
            Reply::Raw("HTTP/1.1 500 MARK\r\ncontent-length: 4\r\n\r\nMARK".to_owned()),
            "status 500",
        ),
        (Reply::Raw("HTTP/1.1 304 MARK\r\n\r\n".to_owned()), "status 304"),
        (
            Reply::Raw("HTTP/1.1 302 Found\r\n\r\n".to_owned()),
            "no https URL",
        ),
        (Reply::Redirect("http://MARK/".to_owned()), "no https URL"),
        (Reply::Redirect("file:///MARK".to_owned()), "no https URL"),
        (Reply::Redirect("/".to_owned()), "more than 3 times"),
    ];
    for (reply, words) in cases {
        it.endpoint.say("/", reply);
        let told = it.ask().await.unwrap_err().told();
        assert!(told.contains(words) && !told.contains("MARK"), "{words}: {told}");
        assert_eq!(it.stored().unwrap(), good, "{words}");
    }
    // And it is asked again as if nothing had been.
    it.endpoint.publish(&it.site.bundle(6));
    assert!(it.ask().await.unwrap());
}

#[tokio::test]
async fn a_byte_a_second_ends_after_ten_seconds() {
    let it = begun().await;
    for reply in [Reply::Drip, Reply::Silent] {
        let before = it.endpoint.asked();
        it.endpoint.say("/", reply);
        let mut asking = pin!(it.ask());
        tokio::select! {
            outcome = &mut asking => panic!("{outcome:?}"),
            () = it.endpoint.reached(before + 1) => {}
        }
        // Both sides talk by now: from here on time passes as fast as nothing happens.
        tokio::time::pause();
        let began = tokio::time::Instant::now();
        let told = asking.await.unwrap_err().told();
        assert!(told.contains("within 10 s"), "{told}");
        assert!(began.elapsed() <= Duration::from_secs(10));
        tokio::time::resume();
    }
    assert_eq!(it.stored().unwrap().sequence(), 5);
}

#[tokio::test]
async fn three_redirects_are_followed_and_not_remembered_and_the_target_must_be_as_good() {
    let it = begun().await;
    it.endpoint.say("/", Reply::Redirect("/1".to_owned()));
    it.endpoint.say("/1", Reply::Redirect(it.endpoint.url("/2#part")));
    it.endpoint.say(
        "/2",
        Reply::Redirect(format!("//localhost:{}/3", it.endpoint.port)),
    );
    it.endpoint
        .say("/3", Reply::Document(it.site.bundle(6).to_jwks()));
    assert!(it.ask().await.unwrap());
    assert_eq!(it.endpoint.asked(), 1 + 4);
    it.endpoint.say("/3", Reply::Redirect("/4".to_owned()));
    it.endpoint
        .say("/4", Reply::Document(it.site.bundle(7).to_jwks()));
    assert!(it.ask().await.unwrap_err().told().contains("more than 3 times"));
    assert_eq!(it.endpoint.asked(), 5 + 4);

    // By SPIFFE ID: the target shows the same one, or is not asked.
    let site = Site::new("spiffe.example");
    it.rig
        .core
        .registry
        .set_federated_bundle(site.bundle(1))
        .await
        .unwrap();
    let (first, same, other) = (
        Endpoint::start(site.tls("/endpoint")).await,
        Endpoint::start(site.tls("/endpoint")).await,
        Endpoint::start(site.tls("/other")).await,
    );
    same.publish(&site.bundle(2));
    other.publish(&site.bundle(3));
    let known = by_id(&site, &first.url("/"), site.id("/endpoint"));
    first.say("/", Reply::Redirect(other.url("/")));
    assert!(it.federation.round(&known).await.is_err());
    assert_eq!(other.asked(), 0);
    first.say("/", Reply::Redirect(same.url("/")));
    assert!(it.federation.round(&known).await.unwrap());
}

#[tokio::test]
async fn what_is_not_for_us_is_left_out_and_what_is_odd_is_taken_as_it_is_meant() {
    let it = begun().await;
    let foreign = keys(
        &[jwt("one"), jwt("two").replace("jwt-svid", "sig"), "{}".to_owned()],
        "",
    );
    it.endpoint.say("/", Reply::Document(foreign));
    assert!(it.ask().await.unwrap());
    let stored = it.stored().unwrap();
    let ids: Vec<&str> = stored
        .jwt_authorities()
        .iter()
        .map(|a| a.key_id.as_str())
        .collect();
    assert_eq!((ids, stored.x509_authorities().len()), (vec!["one"], 0));

    for (sequence, hint, pace) in [(7, "0", 60..=60), (8, "1000000000000000000", 77_760..=86_400)] {
        let document = it.site.bundle(sequence).to_jwks();
        let document = document.replacen('{', &format!("{{\"spiffe_refresh_hint\":{hint},"), 1);
        it.endpoint.say("/", Reply::Document(document));
        assert!(it.ask().await.unwrap());
        let hint = it.stored().unwrap().refresh_hint();
        assert!(
            pace.contains(&pace::interval(hint, &td(), &it.site.name).as_secs()),
            "{hint:?}"
        );
    }

    // An expired authority is stored, and verifies nobody.
    let expired = Site::until("expired.example", UnixTime::from_secs(START.as_secs() - 3600));
    let endpoint = Endpoint::start(expired.tls("/endpoint")).await;
    endpoint.publish(&expired.bundle(2));
    let known = by_web(
        &expired,
        &it.endpoint.url("/expired"),
        it.known.web_roots.clone().unwrap(),
    );
    it.endpoint
        .say("/expired", Reply::Document(expired.bundle(1).to_jwks()));
    assert!(it.federation.round(&known).await.unwrap());
    let known = by_id(&expired, &endpoint.url("/"), expired.id("/endpoint"));
    assert!(it.federation.round(&known).await.is_err());
    assert_eq!(endpoint.asked(), 0);
}
