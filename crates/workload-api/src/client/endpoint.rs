//! Addresses of the Workload API (Workload Endpoint §4).
//!
//! Invariant: what parses is an absolute path of a Unix socket.

use std::path::PathBuf;

/// Why an address cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// TCP cannot authenticate a local process.
    #[error("{endpoint:?} is a TCP address, only unix:///path is supported")]
    Tcp {
        /// As given.
        endpoint: String,
    },
    /// Anything else.
    #[error("{endpoint:?} is not of the form unix:///path: {reason}")]
    Form {
        /// As given.
        endpoint: String,
        /// What is wrong.
        reason: &'static str,
    },
}

pub(super) fn parse(endpoint: &str) -> Result<PathBuf, EndpointError> {
    let wrong = |reason| EndpointError::Form {
        endpoint: endpoint.to_owned(),
        reason,
    };
    if endpoint.starts_with('/') {
        return Ok(endpoint.into());
    }
    let (scheme, rest) = endpoint
        .split_once(':')
        .ok_or_else(|| wrong("it has no scheme"))?;
    match scheme.to_ascii_lowercase().as_str() {
        "unix" => {}
        "tcp" => {
            return Err(EndpointError::Tcp {
                endpoint: endpoint.to_owned(),
            });
        }
        _ => return Err(wrong("its scheme is not unix")),
    }
    if rest.contains(['?', '#']) {
        return Err(wrong("it has a query or a fragment"));
    }
    let path = match rest.strip_prefix("//") {
        Some(path) if path.starts_with('/') => path,
        Some(_) => return Err(wrong("it has a host")),
        None if rest.starts_with('/') => rest,
        None => return Err(wrong("its path is not absolute")),
    };
    let decoded = percent_decode(path).ok_or_else(|| wrong("its path is badly %-encoded"))?;
    if decoded.contains(&0) {
        return Err(wrong("its path holds a zero byte"));
    }
    use std::os::unix::ffi::OsStringExt as _;
    Ok(std::ffi::OsString::from_vec(decoded).into())
}

fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            (digit()? * 16 + digit()?) as u8
        } else {
            byte
        });
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_the_standard_parse() {
        for endpoint in [
            "unix:///run/a.sock",
            "unix:/run/a.sock",
            "/run/a.sock",
            "UNIX:///run/%61.sock",
        ] {
            assert_eq!(parse(endpoint), Ok("/run/a.sock".into()), "{endpoint}");
        }
    }

    #[test]
    fn other_forms_are_refused() {
        assert!(matches!(
            parse("tcp://127.0.0.1:8000"),
            Err(EndpointError::Tcp { .. })
        ));
        for endpoint in [
            "",
            "run/a",
            "unix:run/a",
            "unix://host/a",
            "unix://",
            "unix:///a?b",
            "unix:///a#b",
            "http:///a",
            "unix:///%0",
            "unix:///%00",
        ] {
            assert!(
                matches!(parse(endpoint), Err(EndpointError::Form { .. })),
                "{endpoint}"
            );
        }
    }
}
