//! Reports as pages. Invariant: every text from a record is escaped; a page has no script, and asks nothing of anybody.

mod style;
mod tables;

use std::fmt::Write as _;

use crate::catalogue::Mapping;
use crate::quality::Quality;
use crate::report::Report;
use crate::tally::{counted, numbers};
use tables::{Table, escaped, flowed, when};

/// The report of a case.
pub(crate) fn report_page(report: &Report) -> String {
    let title = match &report.case {
        Some(case) => format!("{}: {case}", report.title),
        None => report.title.clone(),
    };
    let mut page = begin(&title, &format!("Due {}. {}", report.deadline, report.note));
    facts(&mut page, report);
    quality(&mut page, &report.quality);
    questions(&mut page, report);
    happened(&mut page, report);
    affected(&mut page, report);
    approvals(&mut page, report);
    gaps(&mut page, report);
    for mapping in &report.mappings {
        clauses(&mut page, mapping, "h2");
    }
    sources(&mut page, report);
    end(&mut page);
    page
}

/// A catalogue against records, with how far they can be believed.
#[must_use]
pub fn catalogue_page(mapping: &Mapping, about: &str, of: &Quality) -> String {
    let mut page = begin(&mapping.title, about);
    quality(&mut page, of);
    clauses(&mut page, mapping, "h2");
    end(&mut page);
    page
}

fn begin(title: &str, note: &str) -> String {
    let (title, note) = (escaped(title), escaped(note));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <style>\n{}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n<p class=\"note\">{note}</p>\n</header>\n",
        style::STYLE
    )
}

fn end(page: &mut String) {
    page.push_str(
        "<footer>Numbers in the columns <em>record</em> are those of the log. What is written here follows from these records \
         and from nothing else; what it means under the law is for people to say.</footer>\n</body>\n</html>\n",
    );
}

fn facts(page: &mut String, report: &Report) {
    let numbers = &report.numbers;
    let times = match (&numbers.first, &numbers.last) {
        (Some(first), Some(last)) => format!("{} to {}", when(Some(first)), when(Some(last))),
        _ => "no record has a time".to_owned(),
    };
    let rows = [
        ("period asked for", report.period.to_string()),
        ("records in it", times),
        (
            "there are",
            format!(
                "{} from {}",
                counted(numbers.records, "record"),
                counted(report.ledgers.len() as u64, "log")
            ),
        ),
        (
            "signed",
            counted(numbers.signed, "certificate or token")
                .replace("certificate or tokens", "certificates and tokens"),
        ),
        ("refused", counted(numbers.refused, "request")),
        ("changed by operators", counted(numbers.changes, "change")),
        (
            "concerned",
            format!(
                "{}, {}, {}",
                counted(numbers.identities, "identity"),
                counted(numbers.nodes, "node"),
                counted(numbers.persons, "person")
            ),
        ),
    ];
    page.push_str("<section>\n<table class=\"facts\">\n");
    for (name, value) in rows {
        let _infallible = writeln!(page, "<tr><th>{name}</th><td>{}</td></tr>", escaped(&value));
    }
    page.push_str("</table>\n</section>\n");
}

fn quality(page: &mut String, quality: &Quality) {
    let class = match quality.score {
        80.. => "good",
        50..80 => "fair",
        _ => "poor",
    };
    let times = quality.times.iter().map(|(kind, count)| {
        format!(
            "{count} {}",
            if kind.is_empty() {
                "without a word on it"
            } else {
                kind
            }
        )
    });
    let times = times.collect::<Vec<_>>().join(", ");
    let missing = match quality.missing {
        0 => "none is missing".to_owned(),
        missing => format!("{missing} of them missing"),
    };
    let _infallible = write!(
        page,
        "<section>\n<h2>How far the records can be believed</h2>\n<p class=\"score {class}\"><strong>{}</strong> of 100</p>\n\
         <p>{} of the period, {missing}. Times: {}.</p>\n",
        quality.score,
        escaped(&counted(quality.expected, "record")),
        escaped(if times.is_empty() { "none" } else { &times })
    );
    let mut table = Table::new(&["taken", "for", "how many"], &["number", "", ""]).narrow();
    for taken in &quality.deductions {
        table.row(&[
            format!("\u{2212} {}", taken.points),
            taken.kind.as_str().replace('-', " "),
            taken.what.clone(),
        ]);
    }
    table.finish(page, "Nothing was taken from a hundred.");
    page.push_str("</section>\n");
}

