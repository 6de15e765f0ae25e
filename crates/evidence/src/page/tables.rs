//! Tables and texts of a page. Invariant: nothing gets into a page without [`escaped`].

/// As text of a page, and of an attribute.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c if misleads(c) => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// As text of a page, of which no reference or entry's ID is broken into two lines; longer words are, anywhere.
pub(super) fn flowed(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        let is_whole = word.contains('-') && word.len() <= LONGEST_WHOLE && !word.contains('/');
        match is_whole {
            true => format!("<span class=\"whole\">{}</span>", escaped(word)),
            false => escaped(word),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// What cannot be seen, or turns the direction of writing.
fn misleads(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// `2026-11-26 08:00:00`, as people read it.
pub(super) fn when(time: Option<&str>) -> String {
    match time {
        None => "no time".to_owned(),
        Some(time) => time.replacen('T', " ", 1).trim_end_matches('Z').to_owned(),
    }
}

/// A table that is made row by row.
pub(super) struct Table {
    columns: &'static [&'static str],
    classes: &'static [&'static str],
    rows: String,
    is_narrow: bool,
}

impl Table {
    pub(super) fn new(columns: &'static [&'static str], classes: &'static [&'static str]) -> Self {
        Self {
            columns,
            classes,
            rows: String::new(),
            is_narrow: false,
        }
    }

    /// No wider than what is in it.
    pub(super) fn narrow(self) -> Self {
        Self {
            is_narrow: true,
            ..self
        }
    }

    pub(super) fn row(&mut self, cells: &[String]) {
        self.row_of(cells, "");
    }

    pub(super) fn row_of(&mut self, cells: &[String], class: &str) {
        self.rows.push_str("<tr");
        attribute(&mut self.rows, class);
        for (cell, class) in cells.iter().zip(self.classes) {
            self.rows.push_str("<td");
            attribute(&mut self.rows, class);
            self.rows.push_str(&flowed(cell));
            self.rows.push_str("</td>");
        }
        self.rows.push_str("</tr>\n");
    }

    /// Into the page; a sentence instead of an empty one.
    pub(super) fn finish(self, page: &mut String, none: &str) {
        if self.rows.is_empty() {
            page.push_str(&format!("<p>{}</p>\n", escaped(none)));
            return;
        }
        page.push_str(if self.is_narrow {
            "<table class=\"narrow\">"
        } else {
            "<table>"
        });
        page.push_str("\n<thead><tr>");
        for (column, class) in self.columns.iter().zip(self.classes) {
            page.push_str("<th");
            attribute(page, class);
            page.push_str(&escaped(column));
            page.push_str("</th>");
        }
        page.push_str("</tr></thead>\n<tbody>\n");
        page.push_str(&self.rows);
        page.push_str("</tbody>\n</table>\n");
    }
}

fn attribute(into: &mut String, class: &str) {
    match class {
        "" => into.push('>'),
        class => into.push_str(&format!(" class=\"{class}\">")),
    }
}

/// An entry's ID and a sign behind it.
const LONGEST_WHOLE: usize = 38;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_stays_whole_and_is_text_all_the_same() {
        assert_eq!(
            flowed("person p-ab: <b>"),
            "person <span class=\"whole\">p-ab:</span> &lt;b&gt;"
        );
        let id = "spiffe://plant.test/line-4";
        assert_eq!(flowed(id), id);
        assert_eq!(
            flowed("a-<script>"),
            "<span class=\"whole\">a-&lt;script&gt;</span>"
        );
    }

    #[test]
    fn what_a_record_holds_is_text_on_a_page_and_nothing_else() {
        let hostile = "<script>\"'&\u{202e}\n";
        assert_eq!(escaped(hostile), "&lt;script&gt;&quot;&#39;&amp;\u{fffd}\u{fffd}");
        let (mut table, mut page) = (Table::new(&["a"], &[""]), String::new());
        table.row(&[hostile.to_owned()]);
        table.finish(&mut page, "none");
        assert!(!page.contains("<script"), "{page}");
    }

    #[test]
    fn an_empty_table_is_a_sentence() {
        let mut page = String::new();
        Table::new(&["a"], &[""]).finish(&mut page, "Nothing.");
        assert_eq!(page, "<p>Nothing.</p>\n");
        assert_eq!(when(Some("2026-11-26T08:00:00Z")), "2026-11-26 08:00:00");
    }
}
