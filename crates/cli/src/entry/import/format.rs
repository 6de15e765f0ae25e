//! Entries as SPIRE's commands write and read them. Invariant: a field that is not understood is named, not skipped in silence.
//!
//! `entry show -output json` prints `spire.api.types.Entry` (64-bit numbers are strings, IDs have two parts); `entry create -data`
//! reads `spire.common.RegistrationEntry` (IDs are strings, some fields have other names). One reader takes both.

use std::collections::BTreeMap;

use landfast_identity::{SpiffeId, TrustDomain};
use landfast_proto::spire::api::types::{self, entry::AdditionalAttributes};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::wire;

/// Each entry of the file, or why it is none.
pub(super) fn entries(text: &str) -> Result<Vec<Result<Read, String>>, serde_json::Error> {
    #[derive(Deserialize)]
    struct File {
        entries: Vec<Value>,
    }
    let file: File = serde_json::from_str(text)?;
    Ok(file.entries.into_iter().map(entry).collect())
}

/// An entry, and the names of what was not understood.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) entry: types::Entry,
    pub(super) unknown: Vec<String>,
}

fn entry(mut value: Value) -> Result<Read, String> {
    if let Value::Object(fields) = &mut value {
        fields.retain(|_, value| !value.is_null());
    }
    let raw: RawEntry = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let ttl = |seconds: i64, name: &str| {
        i32::try_from(seconds).map_err(|_cause| format!("{name} is no number of seconds"))
    };
    let federates = raw.federates_with.iter().map(|text| {
        let trust_domain =
            TrustDomain::parse(text).map_err(|error| format!("federates_with {text:?}: {error}"))?;
        Ok(trust_domain.to_string())
    });
    let selectors = raw.selectors.into_iter().map(|selector| types::Selector {
        r#type: selector.r#type,
        value: selector.value,
    });
    Ok(Read {
        entry: types::Entry {
            id: raw.id,
            spiffe_id: Some(id(&raw.spiffe_id, "spiffe_id")?),
            parent_id: Some(id(&raw.parent_id, "parent_id")?),
            selectors: selectors.collect(),
            x509_svid_ttl: ttl(raw.x509_svid_ttl, "x509_svid_ttl")?,
            jwt_svid_ttl: ttl(raw.jwt_svid_ttl, "jwt_svid_ttl")?,
            federates_with: federates.collect::<Result<_, String>>()?,
            admin: raw.admin,
            downstream: raw.downstream,
            expires_at: raw.expires_at,
            dns_names: raw.dns_names,
            store_svid: raw.store_svid,
            hint: raw.hint,
            additional_attributes: raw.additional_attributes.map(|more| AdditionalAttributes {
                disable_x509_svid_prefetch: more.disable_x509_svid_prefetch,
                jwt_svid_include_jti: more.jwt_svid_include_jti,
            }),
            // The server counts anew.
            revision_number: 0,
            created_at: 0,
        },
        unknown: raw
            .unknown
            .into_keys()
            .filter(|name| !COUNTED_ANEW.contains(&name.as_str()))
            .collect(),
    })
}

fn id(raw: &RawId, name: &str) -> Result<types::Spiffeid, String> {
    let text = match raw {
        RawId::Text(text) => text.clone(),
        RawId::Parts { trust_domain, path } => format!("spiffe://{trust_domain}{path}"),
    };
    let id = SpiffeId::parse(&text).map_err(|error| format!("{name} {text:?}: {error}"))?;
    Ok(wire::id(&id))
}

#[derive(Deserialize)]
struct RawEntry {
    #[serde(default, alias = "entry_id", alias = "entryId")]
    id: String,
    #[serde(alias = "spiffeId")]
    spiffe_id: RawId,
    #[serde(alias = "parentId")]
    parent_id: RawId,
    #[serde(default)]
    selectors: Vec<RawSelector>,
    /// Old versions call it `ttl`.
    #[serde(default, alias = "x509SvidTtl", alias = "ttl", deserialize_with = "number")]
    x509_svid_ttl: i64,
    #[serde(default, alias = "jwtSvidTtl", deserialize_with = "number")]
    jwt_svid_ttl: i64,
    #[serde(default, alias = "federatesWith")]
    federates_with: Vec<String>,
    #[serde(default)]
    admin: bool,
    #[serde(default)]
    downstream: bool,
    #[serde(
        default,
        alias = "expiresAt",
        alias = "entryExpiry",
        alias = "entry_expiry",
        deserialize_with = "number"
    )]
    expires_at: i64,
    #[serde(default, alias = "dnsNames")]
    dns_names: Vec<String>,
    #[serde(default, alias = "storeSvid")]
    store_svid: bool,
    #[serde(default)]
    hint: String,
    #[serde(alias = "additionalAttributes")]
    additional_attributes: Option<RawAttributes>,
    #[serde(flatten)]
    unknown: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a SPIFFE ID as a string, or as {\"trust_domain\", \"path\"}"
)]
enum RawId {
    Text(String),
    Parts {
        #[serde(alias = "trustDomain")]
        trust_domain: String,
        #[serde(default)]
        path: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSelector {
    r#type: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAttributes {
    #[serde(default, alias = "disableX509SvidPrefetch")]
    disable_x509_svid_prefetch: bool,
    #[serde(default, alias = "jwtSvidIncludeJti")]
    jwt_svid_include_jti: bool,
}

/// A number, or one in quotes.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a whole number, perhaps in quotes")]
    enum Either {
        Number(i64),
        Text(String),
    }
    match Either::deserialize(deserializer)? {
        Either::Number(number) => Ok(number),
        Either::Text(text) => text
            .parse()
            .map_err(|_cause| serde::de::Error::custom(format!("{text:?} is no whole number"))),
    }
}

const COUNTED_ANEW: [&str; 4] = ["revision_number", "revisionNumber", "created_at", "createdAt"];

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<Read, String> {
        entries(&format!("{{\"entries\": [{text}], \"next_page_token\": \"\"}}"))
            .unwrap()
            .remove(0)
    }

