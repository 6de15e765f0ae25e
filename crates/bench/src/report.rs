//! What was measured, in order: shown as it comes, and kept as text, JSON and charts.
//!
//! Invariant: no figure without the load it was measured under.

mod markdown;

use std::path::Path;

use comfy_table::{Table, presets};
use serde_json::{Value, json};

use crate::BoxError;
use crate::chart::{Chart, Series};
use crate::host;
use crate::samples::Samples;

/// A report in the making.
#[derive(Debug)]
pub(crate) struct Report {
    /// Standard output gets JSON, and the table goes to standard error as it grows.
    json: bool,
    machine: String,
    notes: Vec<String>,
    figures: Vec<Figure>,
    charts: Vec<Chart>,
}

/// One number.
#[derive(Clone, Debug)]
struct Figure {
    section: &'static str,
    what: String,
    load: String,
    unit: &'static str,
    value: f64,
    /// At most this, where the project has set itself something.
    aim: Option<f64>,
}

/// Under which load figures are taken: all that are added through it name it.
pub(crate) struct Under<'a> {
    report: &'a mut Report,
    section: &'static str,
    load: String,
}

impl Report {
    pub(crate) fn new(json: bool) -> Self {
        let mut report = Self {
            json,
            machine: host::machine(),
            notes: Vec::new(),
            figures: Vec::new(),
            charts: Vec::new(),
        };
        report.note(&format!("load average before: {}", host::load_average()));
        report
    }

    /// What a reader must know and no figure says.
    pub(crate) fn note(&mut self, text: &str) {
        eprintln!("   {text}");
        if !self.notes.iter().any(|known| known == text) {
            self.notes.push(text.to_owned());
        }
    }

    pub(crate) fn under(&mut self, section: &'static str, load: impl Into<String>) -> Under<'_> {
        let load = load.into();
        eprintln!("== {section}: {load}");
        Under {
            report: self,
            section,
            load,
        }
    }

    /// Adds a point to a chart; the chart is there from its first point on.
    pub(crate) fn point(&mut self, chart: [&str; 4], series: &str, size: f64, value: f64) {
        let [name, title, sizes, unit] = chart;
        if !self.charts.iter().any(|known| known.name == name) {
            self.charts.push(Chart {
                name: name.to_owned(),
                title: title.to_owned(),
                sizes: sizes.to_owned(),
                unit: unit.to_owned(),
                series: Vec::new(),
            });
        }
        let Some(chart) = self.charts.iter_mut().find(|known| known.name == name) else {
            return;
        };
        if !chart.series.iter().any(|known| known.name == series) {
            chart.series.push(Series {
                name: series.to_owned(),
                points: Vec::new(),
            });
        }
        if let Some(series) = chart.series.iter_mut().find(|known| known.name == series) {
            series.points.push((size, value));
        }
    }

    /// Shows the whole, and keeps it in `folder`: `report.txt`, `report.json`, `report.md`, and a chart for each thing that was measured at several sizes.
    pub(crate) fn finish(&self, folder: Option<&Path>) -> Result<(), BoxError> {
        let json = serde_json::to_string_pretty(&self.to_json())?;
        let text = self.to_text();
        println!("{}", if self.json { &json } else { &text });
        let Some(folder) = folder else { return Ok(()) };
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("report.json"), json)?;
        std::fs::write(folder.join("report.txt"), text)?;
        std::fs::write(folder.join("report.md"), markdown::tables(&self.figures))?;
        for chart in &self.charts {
            std::fs::write(folder.join(format!("{}.svg", chart.name)), chart.svg())?;
        }
        Ok(())
    }

    fn to_json(&self) -> Value {
        let figures = self.figures.iter().map(|f| {
            json!({"section": f.section, "what": f.what, "load": f.load, "unit": f.unit, "value": f.value, "aim": f.aim})
        });
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "machine": self.machine,
            "notes": self.notes,
            "figures": figures.collect::<Vec<_>>(),
        })
    }

    fn to_text(&self) -> String {
        let mut out = format!("machine: {}\n", self.machine);
        for note in &self.notes {
            out += &format!("note: {note}\n");
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let mut under = ("", "");
        for figure in &self.figures {
            if under != (figure.section, figure.load.as_str()) {
                out += &drawn(&mut table);
                under = (figure.section, &figure.load);
                out += &format!("\n== {}: {}\n", figure.section, figure.load);
            }
            table.add_row([
                figure.what.clone(),
                number(figure.value),
                figure.unit.to_owned(),
                aim(figure),
            ]);
        }
        out + &drawn(&mut table)
    }
}

