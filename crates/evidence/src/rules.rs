//! Entries as the records tell them: who may have what, from when to when. Invariant: a rule that no record tells of is not made up.

use std::collections::BTreeMap;

use crate::evidence::Evidence;
use crate::record::{Record, Ref};

/// One entry over time.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) entry: String,
    pub(crate) versions: Vec<Version>,
}

/// An entry from a record on.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) from: Option<String>,
    pub(crate) subject: Option<String>,
    pub(crate) selectors: String,
    pub(crate) powers: Vec<&'static str>,
    pub(crate) class: Option<String>,
    pub(crate) sponsor: Option<String>,
    pub(crate) contract: Option<String>,
    pub(crate) expires_at: Option<String>,
    pub(crate) is_deleted: bool,
    /// The records that it follows from, the newest last.
    pub(crate) records: Vec<Ref>,
    /// Who made the last change.
    pub(crate) by: String,
    /// Whether anybody has said something about it beside SPIRE's fields.
    pub(crate) has_policy: bool,
}

impl Rule {
    /// What it was then; `None`: there was none, or no record tells of it.
    pub(crate) fn at(&self, time: &str) -> Option<&Version> {
        let began = |version: &&Version| version.from.as_deref().is_none_or(|from| from <= time);
        let version = self.versions.iter().take_while(began).last()?;
        let is_over = version.expires_at.as_deref().is_some_and(|end| end <= time);
        (!version.is_deleted && !is_over).then_some(version)
    }

    /// What it is at last.
    pub(crate) fn last(&self) -> Option<&Version> {
        self.versions.last()
    }

    /// When the version that was valid then ended; `None`: it has not.
    pub(crate) fn until(&self, time: &str) -> Option<String> {
        let next = self
            .versions
            .iter()
            .find(|version| version.from.as_deref().is_some_and(|from| from > time));
        let expires = self.at(time).and_then(|version| version.expires_at.clone());
        match (next.and_then(|next| next.from.clone()), expires) {
            (Some(next), Some(expires)) => Some(next.min(expires)),
            (next, expires) => next.or(expires),
        }
    }
}

/// By the ID of the entry.
pub(crate) fn rules(evidence: &Evidence) -> BTreeMap<String, Rule> {
    let mut rules: BTreeMap<String, Rule> = BTreeMap::new();
    for record in &evidence.records {
        let is_about_an_entry = record.is_kind("entry") || record.is_kind("policy");
        let Some(entry) = record.says("entry").filter(|_| is_about_an_entry) else {
            continue;
        };
        let rule = rules.entry(entry.to_owned()).or_insert_with(|| Rule {
            entry: entry.to_owned(),
            versions: Vec::new(),
        });
        let version = next(rule.versions.last(), record);
        rule.versions.push(version);
    }
    rules
}

fn next(before: Option<&Version>, record: &Record) -> Version {
    // One that comes again under the same ID begins anew.
    let before = before.filter(|before| !before.is_deleted);
    let mut version = before.cloned().unwrap_or_else(|| Version {
        from: None,
        subject: None,
        selectors: "selectors that no record tells".to_owned(),
        powers: Vec::new(),
        class: None,
        sponsor: None,
        contract: None,
        expires_at: None,
        is_deleted: false,
        records: Vec::new(),
        by: String::new(),
        has_policy: false,
    });
    version.from.clone_from(&record.time);
    version.by = record.actor.name();
    version.records.push(record.at);
    match record.kind.as_str() {
        "entry.deleted" => version.is_deleted = true,
        "policy.changed" => {
            version.has_policy = true;
            described(&mut version, record);
        }
        _ => {
            version.subject.clone_from(&record.subject);
            version.selectors = record.selectors();
            let powers = ["admin", "downstream"];
            version.powers = powers.into_iter().filter(|power| record.is(power)).collect();
            version.expires_at = record.says("expires_at").map(str::to_owned);
            if record.says("class").is_some() {
                described(&mut version, record);
            }
        }
    }
    version
}

fn described(version: &mut Version, record: &Record) {
    let said = |name| record.says(name).map(str::to_owned);
    version.class = said("class");
    version.sponsor = said("sponsor");
    version.contract = said("contract");
}
