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
mod tests {
    use super::*;

    fn entry(id: &str, spiffe_id: &str, parent: &str) -> types::Entry {
        types::Entry {
            id: id.to_owned(),
            spiffe_id: Some(wire::id(&SpiffeId::parse(spiffe_id).unwrap())),
            parent_id: Some(wire::id(&SpiffeId::parse(parent).unwrap())),
            selectors: vec![selector("unix", "uid:1")],
            ..Default::default()
        }
    }

    fn selector(kind: &str, value: &str) -> types::Selector {
        types::Selector {
            r#type: kind.to_owned(),
            value: value.to_owned(),
        }
    }

    fn planned(entries: Vec<types::Entry>, map: &[(&str, &str)]) -> Vec<Item> {
        let id = |text: &str| SpiffeId::parse(text).unwrap();
        let map: Vec<_> = map.iter().map(|(old, new)| (id(old), id(new))).collect();
        let read = entries.into_iter().map(|entry| {
            Ok(Read {
                entry,
                unknown: Vec::new(),
            })
        });
        plan(read.collect(), &map, &TrustDomain::parse("a.test").unwrap())
    }

    #[test]
    fn parents_are_mapped_and_foreign_ones_refused() {
        let items = planned(
            vec![
                entry(
                    "1",
                    "spiffe://a.test/x",
                    "spiffe://a.test/spire/agent/join_token/t",
                ),
                entry("2", "spiffe://a.test/x", "spiffe://b.test/n"),
                entry("3", "spiffe://b.test/x", "spiffe://a.test/n"),
                entry("4", "spiffe://a.test/x", "spiffe://b.test/m"),
            ],
            &[
                ("spiffe://a.test/spire/agent/join_token/t", "spiffe://a.test/n"),
                ("spiffe://b.test/m", "spiffe://a.test/m"),
            ],
        );
        assert_eq!(
            wire::id_text(items[0].entry.as_ref().unwrap().parent_id.as_ref()),
            "spiffe://a.test/n"
        );
        let waits: Vec<bool> = items.iter().map(|item| item.fate == Fate::Waits).collect();
        assert_eq!(waits, [true, false, false, true]);
        let Fate::Refused { why, hint } = &items[2].fate else {
            panic!()
        };
        assert!(
            why.contains("spiffe://b.test/x") && why.contains("a.test") && hint.contains("trust domain"),
            "{why} {hint}"
        );
        let mistyped = [(
            SpiffeId::parse("spiffe://a.test/typo").unwrap(),
            SpiffeId::parse("spiffe://a.test/n").unwrap(),
        )];
        assert!(unused_maps(&items, &mistyped)[0].contains("spiffe://a.test/typo"));
    }

    #[test]
    fn the_alias_of_a_join_token_is_left_out_and_told() {
        let token = "spiffe://a.test/spire/agent/join_token/t";
        let mut alias = entry("1", "spiffe://a.test/node", token);
        alias.selectors = vec![selector("spiffe_id", token)];
        let mut other = alias.clone();
        other.selectors.push(selector("unix", "uid:1"));
        let items = planned(vec![alias, other], &[]);
        assert!(matches!(items[0].fate, Fate::LeftOut { .. }));
        assert_eq!(items[1].fate, Fate::Waits);
    }

    #[test]
    fn a_dry_run_judges_as_the_server_does() {
        let mut there = entry("1", "spiffe://a.test/x", "spiffe://a.test/n");
        there.revision_number = 7;
        let mut longer = entry("9", "spiffe://a.test/x", "spiffe://a.test/n");
        longer.x509_svid_ttl = 60;
        let mut far = entry("5", "spiffe://a.test/far", "spiffe://a.test/n");
        far.federates_with = vec!["b.test".to_owned()];
        let mut items = planned(
            vec![
                entry("1", "spiffe://a.test/x", "spiffe://a.test/n"),
                longer,
                entry("1", "spiffe://a.test/y", "spiffe://a.test/n"),
                far,
                entry("4", "spiffe://a.test/z", "spiffe://a.test/n"),
                entry("", "spiffe://a.test/z", "spiffe://a.test/n"),
            ],
            &[],
        );
        let mut existing = Existing::of(vec![there]);
        items
            .iter_mut()
            .for_each(|item| existing.judge(item, &BTreeSet::new()));
        let there = |id: &str, differs| Fate::There {
            id: id.to_owned(),
            differs,
        };
        assert_eq!(items[0].fate, there("1", false));
        assert_eq!(items[1].fate, there("1", true));
        assert!(matches!(&items[2].fate, Fate::Refused { why, .. } if why.contains("is another")));
        assert!(
            matches!(&items[3].fate, Fate::Refused { hint, .. } if hint.contains("landfast bundle set --trust-domain b.test"))
        );
        assert_eq!(items[4].fate, Fate::Created { id: "4".to_owned() });
        assert_eq!(items[5].fate, there("4", false));
    }

    #[test]
    fn entries_that_give_power_are_refused_by_name() {
        let mut admin = entry("1", "spiffe://a.test/x", "spiffe://a.test/n");
        admin.admin = true;
        let mut below = entry("2", "spiffe://a.test/y", "spiffe://a.test/n");
        below.downstream = true;
        let plain = entry("3", "spiffe://a.test/z", "spiffe://a.test/n");
        let mut items = planned(vec![admin, below, plain], &[]);
        items.iter_mut().for_each(Item::refuse_power);
        for (item, word) in items.iter().zip(["(admin)", "(downstream)"]) {
            let Fate::Refused { why, hint } = &item.fate else {
                panic!("{:?} is let in", item.fate)
            };
            assert!(
                why.contains(word) && hint.contains("--allow-privileged"),
                "{why} {hint}"
            );
        }
        assert_eq!((&items[2].fate, items[2].power()), (&Fate::Waits, None));
    }

    #[test]
    fn no_answer_is_a_refusal() {
        let mut items = planned(vec![entry("1", "spiffe://a.test/x", "spiffe://a.test/n")], &[]);
        items[0].answered(None, &BTreeSet::new());
        assert!(matches!(items[0].fate, Fate::Refused { .. }));
    }
}
