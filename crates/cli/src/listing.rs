//! Lists that come in pages and are printed page by page: however long one is, a page of it is in memory.
//!
//! Invariant: for programs it is one JSON array, and the same text as if it had been printed at once.

use serde_json::Value;

use crate::failure::Failure;
use crate::output::{self, Columns};

/// A list that is being printed.
pub(crate) struct Listing {
    form: Form,
    empty: bool,
    /// The reader has seen enough.
    closed: bool,
}

enum Form {
    Json,
    Table(Columns),
}

impl Listing {
    pub(crate) fn new(columns: &'static [&'static str], json: bool) -> Self {
        let form = match json {
            true => Form::Json,
            false => Form::Table(Columns::new(columns)),
        };
        Self {
            form,
            empty: true,
            closed: false,
        }
    }

    /// Prints a page; `false` when nobody reads any more.
    pub(crate) fn page<T>(
        &mut self,
        items: &[T],
        to_json: impl Fn(&T) -> Value,
        to_row: impl Fn(&T) -> Vec<String>,
    ) -> Result<bool, Failure> {
        if items.is_empty() || self.closed {
            return Ok(!self.closed);
        }
        let text = self.text(items, to_json, to_row);
        self.closed = !output::write(&text)?;
        Ok(!self.closed)
    }

    fn text<T>(
        &mut self,
        items: &[T],
        to_json: impl Fn(&T) -> Value,
        to_row: impl Fn(&T) -> Vec<String>,
    ) -> String {
        let first = std::mem::take(&mut self.empty);
        match &mut self.form {
            Form::Table(columns) => columns.page(items.iter().map(to_row)) + "\n",
            Form::Json => {
                let mut text = String::new();
                for item in items {
                    text.push_str(if first && text.is_empty() { "[\n" } else { ",\n" });
                    // A line end inside a string is escaped: each line is one of the form.
                    for (n, line) in format!("{:#}", to_json(item)).lines().enumerate() {
                        text.push_str(if n == 0 { "  " } else { "\n  " });
                        text.push_str(line);
                    }
                }
                text
            }
        }
    }

    /// After the last page.
    pub(crate) fn end(self) -> Result<(), Failure> {
        match self.closed {
            true => Ok(()),
            false => output::write(self.end_text()).map(|_more| ()),
        }
    }

    fn end_text(&self) -> &'static str {
        match (&self.form, self.empty) {
            (Form::Json, true) => "[]\n",
            (Form::Json, false) => "\n]\n",
            (Form::Table(_), true) => "none\n",
            (Form::Table(_), false) => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pages_are_one_array_to_the_letter() {
        let items: Vec<Value> = (0..7)
            .map(|n| json!({"id": n, "text": "a\nb\"]", "list": [1, {"x": []}], "none": {}}))
            .collect();
        for (size, items) in [
            (1, &items[..]),
            (3, &items),
            (7, &items),
            (1, &items[..1]),
            (1, &[]),
        ] {
            let mut listing = Listing::new(&["ID"], true);
            let mut text = String::new();
            for page in items.chunks(size) {
                text += &listing.text(page, Clone::clone, |_| Vec::new());
            }
            text += listing.end_text();
            let whole = Value::Array(items.to_vec());
            assert_eq!(text, format!("{whole:#}\n"), "{} by {size}", items.len());
        }
    }

    #[test]
    fn pages_are_one_table() {
        let mut listing = Listing::new(&["ID"], false);
        assert_eq!(listing.end_text(), "none\n");
        let row = |n: &&str| vec![(*n).to_owned()];
        let text = listing.text(&["a"], |_| Value::Null, row) + &listing.text(&["b"], |_| Value::Null, row);
        assert_eq!(text + listing.end_text(), "ID\na\nb\n");
    }
}
