//! SPIFFE IDs, trust domains and selectors as they come in.
//!
//! Invariant: what is refused is refused in the words that SPIRE's clients and scripts know; who calls puts in front what it was for.

use landfast_identity::{IdError, Selector, SelectorError, SelectorSet, SpiffeId, TrustDomain};
use landfast_proto::spire::api::types;
use tonic::Status;

/// An ID that must be there.
pub(crate) fn id(wire: Option<&types::Spiffeid>) -> Result<SpiffeId, String> {
    let wire = wire.ok_or_else(|| "request must specify SPIFFE ID".to_owned())?;
    let trust_domain = trust_domain(&wire.trust_domain)?;
    match wire.path.as_str() {
        "" => Ok(trust_domain.id()),
        path => SpiffeId::from_parts(&trust_domain, path).map_err(|error| words(&error)),
    }
}

/// An ID of our trust domain.
pub(crate) fn member(wire: Option<&types::Spiffeid>, ours: &TrustDomain) -> Result<SpiffeId, String> {
    let id = id(wire)?;
    let outside = format!("\"{id}\" is not a member of trust domain \"{ours}\"");
    match id.trust_domain() == ours {
        true if id.path().is_empty() => Err(format!("{outside}; path is empty")),
        true => Ok(id.sharing(ours)),
        false => Err(outside),
    }
}

/// An ID that a workload may have.
pub(crate) fn workload(wire: Option<&types::Spiffeid>, ours: &TrustDomain) -> Result<SpiffeId, String> {
    named(id(wire)?, ours, "a workload", |id| {
        id.is_reserved().then_some("path is in the reserved namespace")
    })
}

/// The ID of an agent of ours.
pub(crate) fn agent(wire: Option<&types::Spiffeid>, ours: &TrustDomain) -> Result<SpiffeId, String> {
    named(id(wire)?, ours, "an agent", |id| {
        (!id.is_agent()).then_some("path is not in the agent namespace")
    })
}

fn named(
    id: SpiffeId,
    ours: &TrustDomain,
    what: &str,
    wrong: impl Fn(&SpiffeId) -> Option<&'static str>,
) -> Result<SpiffeId, String> {
    if id.trust_domain() != ours {
        return Err(format!("\"{id}\" is not a member of trust domain \"{ours}\""));
    }
    let why = match id.path() {
        "" => Some("path is empty"),
        _ => wrong(&id),
    };
    match why {
        Some(why) => Err(format!(
            "\"{id}\" is not {what} in trust domain \"{ours}\"; {why}"
        )),
        None => Ok(id.sharing(ours)),
    }
}

/// A trust domain, as a bare name or as an ID.
pub(crate) fn trust_domain(name: &str) -> Result<TrustDomain, String> {
    TrustDomain::parse(name).map_err(|error| words(&error))
}

pub(crate) fn selectors(wire: &[types::Selector]) -> Result<SelectorSet, String> {
    if wire.len() > MAX_SELECTORS {
        return Err(format!("too many selectors: at most {MAX_SELECTORS}"));
    }
    let one = |s: &types::Selector| {
        Selector::new(&s.r#type, &s.value).map_err(|error| match error {
            _ if s.r#type.is_empty() => "missing selector type".to_owned(),
            _ if s.r#type.contains(':') => "selector type contains ':'".to_owned(),
            SelectorError::NoValue => "missing selector value".to_owned(),
            other => format!("invalid selector: {other}"),
        })
    };
    wire.iter().map(one).collect()
}

/// InvalidArgument: what it was about, and what is wrong with it.
pub(crate) fn refused(about: &str, what: &str) -> Status {
    Status::invalid_argument(format!("{about}: {what}"))
}

