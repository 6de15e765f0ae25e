//! Clauses and claims as data: which records would show each. Invariant: a status is *evidenced by N records* or *not evidenced*, and nothing else; whether
//! an obligation is met is said by people.

use serde::{Deserialize, Serialize};

use crate::evidence::Evidence;
use crate::record::{Record, Ref};
use crate::tally::{counted, numbers};

/// A file of clauses.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    /// What it is about.
    pub title: String,
    /// What has to be known to read it.
    #[serde(default)]
    pub note: String,
    /// Its clauses, in their order.
    #[serde(rename = "clause", default)]
    pub clauses: Vec<Clause>,
}

/// One clause.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clause {
    /// How it is cited.
    pub id: String,
    /// What it asks for, in our words.
    pub asks: String,
    /// What these records show of it; empty: nothing that this program records does.
    #[serde(default)]
    pub shows: String,
    /// What this program does for it where it records nothing of it.
    #[serde(default)]
    pub aid: String,
    /// Any of these.
    #[serde(default)]
    pub records: Vec<Wanted>,
}

/// Which records count.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// A type, or the beginning of one: before a dot.
    #[serde(rename = "type")]
    pub kind: String,
    /// Only with this decision.
    pub decision: Option<String>,
    /// Only with this result.
    pub result: Option<String>,
    /// Only where the actor is of this class.
    pub actor: Option<String>,
    /// Only where `detail` has this, whatever it is unless `value` says it.
    pub detail: Option<String>,
    /// The value of `detail`, as text.
    pub value: Option<String>,
    /// Only where `detail` has none of these.
    #[serde(default)]
    pub lacks: Vec<String>,
    /// Only where the reason has this in it.
    pub reason: Option<String>,
    /// Only with a time of this quality.
    pub time_quality: Option<String>,
}

/// A catalogue against records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mapping {
    /// Of the catalogue.
    pub title: String,
    /// Of the catalogue.
    pub note: String,
    /// How many of the clauses have records.
    pub evidenced: usize,
    /// Each clause.
    pub clauses: Vec<ClauseStatus>,
}

/// A clause and its records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClauseStatus {
    /// How it is cited.
    pub id: String,
    /// What it asks for, in our words.
    pub asks: String,
    /// What the records show of it.
    pub shows: String,
    /// What this program does for it where it records nothing of it.
    pub aid: String,
    /// `evidenced by N records` or `not evidenced`.
    pub status: String,
    /// How many.
    pub count: u64,
    /// The first and the last of them.
    pub records: Vec<Ref>,
    /// From when on.
    pub from: Option<String>,
    /// Until when.
    pub to: Option<String>,
}

/// Why a file is no catalogue.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// It is not what is expected.
    #[error("not a catalogue")]
    Toml {
        /// Where and why.
        #[from]
        source: Box<toml::de::Error>,
    },
    /// Statements about the law are not ours to print.
    #[error(
        "clause {id} of the catalogue uses a word that no report of ours prints: say what the records show instead"
    )]
    Word {
        /// Which clause.
        id: String,
    },
    /// No such catalogue.
    #[error("no catalogue {name}: there are {}", known())]
    Unknown {
        /// What was asked for.
        name: String,
    },
}

impl Catalogue {
    /// From the text of a file.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> Result<Self, CatalogueError> {
        let parsed: Self = toml::from_str(text).map_err(Box::new)?;
        for clause in &parsed.clauses {
            let texts = [
                &clause.id,
                &clause.asks,
                &clause.shows,
                &clause.aid,
                &parsed.title,
                &parsed.note,
            ];
            if texts.iter().any(|text| judges(text)) {
                return Err(CatalogueError::Word {
                    id: clause.id.clone(),
                });
            }
        }
        Ok(parsed)
    }

    /// One of those that this program has.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn built_in(name: &str) -> Result<Self, CatalogueError> {
        let found = BUILT_IN.iter().find(|(known, _)| *known == name);
        let (_, text) = found.ok_or_else(|| CatalogueError::Unknown {
            name: name.to_owned(),
        })?;
        Self::parse(text)
    }

    /// Each clause with its records of the period.
    #[must_use]
    pub fn map(&self, evidence: &Evidence) -> Mapping {
        let clauses: Vec<_> = self
            .clauses
            .iter()
            .map(|clause| clause.status(evidence))
            .collect();
        Mapping {
            title: self.title.clone(),
            note: self.note.clone(),
            evidenced: clauses.iter().filter(|clause| clause.count > 0).count(),
            clauses,
        }
    }
}

