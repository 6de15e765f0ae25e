//! Evidence as tables. Invariant: every line ends with the records it follows from, or the interval.

use landfast_evidence::{
    By, Credential, Entitlement, Gap, Line, Mapping, PackReport, Quality, Ref, Report, Who,
};

use crate::output;

pub(super) fn who(answer: &Who) -> String {
    let mut text = output::facts(&[
        ("target", answer.target.clone()),
        ("at", answer.at.clone()),
        ("answer", answer.answer.clone()),
        ("looked at", looked_at(answer.looked_at, answer.missing)),
    ]);
    went_back(&mut text, &answer.clock_went_back);
    section(&mut text, "entitled", &entitled(&answer.entitled));
    section(
        &mut text,
        "signed and valid then",
        &credentials(&answer.credentials),
    );
    if !answer.handed_out.is_empty() {
        section(&mut text, "handed out", &lines(&answer.handed_out));
    }
    if !answer.decided.is_empty() {
        section(&mut text, "decided until then", &lines(&answer.decided));
    }
    text
}

pub(super) fn by(answer: &By) -> String {
    let mut text = output::facts(&[
        ("identity", answer.identity.clone()),
        ("answer", answer.answer.clone()),
        ("looked at", looked_at(answer.looked_at, answer.missing)),
    ]);
    went_back(&mut text, &answer.clock_went_back);
    section(&mut text, "entitled", &entitled(&answer.entitled));
    section(&mut text, "signed", &credentials(&answer.credentials));
    section(&mut text, "what else happened", &lines(&answer.lines));
    text
}

fn looked_at(records: u64, missing: u64) -> String {
    match missing {
        0 => format!("{records} records"),
        missing => {
            format!("{records} records; {missing} are MISSING, so there may be more: landfast evidence gaps")
        }
    }
}

/// Times around these are not sure.
fn went_back(text: &mut String, records: &[Ref]) {
    if let Some(first) = records.first() {
        text.push_str(&format!(
            "\n\nthe clock of the server had gone back, first before record {first}, {} in all: what was first is told by the numbers, times around are not sure (landfast evidence gaps)",
            records.len()
        ));
    }
}

fn section(text: &mut String, name: &str, table: &str) {
    text.push_str(&format!("\n\n{name}:\n{table}"));
}

fn entitled(all: &[Entitlement]) -> String {
    let rows = all.iter().map(|one| {
        let class = match (&one.sponsor, &one.contract) {
            (None, None) => one.class.clone(),
            (sponsor, contract) => format!(
                "{}, sponsor {}, contract {}",
                one.class,
                sponsor.as_deref().unwrap_or("none"),
                contract.as_deref().unwrap_or("none")
            ),
        };
        vec![
            one.identity.clone(),
            class,
            one.from.clone().unwrap_or_default(),
            match (&one.until, one.stands) {
                (Some(until), _) => until.clone(),
                (None, true) => "stands".to_owned(),
                (None, false) => "over, at an unknown time".to_owned(),
            },
            one.rule.clone(),
        ]
    });
    output::table(&["IDENTITY", "CLASS", "FROM", "UNTIL", "RULE"], rows)
}

fn credentials(all: &[Credential]) -> String {
    let rows = all.iter().map(|one| {
        vec![
            one.record.to_string(),
            one.identity.clone(),
            one.kind.clone(),
            one.serial.clone(),
            one.not_before.clone(),
            one.not_after.clone(),
            one.asked_by.clone(),
            one.under.clone(),
        ]
    });
    let columns = &[
        "RECORD",
        "IDENTITY",
        "KIND",
        "SERIAL",
        "FROM",
        "UNTIL",
        "ASKED BY",
        "BY WHOSE LEAVE",
    ];
    output::table(columns, rows)
}

fn lines(all: &[Line]) -> String {
    let rows = all.iter().map(|one| {
        vec![
            one.record.to_string(),
            one.time.clone().unwrap_or_else(|| "no time".to_owned()),
            one.what.clone(),
            one.by.clone(),
        ]
    });
    output::table(&["RECORD", "TIME", "WHAT", "BY"], rows)
}

