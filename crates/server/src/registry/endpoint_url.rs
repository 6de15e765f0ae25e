//! URLs of bundle endpoints. Invariant: https, a host, no user (SPIFFE Federation §5.2.1.1, §5.2.2.1).

use std::fmt;

use http::Uri;
use http::uri::PathAndQuery;

/// Where a bundle is published.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointUrl {
    /// As it was given.
    text: String,
    host: String,
    port: u16,
    path: PathAndQuery,
}

impl EndpointUrl {
    /// Reads an absolute URL.
    ///
    /// # Errors
    /// It is too long, no https URL, has no host, a user, or a port that is none.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        if text.len() > MAX_URL {
            return Err(UrlError::TooLong);
        }
        let uri: Uri = text.parse().map_err(|source| UrlError::Malformed { source })?;
        if uri.scheme_str() != Some("https") {
            return Err(UrlError::NotHttps);
        }
        let authority = uri.authority().ok_or(UrlError::NoHost)?;
        if authority.as_str().contains('@') {
            return Err(UrlError::User);
        }
        let host = authority.host();
        if host.is_empty() || host == "[]" {
            return Err(UrlError::NoHost);
        }
        let port = match authority.as_str().strip_prefix(host) {
            Some("") => HTTPS,
            Some(_) => authority
                .port_u16()
                .filter(|port| *port != 0)
                .ok_or(UrlError::Port)?,
            None => return Err(UrlError::Port),
        };
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        Ok(Self {
            host: bare.to_owned(),
            port,
            path: uri
                .path_and_query()
                .cloned()
                .unwrap_or_else(|| PathAndQuery::from_static("/")),
            text: text.to_owned(),
        })
    }

    /// Where this URL redirects to: another absolute URL, or a path on the same host.
    ///
    /// # Errors
    /// It is neither, or as [`EndpointUrl::parse`].
    pub fn redirected(&self, location: &str) -> Result<Self, UrlError> {
        let location = location.split('#').next().unwrap_or_default();
        if location.starts_with("//") {
            return Self::parse(&format!("https:{location}"));
        }
        if location.starts_with('/') {
            return Self::parse(&format!("https://{}{location}", self.authority()));
        }
        Self::parse(location)
    }

    /// The host: a name, or an address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query, never empty.
    pub fn path(&self) -> &PathAndQuery {
        &self.path
    }

    /// Host and port as the Host header has them.
    pub fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match self.port {
            HTTPS => host,
            port => format!("{host}:{port}"),
        }
    }

    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a text is no URL of a bundle endpoint; in the words that SPIRE's clients know.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// More than 2048 bytes.
    #[error("bundle endpoint URL must have at most {MAX_URL} bytes")]
    TooLong,
    /// No URL.
    #[error("failed to parse bundle endpoint URL")]
    Malformed {
        /// Why.
        source: http::uri::InvalidUri,
    },
    /// Another scheme, or none.
    #[error("bundle endpoint URL must use the https scheme")]
    NotHttps,
    /// No host.
    #[error("bundle endpoint URL must specify the host")]
    NoHost,
    /// A user.
    #[error("bundle endpoint URL must not contain user info")]
    User,
    /// What follows the host is no port.
    #[error("bundle endpoint URL must have a port from 1 to 65535, or none")]
    Port,
}

const HTTPS: u16 = 443;
const MAX_URL: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_urls_with_a_host_and_without_a_user_are_endpoints() {
        for (text, host, port, path, authority) in [
            ("https://a.example", "a.example", 443, "/", "a.example"),
            ("https://a.example:443/x", "a.example", 443, "/x", "a.example"),
            (
                "https://a.example:8443/b?c=d",
                "a.example",
                8443,
                "/b?c=d",
                "a.example:8443",
            ),
            (
                "https://[2001:db8::1]:9/",
                "2001:db8::1",
                9,
                "/",
                "[2001:db8::1]:9",
            ),
            ("https://10.1.2.3/", "10.1.2.3", 443, "/", "10.1.2.3"),
        ] {
            let url = EndpointUrl::parse(text).unwrap();
            assert_eq!(
                (url.host(), url.port(), url.path().as_str()),
                (host, port, path),
                "{text}"
            );
            assert_eq!((url.authority().as_str(), url.as_str()), (authority, text));
        }
        for text in [
            "",
            "/",
            "a.example",
            "http://a.example",
            "HTTP://a.example",
            "ftp://a.example",
            "https://",
            "https:///path",
            "https://user@a.example",
            "https://user:word@a.example/",
            "https://a.example:0/",
            "https://a.example:65536/",
            "https://a.example:x/",
            "https://a.example:/",
            "https://a example/",
            "https://[]/",
        ] {
            assert!(EndpointUrl::parse(text).is_err(), "{text}");
        }
        assert!(EndpointUrl::parse(&format!("https://a/{}", "x".repeat(2048))).is_err());
    }

    #[test]
    fn a_redirect_leads_to_https_or_a_path_and_nowhere_else() {
        let from = EndpointUrl::parse("https://a.example:8443/bundle").unwrap();
        for (location, to) in [
            ("/next", "https://a.example:8443/next"),
            ("//b.example/x", "https://b.example/x"),
            ("https://b.example/x#part", "https://b.example/x"),
        ] {
            assert_eq!(from.redirected(location).unwrap().as_str(), to);
        }
        for location in [
            "",
            "next",
            "http://a.example/",
            "file:///etc/passwd",
            "https://u@b.example/",
        ] {
            assert!(from.redirected(location).is_err(), "{location}");
        }
    }
}