    #[test]
    fn both_of_spires_forms_say_the_same() {
        let shown = one(
            r#"{"id": "e1", "spiffe_id": {"trust_domain": "a.test", "path": "/x"}, "parent_id": {"trust_domain": "a.test", "path": "/n"},
            "selectors": [{"type": "unix", "value": "uid:1"}], "x509_svid_ttl": 60, "jwt_svid_ttl": 30, "federates_with": ["b.test"],
            "admin": true, "downstream": true, "expires_at": "1900000000", "dns_names": ["x.test"], "revision_number": "3", "store_svid": true,
            "hint": "h", "created_at": "1700000000", "additional_attributes": {"disable_x509_svid_prefetch": true, "jwt_svid_include_jti": false}}"#,
        )
        .unwrap();
        let data = one(
            r#"{"entry_id": "e1", "spiffe_id": "spiffe://a.test/x", "parent_id": "spiffe://a.test/n",
            "selectors": [{"type": "unix", "value": "uid:1"}], "ttl": 60, "jwt_svid_ttl": 30, "federates_with": ["spiffe://b.test"],
            "admin": true, "downstream": true, "entryExpiry": 1900000000, "dns_names": ["x.test"], "revision_number": 3, "store_svid": true,
            "hint": "h", "created_at": 1700000000, "additional_attributes": {"disable_x509_svid_prefetch": true}}"#,
        )
        .unwrap();
        assert_eq!(shown.entry, data.entry);
        assert_eq!(wire::id_text(shown.entry.spiffe_id.as_ref()), "spiffe://a.test/x");
        assert_eq!(
            (
                shown.entry.x509_svid_ttl,
                shown.entry.expires_at,
                shown.entry.revision_number
            ),
            (60, 1_900_000_000, 0)
        );
        assert!(
            shown.unknown.is_empty() && data.unknown.is_empty(),
            "{:?} {:?}",
            shown.unknown,
            data.unknown
        );
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let least = r#""spiffe_id": "spiffe://a.test/x", "parent_id": "spiffe://a.test/n""#;
        let read = one(&format!("{{{least}, \"selectors\": null, \"colour\": 1}}")).unwrap();
        assert_eq!(read.unknown, ["colour"]);
        for (field, said) in [
            (r#""x509_svid_ttl": 99999999999"#, "no number of seconds"),
            (r#""x509_svid_ttl": "x""#, "no whole number"),
            (r#""expires_at": 1.5"#, "whole number"),
            (r#""selectors": [{"type": "unix"}]"#, "value"),
            (
                r#""selectors": [{"type": "unix", "value": "uid:1", "more": 1}]"#,
                "more",
            ),
            (r#""federates_with": ["B.test"]"#, "federates_with"),
            (r#""additional_attributes": {"new": true}"#, "new"),
            (r#""admin": "yes""#, "bool"),
        ] {
            let error = one(&format!("{{{least}, {field}}}")).unwrap_err();
            assert!(error.contains(said), "{field}: {error}");
        }
        for (text, said) in [
            ("{}", "spiffe_id"),
            (r#"{"spiffe_id": "spiffe://a.test/x"}"#, "parent_id"),
            (
                r#"{"spiffe_id": "x", "parent_id": "spiffe://a.test/n"}"#,
                "spiffe_id \"x\"",
            ),
            (
                r#"{"spiffe_id": 7, "parent_id": "spiffe://a.test/n"}"#,
                "a SPIFFE ID as a string",
            ),
            ("7", "invalid type"),
        ] {
            let error = one(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
        for no_file in ["", "[]", "{}", "{\"entries\": {}}"] {
            assert!(entries(no_file).is_err(), "{no_file}");
        }
    }
}