fn questions(page: &mut String, report: &Report) {
    page.push_str("<section>\n<h2>Open questions</h2>\n<p class=\"note\">The records cannot answer these. Write beside them.</p>\n<ol class=\"questions\">\n");
    for question in &report.questions {
        let clause = escaped(&question.clause.replace('-', "\u{2011}"));
        let _infallible = writeln!(
            page,
            "<li><span class=\"clause\">{clause}</span> {}<div class=\"answer\"></div></li>",
            escaped(&question.asks)
        );
    }
    page.push_str("</ol>\n</section>\n");
}

fn happened(page: &mut String, report: &Report) {
    page.push_str("<section>\n<h2>What happened</h2>\n");
    let mut table = Table::new(
        &["time (UTC)", "what", "by", "record"],
        &["time", "", "by", "number"],
    );
    for event in report.timeline.iter().take(MOST_ROWS) {
        let time = match event.time_quality.as_str() {
            "unconfirmed" | "confirmed" => when(event.time.as_deref()),
            quality => format!("{} ({quality})", when(event.time.as_deref())),
        };
        let ends = match event.records.as_slice() {
            [one] => one.to_string(),
            several => format!(
                "{} \u{2026} {}",
                numbers(&several[..1]),
                numbers(&several[several.len() - 1..])
            ),
        };
        table.row(&[time, event.what.clone(), event.by.clone(), ends]);
    }
    table.finish(page, "Nothing, by the records.");
    more(page, report.timeline.len());
    page.push_str("</section>\n");
}

fn affected(page: &mut String, report: &Report) {
    page.push_str("<section>\n<h2>Identities concerned</h2>\n");
    for identity in report.identities.iter().take(MOST_ROWS) {
        let _infallible = write!(page, "<article>\n<h3>{}</h3>\n<p>", escaped(&identity.id));
        let mut parts = vec![format!(
            "{} signed, {} refused",
            identity.signed, identity.refused
        )];
        if let Some(until) = &identity.valid_until {
            parts.push(format!("the last is valid until {}", when(Some(until))));
        }
        parts.push(match identity.first == identity.last {
            true => format!("record {}", identity.first),
            false => format!("records {} \u{2026} {}", identity.first, identity.last),
        });
        page.push_str(&escaped(&parts.join("; ")));
        page.push_str("</p>\n<ul>\n");
        for entitled in &identity.entitled {
            let party = match (&entitled.sponsor, &entitled.contract) {
                (None, None) => String::new(),
                (sponsor, contract) => format!(
                    "; sponsor {}, contract {}",
                    sponsor.as_deref().unwrap_or("none"),
                    contract.as_deref().unwrap_or("none")
                ),
            };
            let until = entitled
                .until
                .as_deref()
                .map(|until| format!("; until {}", when(Some(until))))
                .unwrap_or_default();
            let text = format!("class {}{party}: {}{until}", entitled.class, entitled.rule);
            let _infallible = writeln!(page, "<li>{}</li>", flowed(&text));
        }
        if identity.without_entry > 0 {
            let _infallible = writeln!(
                page,
                "<li>{} signed without an entry: for a node or a server as what it is, or by an operator's order</li>",
                identity.without_entry
            );
        }
        if identity.entitled.is_empty() && identity.without_entry < identity.signed.max(1) {
            page.push_str("<li>no record tells of a rule that gives it</li>\n");
        }
        if !identity.asked_by.is_empty() {
            let askers = identity.asked_by.iter().cloned().collect::<Vec<_>>().join(", ");
            let others = match identity.asked_by_others {
                0 => String::new(),
                others => format!(", and by others in {}", counted(others, "more record")),
            };
            let _infallible = writeln!(page, "<li>asked for by {}{others}</li>", escaped(&askers));
        }
        if !identity.serials.is_empty() {
            let cut = match identity.serials_left_out {
                0 => String::new(),
                more => format!(" (the last; {more} before them are in records.jsonl)"),
            };
            let _infallible = writeln!(
                page,
                "<li>serial numbers{cut}: <span class=\"mono\">{}</span></li>",
                escaped(&identity.serials.join(" "))
            );
        }
        page.push_str("</ul>\n</article>\n");
    }
    if report.identities.is_empty() {
        page.push_str("<p>None, by the records.</p>\n");
    }
    more(page, report.identities.len());
    page.push_str("</section>\n");
}

