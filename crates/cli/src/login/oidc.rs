//! A provider's word: the authorisation code flow with PKCE, by the person's browser and the loopback (RFC 8252).
//!
//! Invariant: a code is taken only with the `state` that this very login has made, and what it is exchanged for is bound to it by PKCE and `nonce`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use landfast_daemon::error_chain;
use landfast_lifecycle::SystemClock;
use landfast_proto::landfast::login::v1::Provider;
use landfast_tls::{WebRoots, web_https_config};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::https::ask;
use crate::failure::Failure;
use crate::output;

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
}

#[derive(Deserialize)]
struct Token {
    id_token: String,
}

/// The one of these that was asked for, or the only one there is.
pub(super) fn chosen<'p>(providers: &'p [Provider], wanted: Option<&str>) -> Result<&'p Provider, Failure> {
    let known: Vec<&str> = providers.iter().map(|one| one.issuer.as_str()).collect();
    let found = match (wanted, providers) {
        (Some(issuer), _) => providers.iter().find(|one| one.issuer == issuer),
        (None, [one]) => Some(one),
        (None, _) => None,
    };
    found.ok_or_else(|| match known.as_slice() {
        [] => Failure::failed(
            "the server takes the word of no OIDC provider",
            "[[oidc]] in its configuration names some",
        ),
        _ => Failure::usage(
            format!(
                "the server takes the word of {}",
                output::clean_line(&known.join(", "))
            ),
            "say which: --oidc-issuer ISSUER",
        ),
    })
}

/// The ID token that answers this nonce.
pub(super) async fn id_token(
    provider: &Provider,
    nonce: &str,
    roots: Option<&Path>,
) -> Result<String, Failure> {
    let lost = |why: String| {
        Failure::failed(
            format!("the OIDC provider: {}", output::clean_line(&why)),
            "is this machine let reach it? Its log may say more",
        )
    };
    let strange = |_no_json| lost("its answer is not as OpenID Connect has it".to_owned());
    let roots = web_roots(roots)?;
    let tls = web_https_config(&roots, Arc::new(SystemClock)).map_err(|error| lost(error_chain(&error)))?;
    let url = format!(
        "{}/.well-known/openid-configuration",
        provider.issuer.trim_end_matches('/')
    );
    let document = ask(&url, None, &tls).await.map_err(lost)?;
    let document: Discovery = serde_json::from_slice(&document).map_err(strange)?;
    if document.issuer != provider.issuer {
        return Err(lost(format!("{url} is of another issuer, {}", document.issuer)));
    }
    let (verifier, state) = (random()?, random()?);
    let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await;
    let listener = listener.map_err(|error| lost(error.to_string()))?;
    let port = listener
        .local_addr()
        .map_err(|error| lost(error.to_string()))?
        .port();
    let redirect = format!("http://127.0.0.1:{port}/callback");
    let query = form(&[
        ("response_type", "code"),
        ("client_id", &provider.client_id),
        ("redirect_uri", &redirect),
        ("scope", "openid"),
        ("state", &state),
        ("nonce", nonce),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ]);
    let joint = if document.authorization_endpoint.contains('?') {
        '&'
    } else {
        '?'
    };
    output::complain(&format!(
        "open this in your browser, on this machine:\n{}{joint}{query}",
        output::clean_line(&document.authorization_endpoint)
    ));
    let code = tokio::time::timeout(PATIENCE, code(&listener, &state)).await;
    let code = code.map_err(|_elapsed| {
        Failure::failed(
            "nobody has logged in at the provider",
            "it has to be done within ten minutes, by a browser on this machine",
        )
    })??;
    let request = form(&[
        ("grant_type", "authorization_code"),
        ("code", &code),
        ("redirect_uri", &redirect),
        ("client_id", &provider.client_id),
        ("code_verifier", &verifier),
    ]);
    let token = ask(&document.token_endpoint, Some(request), &tls)
        .await
        .map_err(lost)?;
    let token: Token = serde_json::from_slice(&token).map_err(strange)?;
    Ok(token.id_token)
}

