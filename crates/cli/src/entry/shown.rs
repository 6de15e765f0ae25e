//! How an entry is shown.

use landfast_proto::landfast::entry::v1::EntryPolicy;
use landfast_proto::spire::api::types;
use serde_json::{Value, json};

use crate::cli::Globals;
use crate::failure::Failure;
use crate::{output, wire};

/// With its policy, when that was asked for.
pub(super) fn print(
    entry: &types::Entry,
    policy: Option<&EntryPolicy>,
    globals: &Globals,
) -> Result<(), Failure> {
    if globals.json() {
        return output::print_json(&json(entry, policy));
    }
    let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let mut facts = vec![
        ("entry", entry.id.clone()),
        ("SPIFFE ID", wire::id_text(entry.spiffe_id.as_ref())),
        ("parent", wire::id_text(entry.parent_id.as_ref())),
        (
            "selectors",
            output::lines(entry.selectors.iter().map(wire::selector_text), "none"),
        ),
        ("X509-SVID TTL", ttl(entry.x509_svid_ttl)),
        ("JWT-SVID TTL", ttl(entry.jwt_svid_ttl)),
        ("expires", output::when(entry.expires_at, "never")),
        ("revision", entry.revision_number.to_string()),
    ];
    let lists = [
        ("federates with", &entry.federates_with),
        ("DNS names", &entry.dns_names),
    ];
    facts.extend(
        lists
            .iter()
            .filter(|(_, list)| !list.is_empty())
            .map(|(name, list)| (*name, list.join("\n"))),
    );
    let flags = [
        ("admin", entry.admin),
        ("downstream", entry.downstream),
        ("stored", entry.store_svid),
    ];
    facts.extend(
        flags
            .iter()
            .filter(|(_, set)| *set)
            .map(|(name, set)| (*name, yes(*set))),
    );
    if !entry.hint.is_empty() {
        facts.push(("hint", entry.hint.clone()));
    }
    if let Some(policy) = policy.filter(|policy| !policy.description.is_empty()) {
        facts.push(("description", policy.description.clone()));
    }
    facts.extend(policy.map(super::policy::ahead).unwrap_or_default());
    facts.extend(policy.and_then(super::policy::unrecorded));
    output::print(&output::facts(&facts))
}

/// As a line of a table.
pub(super) fn row(entry: &types::Entry) -> Vec<String> {
    vec![
        entry.id.clone(),
        wire::id_text(entry.spiffe_id.as_ref()),
        wire::id_text(entry.parent_id.as_ref()),
        output::lines(entry.selectors.iter().map(wire::selector_text), ""),
        ttl(entry.x509_svid_ttl),
    ]
}

fn ttl(seconds: i32) -> String {
    if seconds == 0 {
        "the server's default".to_owned()
    } else {
        format!("{seconds} s")
    }
}

/// With its policy, when that was asked for and the server has policies.
pub(super) fn json(entry: &types::Entry, policy: Option<&EntryPolicy>) -> Value {
    let more = entry.additional_attributes.unwrap_or_default();
    let mut value = json!({
        "id": entry.id,
        "spiffe_id": wire::id_text(entry.spiffe_id.as_ref()),
        "parent_id": wire::id_text(entry.parent_id.as_ref()),
        "selectors": entry.selectors.iter().map(wire::selector_text).collect::<Vec<_>>(),
        "x509_svid_ttl": entry.x509_svid_ttl, "jwt_svid_ttl": entry.jwt_svid_ttl,
        "federates_with": entry.federates_with, "dns_names": entry.dns_names, "hint": entry.hint,
        "admin": entry.admin, "downstream": entry.downstream, "store_svid": entry.store_svid,
        "expires_at": output::time_json(entry.expires_at), "created_at": output::time_json(entry.created_at),
        "revision": entry.revision_number, "disable_x509_svid_prefetch": more.disable_x509_svid_prefetch,
        "jwt_svid_include_jti": more.jwt_svid_include_jti,
    });
    if let Some(policy) = policy {
        value["policy"] = super::policy::json(policy);
    }
    value
}
