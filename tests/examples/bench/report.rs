//! What was measured, in order: shown at once, and kept as text, JSON and charts.

use std::path::{Path, PathBuf};

use crate::BoxError;
use crate::chart::{self, Series};

pub(crate) struct Report {
    out: PathBuf,
    rows: Vec<Row>,
    section: String,
    text: String,
}

struct Row {
    section: String,
    what: String,
    unit: String,
    value: f64,
}

impl Report {
    pub(crate) fn new(out: &Path) -> Self {
        Self {
            out: out.to_owned(),
            rows: Vec::new(),
            section: String::new(),
            text: String::new(),
        }
    }

    pub(crate) fn section(&mut self, name: &str) {
        name.clone_into(&mut self.section);
        self.line(&format!("\n== {name}"));
    }

    pub(crate) fn add(&mut self, what: &str, unit: &str, value: f64) {
        self.line(&format!("{what:<72} {value:>10.2} {unit}"));
        self.rows.push(Row {
            section: self.section.clone(),
            what: what.to_owned(),
            unit: unit.to_owned(),
            value,
        });
    }

    pub(crate) fn note(&mut self, text: &str) {
        self.line(&format!("   {text}"));
    }

    /// Draws one figure at its sizes, into `NAME.svg`.
    pub(crate) fn chart(
        &self,
        name: &str,
        title: &str,
        sizes: &str,
        unit: &str,
        series: &[Series],
    ) -> Result<(), BoxError> {
        let file = self.out.join(format!("{name}.svg"));
        std::fs::write(&file, chart::svg(title, sizes, unit, series))?;
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<(), BoxError> {
        std::fs::write(self.out.join("report.txt"), &self.text)?;
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|row| serde_json::json!({"section": row.section, "what": row.what, "unit": row.unit, "value": row.value}))
            .collect();
        std::fs::write(self.out.join("report.json"), serde_json::to_string_pretty(&rows)?)?;
        Ok(())
    }

    fn line(&mut self, text: &str) {
        println!("{text}");
        self.text.push_str(text);
        self.text.push('\n');
    }
}