impl Under<'_> {
    pub(crate) fn add(&mut self, what: &str, unit: &'static str, value: f64) {
        self.figure(what, unit, value, None);
    }

    pub(crate) fn add_aimed(&mut self, what: &str, unit: &'static str, value: f64, aim: f64) {
        self.figure(what, unit, value, Some(aim));
    }

    /// Median, 99th percentile and worst; the aim is that of the 99th.
    pub(crate) fn latency(&mut self, what: &str, samples: &Samples, aim: Option<f64>) {
        for (name, percent, aim) in [("p50", 50.0, None), ("p99", 99.0, aim), ("worst", 100.0, None)] {
            if let Some(value) = samples.percentile(percent) {
                self.figure(&format!("{what}: {name} of {}", samples.len()), "ms", value, aim);
            }
        }
    }

    /// Of the report that this is under.
    pub(crate) fn point(&mut self, chart: [&str; 4], series: &str, size: f64, value: f64) {
        self.report.point(chart, series, size, value);
    }

    fn figure(&mut self, what: &str, unit: &'static str, value: f64, aim: Option<f64>) {
        let figure = Figure {
            section: self.section,
            what: what.to_owned(),
            load: self.load.clone(),
            unit,
            value,
            aim,
        };
        eprintln!(
            "   {what:<72} {:>12} {unit} {}",
            number(value),
            self::aim(&figure)
        );
        self.report.figures.push(figure);
    }
}

fn drawn(table: &mut Table) -> String {
    if table.is_empty() {
        return String::new();
    }
    let text = table.to_string();
    *table = Table::new();
    table.load_style(presets::NOTHING);
    text.lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect()
}

fn aim(figure: &Figure) -> String {
    figure.aim.map_or_else(String::new, |aim| {
        let met = if figure.value <= aim { "met" } else { "MISSED" };
        format!("aim <= {}: {met}", number(aim))
    })
}

fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 || v == v.trunc() => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn small() -> Report {
        let mut report = Report::new(true);
        report.note("twice");
        report.note("twice");
        let mut under = report.under("storm", "10 agents in 1 s");
        under.add_aimed("attempts per success", "x", 1.7, 1.5);
        under.latency(
            "served",
            &[Duration::from_millis(4)].into_iter().collect(),
            Some(5.0),
        );
        under.latency("nothing", &Samples::default(), None);
        report
    }

    #[test]
    fn every_figure_has_its_load_unit_value_and_aim() {
        let json = small().to_json();
        let figures = json["figures"].as_array().unwrap();
        assert_eq!(figures.len(), 4);
        assert_eq!(
            figures[0],
            json!({"section": "storm", "what": "attempts per success", "load": "10 agents in 1 s", "unit": "x", "value": 1.7, "aim": 1.5})
        );
        assert_eq!(figures[2]["what"], "served: p99 of 1");
        assert_eq!(figures[2]["aim"], 5.0);
        assert_eq!(figures[1]["aim"], Value::Null);
        assert!(json["machine"].as_str().unwrap().contains("cores"));
        assert_eq!(
            json["notes"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|note| *note == "twice")
                .count(),
            1
        );
    }

    #[test]
    fn the_text_says_what_was_missed() {
        let text = small().to_text();
        assert!(text.contains("== storm: 10 agents in 1 s"), "{text}");
        assert!(
            text.contains("aim <= 1.50: MISSED") && text.contains("aim <= 5: met"),
            "{text}"
        );
    }

    #[test]
    fn a_folder_gets_text_json_and_a_chart_of_each_name() {
        let mut report = small();
        let chart = ["growth", "Growth", "agents", "MB"];
        for (size, value) in [(1.0, 2.0), (10.0, 20.0)] {
            report.point(chart, "memory", size, value);
        }
        let folder = tempfile::tempdir().unwrap();
        report.finish(Some(&folder.path().join("new"))).unwrap();
        for name in ["report.txt", "report.json", "report.md", "growth.svg"] {
            assert!(folder.path().join("new").join(name).exists(), "{name}");
        }
        assert_eq!(report.charts.len(), 1);
        assert_eq!(report.charts[0].series[0].points.len(), 2);
    }
}
