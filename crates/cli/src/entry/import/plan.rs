//! What becomes of each entry. Pure.

use std::collections::{BTreeMap, BTreeSet};

use landfast_identity::{SpiffeId, TrustDomain};
use landfast_proto::spire::api::server::entry::v1::batch_create_entry_response;
use landfast_proto::spire::api::types;
use tonic::Code;

use super::format::Read;
use crate::wire;

/// One of the file.
#[derive(Debug)]
pub(super) struct Item {
    /// From 1, as people count.
    pub(super) number: usize,
    pub(super) entry: Option<types::Entry>,
    /// Names of fields that were not understood.
    pub(super) unknown: Vec<String>,
    /// The parent before it was mapped.
    parent: String,
    pub(super) fate: Fate,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Waits,
    Created {
        id: String,
    },
    /// An entry of the same identity, parent and selectors; it was not changed.
    There {
        id: String,
        differs: bool,
    },
    LeftOut {
        why: &'static str,
    },
    Refused {
        why: String,
        hint: String,
    },
}

pub(super) fn plan(
    entries: Vec<Result<Read, String>>,
    map: &[(SpiffeId, SpiffeId)],
    trust_domain: &TrustDomain,
) -> Vec<Item> {
    let items = entries.into_iter().enumerate();
    items
        .map(|(at, read)| Item::new(at + 1, read, map, trust_domain))
        .collect()
}

/// A mapping that nothing used was probably mistyped.
pub(super) fn unused_maps(items: &[Item], map: &[(SpiffeId, SpiffeId)]) -> Vec<String> {
    let unused = map
        .iter()
        .filter(|(old, _)| !items.iter().any(|item| item.parent == old.to_string()));
    unused
        .map(|(old, _)| {
            format!("warning: no entry has the parent {old}\nhint: is --map-parent spelt as in the file?")
        })
        .collect()
}

impl Item {
    fn new(
        number: usize,
        read: Result<Read, String>,
        map: &[(SpiffeId, SpiffeId)],
        trust_domain: &TrustDomain,
    ) -> Self {
        let (mut entry, unknown) = match read {
            Ok(Read { entry, unknown }) => (entry, unknown),
            Err(why) => {
                return Self {
                    number,
                    entry: None,
                    unknown: Vec::new(),
                    parent: String::new(),
                    fate: refused(why, "this is no entry that SPIRE writes"),
                };
            }
        };
        let parent = wire::id_text(entry.parent_id.as_ref());
        let of_a_token = is_alias_of_a_token(&entry, &parent);
        if let Some((_, new)) = map.iter().find(|(old, _)| old.to_string() == parent) {
            entry.parent_id = Some(wire::id(new));
        }
        let foreign = [&entry.spiffe_id, &entry.parent_id]
            .into_iter()
            .flatten()
            .find(|id| id.trust_domain != trust_domain.as_str());
        let fate = if of_a_token {
            Fate::LeftOut {
                why: "it ties a join token of the old server to an ID: landfast token create --agent-id ID does that here",
            }
        } else if let Some(id) = foreign {
            refused(
                format!(
                    "{} is not of the server's trust domain, {trust_domain}",
                    wire::id_text(Some(id))
                ),
                "import it into the server of its trust domain; --map-parent maps parents only",
            )
        } else {
            Fate::Waits
        };
        Self {
            number,
            entry: Some(entry),
            unknown,
            parent,
            fate,
        }
    }

    pub(super) fn spiffe_id(&self) -> String {
        wire::id_text(self.entry.as_ref().and_then(|entry| entry.spiffe_id.as_ref()))
    }

