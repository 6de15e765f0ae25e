//! The report of a case. Invariant: it follows from the evidence and the template alone: who has the records can make it again, byte for byte.

mod parts;

use serde::{Deserialize, Serialize};

use crate::catalogue::{Catalogue, Mapping};
use crate::evidence::{Evidence, Head};
use crate::gaps::{Gap, GapKind, gaps};
use crate::period::Period;
use crate::quality::Quality;

pub use parts::{Approval, Event, Identity, Numbers};

/// A report.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The version of this format.
    pub format: u64,
    /// `early-warning`, `notification` or `final`.
    pub stage: String,
    /// Of the stage.
    pub title: String,
    /// Of the stage.
    pub deadline: String,
    /// Of the stage.
    pub note: String,
    /// The case, as somebody has named it.
    pub case: Option<String>,
    /// What it is about.
    pub period: Period,
    /// The logs it is made of.
    pub ledgers: Vec<Head>,
    /// What there is.
    pub numbers: Numbers,
    /// How far it can be believed.
    pub quality: Quality,
    /// What people have to answer, and what is open in the records.
    pub questions: Vec<Question>,
    /// Whose identities were signed, refused or changed.
    pub identities: Vec<Identity>,
    /// What was decided by persons.
    pub approvals: Vec<Approval>,
    /// What happened, in its order; what was signed is one line for each identity.
    pub timeline: Vec<Event>,
    /// What the records do not show.
    pub gaps: Vec<Gap>,
    /// Clauses and their records.
    pub mappings: Vec<Mapping>,
}

/// A question that is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Who wants to know.
    pub clause: String,
    /// What.
    pub asks: String,
}

/// What a stage asks for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Template {
    title: String,
    deadline: String,
    note: String,
    #[serde(default)]
    catalogues: Vec<String>,
    #[serde(default, rename = "question")]
    questions: Vec<Question>,
}

impl Report {
    /// From the evidence, by the template of this stage; `None`: there is no such stage.
    #[must_use]
    pub fn build(evidence: &Evidence, stage: &str, case: Option<&str>) -> Option<Self> {
        let (_, text) = STAGES.iter().find(|(name, _)| *name == stage)?;
        let template: Template = toml::from_str(text).ok()?;
        let gaps = gaps(evidence);
        let mappings = template.catalogues.iter();
        let mappings = mappings.filter_map(|name| Some(Catalogue::built_in(name).ok()?.map(evidence)));
        let mappings = mappings.collect();
        let mut questions = template.questions;
        let asked = gaps.iter().filter(|gap| !QUIET.contains(&gap.kind));
        questions.extend(asked.map(|gap| Question {
            clause: gap.kind.to_string(),
            asks: gap.what.clone(),
        }));
        Some(Self {
            format: 1,
            stage: stage.to_owned(),
            title: template.title,
            deadline: template.deadline,
            note: template.note,
            case: case.map(str::to_owned),
            period: evidence.period.clone(),
            ledgers: evidence.ledgers.clone(),
            numbers: Numbers::of(evidence),
            quality: Quality::of(evidence, &gaps),
            questions,
            identities: parts::identities(evidence),
            approvals: parts::approvals(evidence),
            timeline: parts::timeline(evidence),
            gaps,
            mappings,
        })
    }
}

/// The templates, by stage.
pub(crate) const STAGES: &[(&str, &str)] = &[
    ("early-warning", include_str!("../data/stage-early-warning.toml")),
    ("notification", include_str!("../data/stage-notification.toml")),
    ("final", include_str!("../data/stage-final.toml")),
];

/// Gaps that are no question to anybody: they stand among the gaps.
const QUIET: [GapKind; 3] = [GapKind::UnconfirmedTime, GapKind::NoReason, GapKind::RuleUnknown];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_has_its_template_and_asks_something() {
        for (name, text) in STAGES {
            let template: Template = toml::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(!template.questions.is_empty(), "{name}");
            for catalogue in &template.catalogues {
                assert!(Catalogue::built_in(catalogue).is_ok(), "{name}: {catalogue}");
            }
            assert!(
                !text.to_lowercase().contains(crate::catalogue::FORBIDDEN),
                "{name}"
            );
        }
    }
}