pub(super) fn gaps(found: &[Gap], quality: &Quality) -> String {
    let rows = found.iter().map(|gap| {
        let interval = match (&gap.from, &gap.to) {
            (None, None) => "unknown".to_owned(),
            (from, to) => format!(
                "{} to {}",
                from.as_deref().unwrap_or("the beginning"),
                to.as_deref().unwrap_or("the end")
            ),
        };
        vec![
            gap.kind.to_string(),
            gap.what.clone(),
            interval,
            gap.next.to_owned(),
        ]
    });
    let table = output::table(&["KIND", "WHAT", "WHEN", "NEXT"], rows);
    format!(
        "score of 100: {}\nmissing: {} of {} records\n\n{table}",
        quality.sum(),
        quality.missing,
        quality.expected
    )
}

pub(super) fn mapping(mapping: &Mapping, quality: &Quality) -> String {
    let rows = mapping.clauses.iter().map(|clause| {
        vec![
            clause.id.clone(),
            clause.asks.clone(),
            clause.status.clone(),
            clause.between(),
            match clause.shows.is_empty() {
                true => clause.aid.clone(),
                false => clause.shows.clone(),
            },
        ]
    });
    let table = output::table(
        &["CLAUSE", "ASKS FOR", "STATUS", "FIRST AND LAST", "SHOWN BY"],
        rows,
    );
    format!(
        "{}\n{}\n{} of {} have records; score of 100: {}\n\n{table}",
        mapping.title,
        mapping.note,
        mapping.evidenced,
        mapping.clauses.len(),
        quality.sum()
    )
}

pub(super) fn packed(file: &str, bytes: usize, report: &Report) -> String {
    output::facts(&[
        ("pack", format!("{file}, {bytes} bytes")),
        ("report", format!("{}, {}", report.title, report.deadline)),
        ("period", report.period.to_string()),
        ("records", report.numbers.records.to_string()),
        ("missing", report.quality.missing.to_string()),
        ("score of 100", report.quality.sum()),
        (
            "open questions",
            format!(
                "{}: in report.html, to be answered by people",
                report.questions.len()
            ),
        ),
        ("next", format!("landfast evidence verify {file} --key KEY")),
    ])
}

pub(super) fn verified(report: &PackReport) -> String {
    let key = match report.authoritative {
        true => "the one that was given: what it says counts",
        false => "the one in the pack, which vouches for itself: give the one that you kept with --key",
    };
    let mut facts = vec![
        ("stage", report.stage.clone()),
        ("case", report.case.clone().unwrap_or_else(|| "none".to_owned())),
        ("period", report.period.clone()),
        ("logs", output::lines(&report.logs, "none")),
        ("key", key.to_owned()),
        ("proven", format!("{} records", report.proven)),
        ("missing", format!("{} records of the period", report.missing)),
    ];
    if let Some(score) = report.score {
        facts.push(("score", format!("{score} of 100")));
    }
    match report.continues {
        0 => {}
        1 => facts.push((
            "kept",
            "the checkpoint that was given does not speak against it".to_owned(),
        )),
        several => facts.push((
            "kept",
            format!("{several} checkpoints that were given do not speak against it"),
        )),
    }
    let mut facts = output::facts(&facts);
    for note in &report.notes {
        facts.push_str(&format!("\nnote: {}", output::clean_line(note)));
    }
    let all_of_it = match report.to_the_end {
        true => "none of the period is missing",
        false => "none of the period is missing up to where the log ends",
    };
    match report.is_good() {
        true => format!(
            "{facts}\n\ngood: every record is as it was signed, {all_of_it}, and the report follows from them"
        ),
        false => {
            let rows = report.findings.iter().map(|finding| {
                let record = finding
                    .record
                    .map_or_else(|| "-".to_owned(), |record| record.to_string());
                vec![finding.file.clone(), record, finding.what.clone()]
            });
            format!(
                "{facts}\n\nNOT good:\n{}",
                output::table(&["FILE", "RECORD", "WHAT"], rows)
            )
        }
    }
}
