//! What a person and a program read. Invariant: the counts of a suite add up to its cases.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::BoxError;
use crate::allow::Verdict;
use crate::case::Case;

type Judged<'a> = [(&'a Case, Verdict)];

/// Prints a table of counts, then what fails.
pub(crate) fn text(judged: &Judged<'_>, complaints: &[String]) {
    println!(
        "{:<12}{:>7}{}",
        "suite",
        "cases",
        COLUMNS.map(|c| format!("{c:>11}")).concat()
    );
    for (suite, counts) in counts(judged) {
        let cells = counts.map(|n| format!("{n:>11}")).concat();
        println!("{suite:<12}{:>7}{cells}", counts.iter().sum::<usize>());
    }
    for (case, _) in judged.iter().filter(|(_, verdict)| verdict.fails()) {
        let (suite, id, expected, answer) = (case.suite, &case.id, case.expected, case.answer.text());
        println!("failing: {suite} {id}: the suite says {expected:?}, we say {answer}");
    }
    for complaint in complaints {
        println!("failing: {complaint}");
    }
}

/// Prints the counts, every case, and what fails as one JSON object.
pub(crate) fn json(judged: &Judged<'_>, complaints: &[String]) -> Result<(), BoxError> {
    let suites: BTreeMap<&str, BTreeMap<&str, usize>> = counts(judged)
        .into_iter()
        .map(|(suite, counts)| (suite, COLUMNS.into_iter().zip(counts).collect()))
        .collect();
    let case = |(case, verdict): &(&Case, Verdict)| -> Value {
        let mut out = json!({
            "suite": case.suite,
            "id": case.id,
            "expected": format!("{:?}", case.expected).to_lowercase(),
            "answer": case.answer.text(),
            "verdict": COLUMNS[column(verdict)],
        });
        if let Verdict::Explained(reason) = verdict {
            out["reason"] = reason.as_str().into();
        }
        out
    };
    let cases: Vec<Value> = judged.iter().map(case).collect();
    let document = json!({ "suites": suites, "allow_list": complaints, "cases": cases });
    println!("{}", serde_json::to_string_pretty(&document)?);
    Ok(())
}

fn counts<'a>(judged: &Judged<'a>) -> BTreeMap<&'a str, [usize; COLUMNS.len()]> {
    let mut out = BTreeMap::new();
    for (case, verdict) in judged {
        out.entry(case.suite).or_insert([0; COLUMNS.len()])[column(verdict)] += 1;
    }
    out
}

fn column(verdict: &Verdict) -> usize {
    match verdict {
        Verdict::Accepted => 0,
        Verdict::Refused => 1,
        Verdict::Either => 2,
        Verdict::Name => 3,
        Verdict::Explained(_) => 4,
        Verdict::Failing => 5,
    }
}

const COLUMNS: [&str; 6] = ["accepted", "refused", "either", "name", "explained", "failing"];
