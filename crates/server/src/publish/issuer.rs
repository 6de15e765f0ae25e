//! The issuer of JWT-SVIDs as the URL that OIDC discovery starts from. Invariant: what it leads to is on a path that we can serve.

use http::uri::Authority;

/// An `https` URL without query, whose path is plain. What is served for it is named by it to the letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    url: String,
    host: String,
    path: String,
}

impl Issuer {
    /// `None` when discovery (OIDC Discovery §3, §4.1) cannot start there, or not with us.
    pub(crate) fn parse(url: &str) -> Option<Self> {
        let rest = url.strip_prefix("https://")?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        // Whatever follows is appended, so the last slash does not count.
        let path = path.strip_suffix('/').unwrap_or(path);
        if !path.is_empty() && (path == "/" || !is_plain_path(path)) {
            return None;
        }
        Some(Self {
            url: url.to_owned(),
            host: host_of(authority)?,
            path: path.to_owned(),
        })
    }

    /// The `iss` of the tokens.
    pub(crate) fn as_str(&self) -> &str {
        &self.url
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn discovery_path(&self) -> String {
        format!("{}/.well-known/openid-configuration", self.path)
    }

    pub(crate) fn keys_path(&self) -> String {
        format!("{}{KEYS}", self.path)
    }

    pub(crate) fn keys_url(&self) -> String {
        format!("{}{KEYS}", self.url.strip_suffix('/').unwrap_or(&self.url))
    }
}

/// Of `host` or `host:port`: nobody's name stands before the host.
pub(super) fn host_of(authority: &str) -> Option<String> {
    let host = authority.parse::<Authority>().ok()?.host().to_owned();
    let port = authority.strip_prefix(&host)?;
    let port_fits = port.is_empty() || port.strip_prefix(':')?.parse::<u16>().is_ok();
    (!host.is_empty() && port_fits).then_some(host)
}

/// A path that is the same in every spelling: nothing to decode, to resolve or to shorten.
pub(crate) fn is_plain_path(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let segment = |text: &str| !["", ".", ".."].contains(&text) && text.bytes().all(plain);
    path == "/"
        || path.len() <= MAX_PATH
            && path
                .strip_prefix('/')
                .is_some_and(|rest| rest.split('/').all(segment))
}

const KEYS: &str = "/keys";
const MAX_PATH: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discovery_starts_at_the_issuer_whatever_its_path() {
        let parse = |url| Issuer::parse(url).unwrap();
        let paths = |url| {
            let issuer = parse(url);
            (issuer.discovery_path(), issuer.keys_path(), issuer.keys_url())
        };
        let bare = paths("https://oidc.plant.test");
        assert_eq!(bare.0, "/.well-known/openid-configuration");
        assert_eq!(
            (bare.1.as_str(), bare.2.as_str()),
            ("/keys", "https://oidc.plant.test/keys")
        );
        assert_eq!(paths("https://oidc.plant.test/"), bare);
        let deep = paths("https://plant.test:8443/td/one/");
        assert_eq!(deep.0, "/td/one/.well-known/openid-configuration");
        assert_eq!(
            (deep.1.as_str(), deep.2.as_str()),
            ("/td/one/keys", "https://plant.test:8443/td/one/keys")
        );
        assert_eq!(parse("https://plant.test:8443/td/").host(), "plant.test");
        assert_eq!(parse("https://plant.test/td/").as_str(), "https://plant.test/td/");
    }

    #[test]
    fn an_issuer_that_we_could_not_serve_is_none() {
        for url in [
            "",
            "plant",
            "http://plant.test",
            "HTTPS://plant.test",
            "https://",
            "https:///td",
            "https://user@plant.test",
            "https://plant.test?a",
            "https://plant.test/#a",
            "https://plant.test//",
            "https://plant.test/a//b",
            "https://plant.test/../b",
            "https://plant.test/%61",
            "https://plant.test/ä",
            "https://plant.test:port/",
            "spiffe://plant.test",
        ] {
            assert_eq!(Issuer::parse(url), None, "{url}");
        }
    }
}
