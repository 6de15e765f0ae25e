//! Entries as the records tell them: who may have what, from when to when. Invariant: within a log the numbers are the order of what happened, whatever its clock
//! showed; a rule that no record tells of is not made up, but one by which something was signed was there.

use std::collections::{BTreeMap, BTreeSet};

use crate::evidence::{Evidence, since};
use crate::record::{Record, Ref};

/// One entry over time.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) entry: String,
    pub(crate) versions: Vec<Version>,
}

/// An entry from a record on.
#[derive(Clone, Debug, Default)]
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
    /// The person who answered for it does not any more, so that nothing is signed by it.
    pub(crate) is_unanswered: bool,
    /// No record tells of it but those of what was signed by it, or of what became of it.
    pub(crate) is_inferred: bool,
    /// The records that it follows from, the newest last.
    pub(crate) records: Vec<Ref>,
    /// Who made the last change.
    pub(crate) by: String,
    /// Whether the record that made it is among these.
    is_made: bool,
    /// Whether anybody has said something about it beside SPIRE's fields.
    pub(crate) has_policy: bool,
}

impl Rule {
    /// What it was then; `None`: there was none, or no record tells of it.
    pub(crate) fn at(&self, time: &str) -> Option<&Version> {
        let began = |version: &&Version| version.from.as_deref().is_none_or(|from| from <= time);
        let version = self.versions.iter().take_while(began).last()?;
        version.stands(Some(time)).then_some(version)
    }

    /// What it was when this record was written, where the same log tells of all of it.
    pub(crate) fn by_number(&self, at: Ref) -> Option<&Version> {
        let changed = |version: &Version| version.records.last().copied().filter(|_| !version.is_inferred);
        let is_of_this = |version: &Version| changed(version).is_none_or(|by| by.ledger == at.ledger);
        if !self.versions.iter().all(is_of_this) {
            return None;
        }
        let began = |version: &&Version| changed(version).is_none_or(|by| by < at);
        let version = self.versions.iter().take_while(began).last()?;
        version.stands(None).then_some(version)
    }

    /// What it is at last.
    pub(crate) fn last(&self) -> Option<&Version> {
        self.versions.last()
    }

    /// Whether no record tells of it itself.
    pub(crate) fn is_older(&self) -> bool {
        self.versions.iter().all(|version| version.is_inferred)
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

impl Version {
    /// Whether it entitles anybody, at this moment.
    pub(crate) fn stands(&self, at: Option<&str>) -> bool {
        let ends = self.expires_at.as_deref();
        let is_over = matches!((ends, at), (Some(ends), Some(at)) if ends <= at);
        !self.is_deleted && !self.is_unanswered && !is_over
    }

    /// When it ended, or will.
    pub(crate) fn ends(&self) -> Option<String> {
        match self.is_deleted || self.is_unanswered {
            true => self.from.clone(),
            false => self.expires_at.clone(),
        }
    }

    /// What ends, ends when its own record says: a clock that went far back later on takes nothing from the time before it.
    fn ended(&mut self, record: &Record) {
        if let Some(placed) = record.placed() {
            self.from = Some(placed.to_owned());
        }
    }

    fn of(from: Option<&str>, record: &Record, before: Option<&Self>) -> Self {
        let mut version = before.cloned().unwrap_or_else(|| Self {
            selectors: "selectors that no record tells".to_owned(),
            ..Self::default()
        });
        version.from = from.map(str::to_owned);
        version.by = record.actor.name();
        version.records.push(record.at);
        version
    }
}

/// By the ID of the entry.
pub(crate) fn rules(evidence: &Evidence) -> BTreeMap<String, Rule> {
    let by_number = evidence.by_number();
    let mut ordered: Vec<_> = since(&by_number).into_iter().zip(by_number).collect();
    // Of one log these are in order already; several are joined.
    ordered.sort_by_key(|(since, record)| (*since, record.at));
    let mut rules: BTreeMap<String, Rule> = BTreeMap::new();
    let (mut signed, mut gone): (BTreeMap<&str, &Record>, BTreeSet<&str>) = Default::default();
    for (since, record) in ordered {
        let entry = record.says("entry");
        if let Some(entry) = entry.filter(|_| record.is_issuance()) {
            signed.entry(entry).or_insert(record);
        } else if let Some(entry) = entry.filter(|_| record.is_kind("entry") || record.is_kind("policy")) {
            let rule = rules.entry(entry.to_owned()).or_insert_with(|| Rule {
                entry: entry.to_owned(),
                versions: Vec::new(),
            });
            let mut version = next(rule.versions.last(), since, record);
            version.is_unanswered = version.sponsor.as_deref().is_some_and(|one| gone.contains(one));
            rule.versions.push(version);
        } else if record.kind == "person.changed" {
            person(&mut rules, &mut gone, since, record);
        }
    }
    for entry in signed.keys() {
        rules.entry((*entry).to_owned()).or_insert_with(|| Rule {
            entry: (*entry).to_owned(),
            versions: Vec::new(),
        });
    }
    for rule in rules.values_mut() {
        let signed = signed.get(rule.entry.as_str()).copied();
        older(rule, signed);
    }
    rules
}

/// An entry whose making no record tells of was there before the first that does.
fn older(rule: &mut Rule, signed: Option<&Record>) {
    let subject = signed.and_then(|record| record.subject.clone());
    for version in rule
        .versions
        .iter_mut()
        .filter(|version| version.subject.is_none())
    {
        version.subject.clone_from(&subject);
    }
    let first = rule.versions.first();
    if first.is_some_and(|first| first.is_made) {
        return;
    }
    let first = first.and_then(|version| version.records.last().copied());
    let told_by = signed.map(|record| record.at).or(first);
    let before = Version {
        subject,
        selectors: "selectors that no record tells".to_owned(),
        is_inferred: true,
        records: told_by.into_iter().collect(),
        by: "somebody before these records".to_owned(),
        ..Version::default()
    };
    rule.versions.insert(0, before);
}

/// Who answers for third parties comes and goes, and what they have with them.
fn person<'a>(
    rules: &mut BTreeMap<String, Rule>,
    gone: &mut BTreeSet<&'a str>,
    since: Option<&str>,
    record: &'a Record,
) {
    let Some(person) = record.subject.as_deref() else {
        return;
    };
    let action = record.says("action").unwrap_or_default();
    let has_gone = matches!(action, "forget" | "deactivate") || record.is("deactivate");
    let comes_back = action == "activate" || record.is("activate");
    let has_changed = match (has_gone, comes_back) {
        (true, _) => gone.insert(person),
        (false, true) => gone.remove(person),
        (false, false) => false,
    };
    if !has_changed {
        return;
    }
    for rule in rules.values_mut() {
        let last = rule.versions.last().filter(|last| !last.is_deleted);
        let Some(last) = last.filter(|last| last.sponsor.as_deref() == Some(person)) else {
            continue;
        };
        let mut version = Version::of(since, record, Some(last));
        version.is_unanswered = has_gone;
        if has_gone {
            version.ended(record);
        }
        rule.versions.push(version);
    }
}

fn next(before: Option<&Version>, since: Option<&str>, record: &Record) -> Version {
    // One that comes again under the same ID begins anew.
    let before = before.filter(|before| !before.is_deleted);
    let mut version = Version::of(since, record, before);
    match record.kind.as_str() {
        "entry.deleted" => {
            version.is_deleted = true;
            version.ended(record);
        }
        "policy.changed" => {
            version.has_policy = true;
            described(&mut version, record);
        }
        kind => {
            version.is_made |= kind == "entry.created";
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