    /// What its holder may do to the server, in words.
    pub(super) fn power(&self) -> Option<&'static str> {
        let entry = self.entry.as_ref()?;
        match (entry.admin, entry.downstream) {
            (true, true) => {
                Some("administers this server and signs as a server below it (admin, downstream)")
            }
            (true, false) => Some("administers this server (admin)"),
            (false, true) => {
                Some("signs any identity of the trust domain, as a server below this one (downstream)")
            }
            (false, false) => None,
        }
    }

    /// Whoever wrote the file may not be who is asked to import it: power is given on purpose or not at all.
    pub(super) fn refuse_power(&mut self) {
        if let (Fate::Waits, Some(power)) = (&self.fate, self.power()) {
            self.fate = refused(
                format!("its holder {power}"),
                "look who that is; --allow-privileged imports such entries as well",
            );
        }
    }

    /// The server's answer; an entry that it has goes with the refusal.
    pub(super) fn answered(
        &mut self,
        result: Option<batch_create_entry_response::Result>,
        federated: &BTreeSet<String>,
    ) {
        let (status, answer) = result.map_or((None, None), |result| (result.status, result.entry));
        let code = status.as_ref().map(|status| Code::from_i32(status.code));
        self.fate = match (code, answer) {
            (Some(Code::Ok), Some(created)) => Fate::Created { id: created.id },
            (Some(Code::AlreadyExists), Some(there)) => Fate::There {
                differs: self.entry.as_ref().is_some_and(|wanted| differ(wanted, &there)),
                id: there.id,
            },
            _ => match wire::outcome(status.as_ref()) {
                Ok(()) => Fate::Created {
                    id: self
                        .entry
                        .as_ref()
                        .map(|entry| entry.id.clone())
                        .unwrap_or_default(),
                },
                Err(failure) => refused(failure.message, &self.missing(federated).unwrap_or(failure.hint)),
            },
        };
    }

    /// What to do when bundles are missing that it federates with.
    fn missing(&self, federated: &BTreeSet<String>) -> Option<String> {
        let entry = self.entry.as_ref()?;
        let missing = entry
            .federates_with
            .iter()
            .find(|name| !federated.contains(*name))?;
        Some(format!(
            "landfast bundle set --trust-domain {missing} FILE, then import again"
        ))
    }
}

/// What the server has, for a dry run.
pub(super) struct Existing {
    similar: BTreeMap<Likeness, types::Entry>,
    ids: BTreeSet<String>,
}

/// Two entries alike in this are one to the server.
type Likeness = (String, String, Vec<String>);

impl Existing {
    pub(super) fn of(entries: Vec<types::Entry>) -> Self {
        Self {
            ids: entries.iter().map(|entry| entry.id.clone()).collect(),
            similar: entries
                .into_iter()
                .map(|entry| (likeness(&entry), entry))
                .collect(),
        }
    }

    /// As the server would, so far as can be known from here.
    pub(super) fn judge(&mut self, item: &mut Item, federated: &BTreeSet<String>) {
        let (Fate::Waits, Some(entry)) = (&item.fate, &item.entry) else {
            return;
        };
        let likeness = likeness(entry);
        item.fate = if let Some(there) = self.similar.get(&likeness) {
            Fate::There {
                id: there.id.clone(),
                differs: differ(entry, there),
            }
        } else if !entry.id.is_empty() && self.ids.contains(&entry.id) {
            refused(
                format!("entry {} exists already, and is another", entry.id),
                "show or update the one that exists",
            )
        } else if let Some(hint) = item.missing(federated) {
            refused(
                "it federates with a trust domain that has no bundle here".to_owned(),
                &hint,
            )
        } else {
            self.ids.insert(entry.id.clone());
            self.similar.insert(likeness, entry.clone());
            Fate::Created { id: entry.id.clone() }
        };
    }
}

fn refused(why: String, hint: &str) -> Fate {
    Fate::Refused {
        why,
        hint: hint.to_owned(),
    }
}

/// SPIRE makes such an entry for `token generate -spiffeID`: it means a node that is none here.
fn is_alias_of_a_token(entry: &types::Entry, parent: &str) -> bool {
    let below = entry
        .parent_id
        .as_ref()
        .is_some_and(|id| id.path.starts_with("/spire/agent/join_token/"));
    below
        && !entry.selectors.is_empty()
        && entry
            .selectors
            .iter()
            .all(|selector| selector.r#type == "spiffe_id" && selector.value == parent)
}

fn likeness(entry: &types::Entry) -> Likeness {
    let selectors: BTreeSet<String> = entry.selectors.iter().map(wire::selector_text).collect();
    (
        wire::id_text(entry.spiffe_id.as_ref()),
        wire::id_text(entry.parent_id.as_ref()),
        selectors.into_iter().collect(),
    )
}

/// In what is neither counted by the server nor alike anyway.
fn differ(one: &types::Entry, other: &types::Entry) -> bool {
    let rest = |entry: &types::Entry| {
        let federates: BTreeSet<String> = entry.federates_with.iter().cloned().collect();
        let mut entry = entry.clone();
        entry.additional_attributes = Some(entry.additional_attributes.unwrap_or_default());
        (entry.id, entry.revision_number, entry.created_at) = (String::new(), 0, 0);
        entry.selectors.clear();
        entry.federates_with = federates.into_iter().collect();
        entry
    };
    rest(one) != rest(other)
}

#[cfg(test)]
mod tests;
