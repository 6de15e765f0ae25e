//! The work in progress: SPIRE's settings on one side, our file and the report on the other.
//!
//! Invariant: each setting leaves by one of [`Mapping::carry`], [`Mapping::change`], [`Mapping::hold`] and [`Mapping::list`]; what nobody
//! took is listed at the end.

use super::advice;
use super::report::Report;
use super::settings::{Setting, Settings};
use super::toml::Document;

pub(super) struct Mapping {
    pub(super) settings: Settings,
    pub(super) document: Document,
    pub(super) report: Report,
}

impl Mapping {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            report: Report::new(&settings.file),
            document: Document::default(),
            settings,
        }
    }

    /// Of several with the same name the last counts, as in SPIRE.
    pub(super) fn take(&mut self, path: &[&str]) -> Option<Setting> {
        let last = self.settings.take(path)?;
        while let Some(earlier) = self.settings.take(path) {
            self.list(
                &earlier,
                "it is given again further down, and the last one counts",
            );
        }
        Some(last)
    }

    /// Takes a setting that says something.
    pub(super) fn take_said(&mut self, path: &[&str]) -> Option<Setting> {
        let setting = self.take(path)?;
        if setting.is_empty() {
            self.hold(&setting, EMPTY);
            return None;
        }
        Some(setting)
    }

    /// The same in our file.
    pub(super) fn carry(&mut self, setting: &Setting, table: &'static str, key: &'static str, value: String) {
        self.document.set(table, key, value, setting.key());
        self.report.mapped(setting, &name(table, key));
    }

    /// In our file, but otherwise; the operator reads why in both places.
    pub(super) fn change(
        &mut self,
        setting: &Setting,
        (table, key): (&'static str, &'static str),
        value: String,
        why: &str,
    ) {
        let to = name(table, key);
        self.report.note(
            Some(setting.place),
            &format!(
                "{} = {} became {to} = {value}: {why}",
                setting.key(),
                setting.shown()
            ),
        );
        self.report.mapped(setting, &to);
        self.document.set(
            table,
            key,
            value,
            format!("{} = {}: {why}", setting.key(), setting.shown()),
        );
    }

    /// Something that SPIRE's file did not say and ours must.
    pub(super) fn add(&mut self, (table, key): (&'static str, &'static str), value: String, why: &str) {
        self.report
            .note(None, &format!("{} = {value}: {why}", name(table, key)));
        self.document.set(table, key, value, why.to_owned());
    }

    /// What it says is so in any case.
    pub(super) fn hold(&mut self, setting: &Setting, why: &str) {
        self.report.mapped(setting, why);
    }

    pub(super) fn list(&mut self, setting: &Setting, instead: &str) {
        self.report.unmapped(setting, instead);
    }

    pub(super) fn note(&mut self, setting: &Setting, text: &str) {
        self.report.note(Some(setting.place), text);
    }

    pub(super) fn finish(mut self) -> (Document, Report) {
        let mut rest = self.settings.rest();
        while !rest.is_empty() {
            let first = rest.remove(0);
            if advice::holds_anyway(&first) {
                self.report.mapped(&first, "holds anyway");
                continue;
            }
            if first.is_empty() && !first.is_below(&["plugins"]) {
                self.report.mapped(&first, EMPTY);
                continue;
            }
            let advice = advice::on(&first);
            if advice.block == 0 || first.path.len() < advice.block {
                self.report.unmapped(&first, advice.instead);
                continue;
            }
            let block: Vec<String> = first.path[..advice.block].to_vec();
            let block: Vec<&str> = block.iter().map(String::as_str).collect();
            let (mut same, others) = rest
                .into_iter()
                .partition::<Vec<_>, _>(|other| other.is_below(&block));
            rest = others;
            same.insert(0, first);
            let external = same
                .iter()
                .any(|setting| setting.fits(&["plugins", "*", "*", "plugin_cmd"]));
            let instead = if external {
                advice::EXTERNAL
            } else {
                advice.instead
            };
            self.report.unmapped_block(&same, advice.block, instead);
        }
        self.report.sort();
        (self.document, self.report)
    }
}

fn name(table: &str, key: &str) -> String {
    if table.is_empty() {
        key.to_owned()
    } else {
        format!("{table}.{key}")
    }
}

const EMPTY: &str = "empty: as if it were not there";
