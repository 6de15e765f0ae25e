//! A report as the tables of `docs/benchmarks.md`: a table a section, a row a figure, a column a load.
//!
//! Invariant: a value stands in the column of the load it was measured under.

use super::{Figure, number};

/// All sections, in their order.
pub(super) fn tables(figures: &[Figure]) -> String {
    let mut sections: Vec<&str> = Vec::new();
    for figure in figures {
        if !sections.contains(&figure.section) {
            sections.push(figure.section);
        }
    }
    sections
        .into_iter()
        .map(|section| table(section, figures))
        .collect()
}

fn table(section: &str, figures: &[Figure]) -> String {
    let figures: Vec<&Figure> = figures
        .iter()
        .filter(|figure| figure.section == section)
        .collect();
    let (mut loads, mut rows): (Vec<&str>, Vec<(&str, &str)>) = (Vec::new(), Vec::new());
    for figure in &figures {
        if !loads.contains(&figure.load.as_str()) {
            loads.push(&figure.load);
        }
        let row = (name(&figure.what), figure.unit);
        // What the worst of many was is in the other forms of a report.
        let tail = row.0.strip_suffix(": worst").map(|what| format!("{what}: p99"));
        let told = tail.is_some_and(|p99| figures.iter().any(|other| name(&other.what) == p99));
        if !told && !rows.contains(&row) {
            rows.push(row);
        }
    }
    let letters = || ('A'..='Z').map(String::from);
    let mut out = format!("\n### {section}\n\n");
    for (letter, load) in letters().zip(&loads) {
        out += &format!("* {letter}: {load}\n");
    }
    let heads: Vec<String> = letters().take(loads.len()).collect();
    out += &format!(
        "\n| | {} | aim |\n|---|{}---|\n",
        heads.join(" | "),
        "---|".repeat(heads.len())
    );
    for (what, unit) in rows {
        let of = |load: &&str| {
            figures
                .iter()
                .find(|f| f.load == **load && name(&f.what) == what && f.unit == unit)
        };
        let cells: Vec<String> = loads
            .iter()
            .map(|load| of(load).map_or_else(String::new, |f| cell(f)))
            .collect();
        let mut aims: Vec<String> = loads
            .iter()
            .filter_map(of)
            .filter_map(|f| f.aim)
            .map(number)
            .collect();
        aims.dedup();
        let aims = if aims.is_empty() {
            String::new()
        } else {
            format!("≤ {}", aims.join(", "))
        };
        let unit = if unit.is_empty() {
            String::new()
        } else {
            format!(", {unit}")
        };
        out += &format!("| {what}{unit} | {} | {aims} |\n", cells.join(" | "));
    }
    out
}

/// What has an aim and meets it is bold.
fn cell(figure: &Figure) -> String {
    let value = number(figure.value);
    match figure.aim {
        Some(aim) if figure.value <= aim => format!("**{value}**"),
        Some(_) => format!("{value} (missed)"),
        None => value,
    }
}

/// Without how many were measured, which differs from load to load.
fn name(what: &str) -> &str {
    match what.rsplit_once(" of ") {
        Some((name, count)) if count.bytes().all(|c| c.is_ascii_digit()) => name,
        _ => what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(what: &str, load: &str, value: f64, aim: Option<f64>) -> Figure {
        Figure {
            section: "storm",
            what: what.to_owned(),
            load: load.to_owned(),
            unit: "ms",
            value,
            aim,
        }
    }

    #[test]
    fn each_load_is_a_column_and_what_is_missing_stays_empty() {
        let figures = [
            figure("served: p99 of 5", "few", 3.0, Some(5.0)),
            figure("served: worst of 5", "few", 4.0, None),
            figure("served: p99 of 5000", "many", 7.0, Some(5.0)),
            figure("the last: worst of 2", "many", 9.0, None),
        ];
        let text = tables(&figures);
        assert!(
            text.contains("### storm\n\n* A: few\n* B: many\n\n| | A | B | aim |\n|---|---|---|---|\n"),
            "{text}"
        );
        assert!(
            text.contains("| served: p99, ms | **3** | 7 (missed) | ≤ 5 |\n"),
            "{text}"
        );
        assert!(text.contains("| the last: worst, ms |  | 9 |  |\n"), "{text}");
        assert!(!text.contains("served: worst"), "{text}");
    }
}
