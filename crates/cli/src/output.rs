//! The one place that writes to the terminal, and how things look there.

use std::fmt::Display;
use std::io::{ErrorKind, IsTerminal as _, Write as _};

use comfy_table::{ColumnConstraint, Table, Width, presets};
use landfast_identity::UnixTime;
use landfast_lifecycle::{Clock as _, SystemClock};
use serde_json::Value;

use crate::failure::Failure;

/// How results are shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Table,
    /// For programs: one JSON value.
    Json,
}

/// Writes to standard output, with a line end.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    write(text)?;
    if !text.ends_with('\n') {
        write("\n")?;
    }
    Ok(())
}

/// Writes to standard output; `false` when nobody reads there any more: `landfast entry list | head -1`.
pub(crate) fn write(text: &str) -> Result<bool, Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::failed(
            format!("cannot write to standard output: {error}"),
            "is the disk full?",
        )),
        Ok(()) => Ok(true),
    }
}

pub(crate) fn print_json(value: &Value) -> Result<(), Failure> {
    print(&format!("{value:#}"))
}

/// A number alone, so that scripts need not parse.
pub(crate) fn print_count(count: i32, json: bool) -> Result<(), Failure> {
    match json {
        true => print_json(&serde_json::json!({ "count": count })),
        false => print(&count.to_string()),
    }
}

/// Writes to standard error.
pub(crate) fn complain(text: &str) {
    // Nowhere is left to report that standard error is closed.
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}

/// One line that the next one replaces, for whoever waits at a terminal; nothing when nobody does. Empty: it goes.
pub(crate) fn progress(text: &str) {
    let mut err = std::io::stderr().lock();
    if err.is_terminal() {
        drop(write!(err, "\r\u{1b}[K{text}").and_then(|()| err.flush()));
    }
}

/// A table with the given columns; rows of any length of cells.
pub(crate) fn table(columns: &'static [&'static str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut rows = rows.into_iter().peekable();
    match rows.peek() {
        Some(_) => Columns::new(columns).page(rows),
        None => "none".to_owned(),
    }
}

/// A table whose rows come in pages: a column is never narrower than it was.
pub(crate) struct Columns {
    /// Printed above the first page.
    header: Option<&'static [&'static str]>,
    widths: Vec<u16>,
}

impl Columns {
    pub(crate) fn new(header: &'static [&'static str]) -> Self {
        Self {
            header: Some(header),
            widths: Vec::new(),
        }
    }

    pub(crate) fn page(&mut self, rows: impl IntoIterator<Item = Vec<String>>) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        if let Some(header) = self.header.take() {
            table.set_header(header.iter().copied());
        }
        for row in rows {
            table.add_row(row.iter().map(|cell| clean(cell)));
        }
        let width = |width: &u16| ColumnConstraint::LowerBoundary(Width::Fixed(*width));
        table.set_constraints(self.widths.iter().map(width));
        let wanted = table.column_max_content_widths();
        let held = self.widths.iter().copied().chain(std::iter::repeat(0));
        self.widths = wanted
            .into_iter()
            .zip(held)
            // With the space on both sides.
            .map(|(wanted, held)| wanted.saturating_add(2).max(held))
            .collect();
        trimmed(&table)
    }
}

/// `name  value` lines.
pub(crate) fn facts(rows: &[(&str, String)]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for (name, value) in rows {
        table.add_row([(*name).to_owned(), clean(value)]);
    }
    trimmed(&table)
}

fn trimmed(table: &Table) -> String {
    let indent = |line: &str| line.strip_prefix(' ').unwrap_or(line).trim_end().to_owned();
    table
        .to_string()
        .lines()
        .map(indent)
        .collect::<Vec<_>>()
        .join("\n")
}

/// What comes from the wire may hold escape sequences meant for the terminal.
pub(crate) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| {
            if (c.is_control() && c != '\n') || misleads(c) {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// As [`clean`], on one line: a text from elsewhere must not look like a line of ours.
pub(crate) fn clean_line(text: &str) -> String {
    clean(&text.replace('\n', " "))
}

/// Invisible, or turns the direction of what follows.
fn misleads(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// RFC 3339 and the distance from now; `0` is shown as `none`.
pub(crate) fn when(at: i64, none: &str) -> String {
    if at == 0 {
        return none.to_owned();
    }
    match SystemClock.now() {
        Some(now) => format!("{} ({})", UnixTime::from_secs(at), distance(at, now.as_secs())),
        None => UnixTime::from_secs(at).to_string(),
    }
}

/// `in 42 min`, `3 h ago`, `now`.
pub(crate) fn distance(at: i64, now: i64) -> String {
    let words = |seconds: i64| match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    };
    let away = at.saturating_sub(now);
    if away == 0 {
        "now".to_owned()
    } else if away > 0 {
        format!("in {}", words(away))
    } else {
        format!("{} ago", words(away.saturating_neg()))
    }
}

/// Null for what is not there.
pub(crate) fn time_json(at: i64) -> Value {
    if at == 0 {
        Value::Null
    } else {
        Value::String(UnixTime::from_secs(at).to_string())
    }
}

/// One a line, or `none`.
pub(crate) fn lines<T: Display>(items: impl IntoIterator<Item = T>, none: &str) -> String {
    let lines: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if lines.is_empty() {
        none.to_owned()
    } else {
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_is_in_the_unit_a_person_would_use() {
        let shown = [
            (0, "now"),
            (1, "in 1 s"),
            (2520, "in 42 min"),
            (-119, "119 s ago"),
            (86_400, "in 24 h"),
            (-259_200, "3 d ago"),
        ];
        for (seconds, words) in shown {
            assert_eq!(distance(1000 + seconds, 1000), words);
        }
        assert_eq!(distance(i64::MIN, i64::MAX), "106751991167300 d ago");
    }

    #[test]
    fn escape_sequences_from_the_wire_do_not_reach_the_terminal() {
        assert_eq!(clean("a\u{1b}[31mb\nc"), "a\u{fffd}[31mb\nc");
        assert!(!table(&["X"], [vec!["\u{1b}]0;x\u{7}".to_owned()]]).contains('\u{1b}'));
    }

    #[test]
    fn the_pages_of_a_table_stand_under_one_header() {
        let rows = |cells: &[&str]| -> Vec<Vec<String>> {
            cells
                .iter()
                .map(|cell| vec![(*cell).to_owned(), "x".to_owned()])
                .collect()
        };
        let mut columns = Columns::new(&["NAME", "Y"]);
        assert_eq!(columns.page(rows(&["longest"])), "NAME     Y\nlongest  x");
        assert_eq!(columns.page(rows(&["s"])), "s        x");
        assert_eq!(columns.page(rows(&["longer still"])), "longer still  x");
        assert_eq!(columns.page(rows(&["s"])), "s             x");
    }

    #[test]
    fn an_empty_table_says_so() {
        assert_eq!(table(&["ID"], []), "none");
    }
}
