//! Our file being written. Invariant: a text of SPIRE's file cannot end a comment or a string.

use crate::output;

#[derive(Default)]
pub(super) struct Document {
    lines: Vec<Line>,
    tables: Vec<Table>,
}

/// One of several with the same name.
struct Table {
    name: &'static str,
    lines: Vec<(&'static str, String)>,
}

struct Line {
    table: &'static str,
    key: &'static str,
    value: String,
    comments: Vec<String>,
}

impl Document {
    /// In `table`, which is empty for the top level. `value` is TOML.
    pub(super) fn set(&mut self, table: &'static str, key: &'static str, value: String, comment: String) {
        let comments = if comment.is_empty() {
            Vec::new()
        } else {
            vec![comment]
        };
        self.lines.push(Line {
            table,
            key,
            value,
            comments,
        });
    }

    /// A table that may stand several times, one for each call. Values are TOML.
    pub(super) fn table(&mut self, name: &'static str, lines: Vec<(&'static str, String)>) {
        self.tables.push(Table { name, lines });
    }

    pub(super) fn has(&self, table: &str, key: &str) -> bool {
        self.lines
            .iter()
            .any(|line| line.table == table && line.key == key)
    }

    pub(super) fn render(&self, from: &str, name: &str) -> String {
        let mut text = comment(&format!(
            "Made by `landfast migrate spire` from {from}. examples/{name} shows every key."
        ));
        let mut tables: Vec<&str> = vec![""];
        for line in &self.lines {
            if !tables.contains(&line.table) {
                tables.push(line.table);
            }
        }
        for table in tables {
            text.push('\n');
            if !table.is_empty() {
                text.push_str(&format!("[{table}]\n"));
            }
            for line in self.lines.iter().filter(|line| line.table == table) {
                line.comments
                    .iter()
                    .for_each(|said| text.push_str(&comment(said)));
                text.push_str(&format!("{} = {}\n", line.key, line.value));
            }
        }
        for table in &self.tables {
            text.push_str(&format!("\n[[{}]]\n", table.name));
            for (key, value) in &table.lines {
                text.push_str(&format!("{key} = {value}\n"));
            }
        }
        text
    }
}

fn comment(text: &str) -> String {
    format!("# {}\n", output::clean_line(text))
}

/// A string of TOML. Its escapes are JSON's, and the delete character's.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text)
        .to_string()
        .replace('\u{7f}', "\\u007f")
}

pub(super) fn list(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", quoted.join(", "))
}
