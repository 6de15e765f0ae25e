//! What is said of a backup, and after a restoration: for people and for programs. Invariant: what was lost is said in words.

use std::path::Path;

use landfast_daemon::error_chain;
use landfast_identity::UnixTime;
use landfast_store::StoreError;
use serde_json::json;

use super::command::Form;
use super::manifest::Manifest;
use super::migrate::Migrated;
use super::restore::{Choice, Restored, Undone, Vouched};

pub(super) fn shown(manifest: &Manifest, form: Form) -> String {
    match form {
        Form::Json => pretty(&json!({ "backup": manifest })),
        Form::Text => described(manifest) + "every digest fits\n",
    }
}

/// `untold`: why the server will have no record of it.
pub(super) fn made(manifest: &Manifest, out: &Path, form: Form, untold: Option<&StoreError>) -> String {
    let untold = untold.map(|error| error_chain(error));
    match (form, untold) {
        (Form::Json, untold) => pretty(&json!({ "file": out, "backup": manifest, "not_recorded": untold })),
        (Form::Text, None) => format!("{}: made\n{}", out.display(), described(manifest)),
        (Form::Text, Some(error)) => format!(
            "{}: made\n{}THE LEDGER WILL HAVE NO RECORD OF IT: {error}\n",
            out.display(),
            described(manifest)
        ),
    }
}

pub(super) fn restored(restored: &Restored, choice: &Choice, form: Form) -> String {
    let manifest = &restored.manifest;
    if form == Form::Json {
        return pretty(&json!({
            "restored": restored.replaced,
            "vouched_for": restored.vouched == Vouched::Seal,
            "epoch": restored.epoch,
            "old_data": restored.old_data,
            "tokens_kept": choice.keep_tokens,
            "quarantine": restored.undone.quarantine,
            "not_known": restored.undone.unknown,
            "bans_taken_over": restored.undone.bans,
            "findings": findings(&restored.undone),
            "new_authorities": choice.new_authorities,
            "backup": manifest,
        }));
    }
    let mut text = described(manifest);
    text += &match restored.replaced {
        true => format!("restored, as epoch {}\n", restored.epoch),
        false => "verified: it can be restored. Nothing was replaced.\n".to_owned(),
    };
    text += match restored.vouched {
        Vouched::Seal => "",
        Vouched::Nothing => "NOTHING VOUCHES for its tables: without a seal anybody can have changed it.\n",
        Vouched::NotYet => {
            "NOTHING SHOWS WHO MADE IT: the data directory has none of its keys. Compare a fingerprint with what was written down; it needs --trust FINGERPRINT.\n"
        }
    };
    if let Some(dir) = &restored.old_data {
        let dir = dir.display();
        text += &format!("The old data is in {dir}: remove it when all is well; it holds keys.\n");
    }
    text += &undone(restored);
    text += match choice.keep_tokens {
        true => {
            "Join tokens that nobody had redeemed can be redeemed, also by whoever did so after the backup.\n"
        }
        false => "Join tokens that nobody had redeemed are void: make new ones.\n",
    };
    if choice.new_authorities {
        text += "The authorities are gone: the server makes new ones when it starts, which no node trusts. Enrol every node again with the new bundle.\n";
    }
    text
}

/// What was decided after the backup, as far as it is known, and what comes of that.
fn undone(restored: &Restored) -> String {
    let (undone, made_at) = (&restored.undone, UnixTime::from_secs(restored.manifest.made_at));
    let mut text = format!(
        "Not in it: whatever was changed after {made_at}; records of issuance since then are lost. Nodes that were enrolled since need new tokens.\n"
    );
    for id in &undone.bans {
        text += &format!("  taken over from the old data: the ban of {id}\n");
    }
    for finding in &undone.findings {
        let what = if finding.kind.comes_back() {
            "comes back"
        } else {
            "is lost"
        };
        let kind = finding.kind.as_str();
        text += &format!("  {what}: {kind} {} ({})\n", finding.object, finding.detail);
    }
    if let Some(why) = &undone.unknown {
        text += &format!("WHAT WAS DECIDED SINCE IS NOT KNOWN HERE: {why}.\n");
    }
    text += match (undone.quarantine, restored.replaced) {
        (true, true) => {
            "THE SERVER STARTS IN QUARANTINE: it signs nothing, and nodes serve what they hold, until landfast quarantine end. Before that repeat bans, \
             evictions, deletions, and what was tainted or revoked since; landfast quarantine show lists what is known.\n"
        }
        (true, false) => {
            "The server would start in quarantine, unless it is restored with --accept-rollback.\n"
        }
        (false, _) => "",
    };
    text
}

fn findings(undone: &Undone) -> Vec<serde_json::Value> {
    let each = undone.findings.iter().map(|finding| {
        json!({
            "kind": finding.kind.as_str(),
            "object": finding.object,
            "detail": finding.detail,
            "comes_back": finding.kind.comes_back(),
        })
    });
    each.collect()
}

pub(super) fn migrated(migrated: &Migrated, form: Form) -> String {
    let old = &migrated.old_data;
    let Some(taken) = migrated.taken else {
        return match form {
            Form::Json => pretty(&json!({ "old_data": old })),
            Form::Text => format!(
                "An earlier run had brought everything into PostgreSQL.\n\
                Keys are where they were. The old database is in {}: remove it when all is well.\n",
                old.display()
            ),
        };
    };
    match form {
        Form::Json => pretty(&json!({
            "epoch": taken.epoch,
            "entries": taken.entries,
            "agents": taken.agents,
            "join_tokens": taken.tokens,
            "records": taken.records,
            "old_data": old,
        })),
        Form::Text => format!(
            "{} entries, {} agents, {} join tokens and {} records of issuance are in PostgreSQL, as epoch {}\n\
            Keys are where they were. The old database is in {}: remove it when all is well.\n",
            taken.entries,
            taken.agents,
            taken.tokens,
            taken.records,
            taken.epoch,
            old.display()
        ),
    }
}

fn described(manifest: &Manifest) -> String {
    let mut text = format!(
        "backup of {}, made {} by {}\nepoch {}, revision {}, schema {}\n",
        manifest.trust_domain,
        UnixTime::from_secs(manifest.made_at),
        manifest.made_by,
        manifest.epoch,
        manifest.revision,
        manifest.schema
    );
    let counted = COUNTED.map(|(table, what)| format!("{} {what}", manifest.rows(table)));
    text += &format!("{}\n", counted.join(", "));
    for authority in &manifest.authorities {
        text += &format!(
            "  {} authority {} ({}) until {}: key {}\n    fingerprint {}\n",
            authority.kind,
            authority.id,
            authority.slot,
            UnixTime::from_secs(authority.not_after),
            if authority.key {
                "sealed in it"
            } else {
                "NOT in it"
            },
            authority.fingerprint
        );
    }
    text += &match &manifest.keys {
        None => {
            "NO SIGNING KEYS: it needs the keys directory beside it, or every node has to be enrolled again\n"
                .to_owned()
        }
        Some(keys) => format!("keys {}\n", keys.sealed()),
    };
    text
}

fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}

const COUNTED: [(&str, &str); 7] = [
    ("entries", "entries"),
    ("agents", "agents"),
    ("join_tokens", "join tokens"),
    ("federated_bundles", "federated bundles"),
    ("federation_relationships", "federation relationships"),
    ("authorities", "authorities"),
    ("issued", "records of issuance"),
];