impl Clause {
    fn status(&self, evidence: &Evidence) -> ClauseStatus {
        let found = evidence
            .within()
            .filter(|record| self.records.iter().any(|wanted| wanted.fits(record)));
        let found: Vec<&Record> = found.collect();
        let ends = found
            .first()
            .into_iter()
            .chain(found.last().filter(|_| found.len() > 1));
        let status = match found.len() {
            0 => "not evidenced".to_owned(),
            count => format!("evidenced by {}", counted(count as u64, "record")),
        };
        ClauseStatus {
            id: self.id.clone(),
            asks: self.asks.clone(),
            shows: self.shows.clone(),
            aid: self.aid.clone(),
            status,
            count: found.len() as u64,
            records: ends.map(|record| record.at).collect(),
            from: found.iter().find_map(|record| record.time.clone()),
            to: found.iter().rev().find_map(|record| record.time.clone()),
        }
    }
}

impl ClauseStatus {
    /// The first and the last of its records.
    #[must_use]
    pub fn between(&self) -> String {
        match self.records.as_slice() {
            [] => String::new(),
            [one] => format!("record {one}"),
            several => format!(
                "records {} \u{2026} {}",
                numbers(&several[..1]),
                numbers(&several[several.len() - 1..])
            ),
        }
    }
}

impl Wanted {
    fn fits(&self, record: &Record) -> bool {
        let is =
            |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        let has = |name: &String| {
            record.detail.get(name).is_some_and(|value| {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                self.value.as_ref().is_none_or(|wanted| *wanted == text)
            })
        };
        record.is_kind(&self.kind)
            && !is_of_a_selftest(record)
            && !self.lacks.iter().any(|name| record.detail.contains_key(name))
            && self.reason.as_ref().is_none_or(|wanted| {
                record
                    .reason
                    .as_ref()
                    .is_some_and(|reason| reason.contains(wanted))
            })
            && is(&self.decision, &record.decision)
            && is(&self.result, &record.result)
            && is(&self.actor, &record.actor.class)
            && is(&self.time_quality, &record.time_quality)
            && self.detail.as_ref().is_none_or(has)
    }
}

/// What a self-test has done around its tries, and undone: it shows nothing of how a plant is run. What it tried shows it, under its own types.
fn is_of_a_selftest(record: &Record) -> bool {
    let around = ["token.made", "node.evicted", "svid.issued"];
    record.reason.as_deref() == Some(SELFTEST) && around.contains(&record.kind.as_str())
}

/// Whether a text says of something that it meets an obligation: no report of ours does.
pub(crate) fn judges(text: &str) -> bool {
    text.to_lowercase().contains(FORBIDDEN)
}

fn known() -> String {
    let names: Vec<_> = BUILT_IN.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

/// The catalogues of this program, by name.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("nis2", include_str!("../data/nis2.toml")),
    ("cir-2024-2690", include_str!("../data/cir-2024-2690.toml")),
    ("iec-62443", include_str!("../data/iec-62443.toml")),
    ("nist", include_str!("../data/nist.toml")),
    ("owasp-nhi", include_str!("../data/owasp-nhi.toml")),
    ("resilience", include_str!("../data/resilience.toml")),
    ("monitoring", include_str!("../data/monitoring.toml")),
    ("readiness", include_str!("../data/readiness.toml")),
];

/// The reason that `landfast selftest` gives for all that it has to do.
const SELFTEST: &str = "selftest";

/// In pieces, so that it stands nowhere.
pub(crate) const FORBIDDEN: &str = concat!("compl", "iant");

#[cfg(test)]
mod tests;