fn approvals(page: &mut String, report: &Report) {
    page.push_str("<section>\n<h2>Decisions of persons</h2>\n");
    let mut table = Table::new(
        &["time (UTC)", "what", "by", "agreed", "record"],
        &["time", "", "by", "tight", "number"],
    );
    for approval in report.approvals.iter().take(MOST_ROWS) {
        let agreed = match (approval.alone, approval.agreed.as_slice()) {
            (true, _) => "fewer than two".to_owned(),
            (false, agreed) => agreed.join(", "),
        };
        let what = match &approval.approval {
            Some(name) => format!("{} (approval {name})", approval.what),
            None => approval.what.clone(),
        };
        let row = [
            when(approval.time.as_deref()),
            what,
            approval.by.clone(),
            agreed,
            approval.record.to_string(),
        ];
        table.row(&row);
    }
    table.finish(page, "No person has decided anything, by the records.");
    more(page, report.approvals.len());
    page.push_str("</section>\n");
}

fn gaps(page: &mut String, report: &Report) {
    page.push_str("<section>\n<h2>What the records do not show</h2>\n");
    let mut table = Table::new(&["kind", "what", "what to do next"], &["kind", "", ""]);
    for gap in &report.gaps {
        let kind = gap.kind.as_str().replace('-', " ");
        table.row(&[kind, gap.what.clone(), gap.next.to_owned()]);
    }
    table.finish(page, "No gap was found.");
    page.push_str("</section>\n");
}

fn clauses(page: &mut String, mapping: &Mapping, heading: &str) {
    let _infallible = write!(
        page,
        "<section>\n<{heading}>{}</{heading}>\n<p class=\"note\">{} {} of {} clauses have records.</p>\n",
        escaped(&mapping.title),
        escaped(&mapping.note),
        mapping.evidenced,
        mapping.clauses.len()
    );
    let mut table = Table::new(
        &["clause", "asks for", "shown by", "status"],
        &["kind", "", "", "status"],
    );
    for clause in &mapping.clauses {
        let shows = match (clause.shows.as_str(), clause.aid.as_str()) {
            ("", "") => "nothing that is recorded here".to_owned(),
            ("", aid) => format!("nothing that is recorded here; {aid}"),
            (shows, _) => shows.to_owned(),
        };
        let status = match clause.count {
            0 => clause.status.clone(),
            _ => format!("{} ({})", clause.status, clause.between()),
        };
        table.row_of(
            &[clause.id.clone(), clause.asks.clone(), shows, status],
            if clause.count > 0 { "has" } else { "lacks" },
        );
    }
    table.finish(page, "It has no clauses.");
    page.push_str("</section>\n");
}

fn sources(page: &mut String, report: &Report) {
    page.push_str("<section>\n<h2>Where it is from</h2>\n");
    let mut table = Table::new(
        &["log", "name", "key", "records", "of", "root"],
        &["tight", "mono", "mono tight", "number", "number", "mono"],
    );
    for (index, head) in report.ledgers.iter().enumerate() {
        let range = match head.end - head.first {
            0 => "none".to_owned(),
            _ if head.end == head.size => format!("{} \u{2026} {}, where it ends", head.first, head.end - 1),
            _ => format!("{} \u{2026} {}", head.first, head.end - 1),
        };
        table.row(&[
            (index + 1).to_string(),
            head.origin.clone(),
            head.key_id.clone(),
            range,
            head.size.to_string(),
            head.root.clone(),
        ]);
    }
    table.finish(page, "Nowhere.");
    page.push_str("<p class=\"note\">To verify: <code>landfast evidence verify PACK --key KEY</code>, with the key that you were given by another way.</p>\n</section>\n");
}

fn more(page: &mut String, all: usize) {
    if all > MOST_ROWS {
        let _infallible = writeln!(
            page,
            "<p class=\"note\">And {} more: report.json has all of them.</p>",
            all - MOST_ROWS
        );
    }
}

/// Lines of a table that anybody reads.
const MOST_ROWS: usize = 500;