/// As SPIRE's library has them; it has none for lengths.
pub(crate) fn words(error: &IdError) -> String {
    let known = match error {
        IdError::Scheme => "scheme is missing or invalid",
        IdError::NoTrustDomain => "trust domain is missing",
        IdError::TrustDomainCharacter { .. } => {
            "trust domain characters are limited to lowercase letters, numbers, dots, dashes, and underscores"
        }
        IdError::PathCharacter { .. } => {
            "path segment characters are limited to letters, numbers, dots, dashes, and underscores"
        }
        IdError::RelativePath => "path must have a leading slash",
        IdError::EmptySegment => "path cannot contain empty segments",
        IdError::DotSegment => "path cannot contain dot segments",
        IdError::TrailingSlash => "path cannot have a trailing slash",
        other => return other.to_string(),
    };
    known.to_owned()
}

/// Selectors of one entry or filter.
const MAX_SELECTORS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(trust_domain: &str, path: &str) -> types::Spiffeid {
        types::Spiffeid {
            trust_domain: trust_domain.to_owned(),
            path: path.to_owned(),
        }
    }

    #[test]
    fn ids_are_refused_in_the_words_of_spires_server() {
        let ours = TrustDomain::parse("plant.test").unwrap();
        let all = |id: &types::Spiffeid| {
            [
                member(Some(id), &ours),
                workload(Some(id), &ours),
                agent(Some(id), &ours),
            ]
            .map(|outcome| outcome.err().unwrap_or_default())
        };
        let other = "\"spiffe://other.test/a\" is not a member of trust domain \"plant.test\"";
        assert_eq!(all(&wire("other.test", "/a")), [other; 3]);
        let [m, w, a] = all(&wire("plant.test", ""));
        assert_eq!(
            m,
            "\"spiffe://plant.test\" is not a member of trust domain \"plant.test\"; path is empty"
        );
        assert_eq!(
            w,
            "\"spiffe://plant.test\" is not a workload in trust domain \"plant.test\"; path is empty"
        );
        assert_eq!(
            a,
            "\"spiffe://plant.test\" is not an agent in trust domain \"plant.test\"; path is empty"
        );
        let [m, w, a] = all(&wire("plant.test", "/spire/server"));
        assert_eq!(m, "");
        assert!(
            w.ends_with("/spire/server\" is not a workload in trust domain \"plant.test\"; path is in the reserved namespace")
        );
        assert!(
            a.ends_with("/spire/server\" is not an agent in trust domain \"plant.test\"; path is not in the agent namespace")
        );
        assert_eq!(all(&wire("plant.test", "/spire/agent/x509pop/1"))[2], "");
        assert_eq!(all(&wire("plant.test", "/a"))[..2], ["", ""]);
        assert_eq!(id(None).unwrap_err(), "request must specify SPIFFE ID");
    }

    #[test]
    fn malformed_ids_are_refused_in_the_words_of_spires_library() {
        for (trust_domain, path, words) in [
            ("", "/a", "trust domain is missing"),
            ("PLANT", "/a", "trust domain characters are limited to"),
            ("plant.test", "a", "path must have a leading slash"),
            ("plant.test", "/a/", "path cannot have a trailing slash"),
            ("plant.test", "/a//b", "path cannot contain empty segments"),
            ("plant.test", "/a/..", "path cannot contain dot segments"),
            ("plant.test", "/a b", "path segment characters are limited to"),
        ] {
            let refused = id(Some(&wire(trust_domain, path))).unwrap_err();
            assert!(refused.starts_with(words), "{trust_domain} {path}: {refused}");
        }
    }

    #[test]
    fn selectors_are_refused_in_the_words_of_spires_server() {
        for (kind, value, words) in [
            ("", "a", "missing selector type"),
            ("a:b", "c", "selector type contains ':'"),
            ("unix", "", "missing selector value"),
        ] {
            let one = types::Selector {
                r#type: kind.to_owned(),
                value: value.to_owned(),
            };
            assert_eq!(selectors(&[one]).unwrap_err(), words);
        }
        let many = vec![types::Selector::default(); MAX_SELECTORS + 1];
        assert!(selectors(&many).unwrap_err().starts_with("too many selectors"));
    }
}