/// What the browser brings. Others on this machine may connect as well: without the state they are sent away.
async fn code(listener: &TcpListener, state: &str) -> Result<String, Failure> {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            continue;
        };
        let mut head = Vec::new();
        let mut part = [0; 1024];
        let read = async {
            while !head.contains(&b'\n') && head.len() < HEAD {
                match stream.read(&mut part).await {
                    Ok(0) | Err(_) => return,
                    Ok(count) => head.extend_from_slice(part.get(..count).unwrap_or_default()),
                }
            }
        };
        if tokio::time::timeout(Duration::from_secs(5), read).await.is_err() {
            continue;
        }
        let brought = brought(&String::from_utf8_lossy(&head), state);
        let (status, words) = match &brought {
            None => ("404 Not Found", "This is not for here."),
            Some(Ok(_)) => ("200 OK", "You can close this window: landfast has what it needs."),
            Some(Err(_)) => ("200 OK", "The provider has refused: see landfast."),
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{words}",
            words.len()
        );
        drop(stream.write_all(answer.as_bytes()).await);
        drop(stream.shutdown().await);
        match brought {
            None => {}
            Some(Ok(code)) => return Ok(code),
            Some(Err(why)) => {
                return Err(Failure::failed(
                    format!("the OIDC provider refuses: {}", output::clean_line(&why)),
                    "its log may say more",
                ));
            }
        }
    }
}

/// `None`: it is not what we wait for.
fn brought(head: &str, state: &str) -> Option<Result<String, String>> {
    let query = head
        .strip_prefix("GET /callback?")?
        .split_ascii_whitespace()
        .next()?;
    let value = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .find(|(key, _)| *key == name)
            .map(|(_, value)| decoded(value))
    };
    if value("state")? != state {
        return None;
    }
    match (value("code"), value("error")) {
        (Some(code), None) => Some(Ok(code)),
        (_, error) => Some(Err(error.unwrap_or_default())),
    }
}

fn web_roots(given: Option<&Path>) -> Result<WebRoots, Failure> {
    let hint = "name the authorities of the provider's certificate: --oidc-roots FILE";
    let path = given.map(Path::to_owned).or_else(landfast_tls::system_roots);
    let path =
        path.ok_or_else(|| Failure::failed("this system has no file of authorities for https", hint))?;
    let shown = path.display();
    let text = std::fs::read(&path)
        .map_err(|error| Failure::failed(format!("cannot read {shown}: {error}"), hint))?;
    WebRoots::from_pem(&text)
        .map_err(|error| Failure::failed(format!("{shown}: {}", error_chain(&error)), hint))
}

fn random() -> Result<String, Failure> {
    let mut bytes = [0_u8; 32];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_unspecified| Failure::failed("the random source failed", "try again"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn form(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(name, value)| format!("{name}={}", encoded(value)))
        .collect();
    pairs.join("&")
}

fn encoded(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(one).collect()
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let pair = bytes
            .get(at + 1..at + 3)
            .and_then(|pair| std::str::from_utf8(pair).ok());
        match (byte, pair.and_then(|pair| u8::from_str_radix(pair, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(*byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

const PATIENCE: Duration = Duration::from_secs(600);
const HEAD: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_counts_with_the_state_it_was_asked_with() {
        let get = |query: &str| {
            brought(
                &format!("GET /callback?{query} HTTP/1.1\r\nHost: x\r\n"),
                "our state",
            )
        };
        assert_eq!(get("code=a%2Fb&state=our+state"), Some(Ok("a/b".to_owned())));
        assert_eq!(
            get("state=our%20state&error=access_denied"),
            Some(Err("access_denied".to_owned()))
        );
        for foreign in [
            "code=a",
            "code=a&state=",
            "code=a&state=theirs",
            "code=a&state=theirs&state=our+state",
        ] {
            assert_eq!(get(foreign), None, "{foreign}");
        }
        for other in [
            "GET / HTTP/1.1",
            "POST /callback?code=a&state=our+state HTTP/1.1",
            "",
            "GET /callback?",
        ] {
            assert_eq!(brought(other, "our state"), None, "{other}");
        }
    }

    #[test]
    fn what_is_encoded_is_decoded_and_nothing_breaks_it() {
        let text = "https://a.test/?b=c&d e/ü~-._%";
        assert_eq!(decoded(&encoded(text)), text);
        assert_eq!(form(&[("a", "b c"), ("d", "&")]), "a=b%20c&d=%26");
        assert_eq!(decoded("%zz%4"), "%zz%4");
    }
}
