//! What became of SPIRE's settings. Invariant: a value that may be a secret is never repeated.

use serde_json::{Value, json};

use super::settings::{Setting, key};
use crate::hcl::Place;
use crate::output;

pub(super) struct Report {
    file: String,
    mapped: Vec<Line>,
    unmapped: Vec<Line>,
    notes: Vec<(Option<Place>, String)>,
}

struct Line {
    place: Place,
    key: String,
    /// With their full names, when the line stands for several.
    keys: Vec<String>,
    was: Option<String>,
    /// Where it went, or what to do instead.
    then: String,
}

impl Report {
    pub(super) fn new(file: &str) -> Self {
        Self {
            file: file.to_owned(),
            mapped: Vec::new(),
            unmapped: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(super) fn mapped(&mut self, setting: &Setting, to: &str) {
        self.mapped.push(Line::of(setting, to));
    }

    pub(super) fn unmapped(&mut self, setting: &Setting, instead: &str) {
        self.unmapped.push(Line::of(setting, instead));
    }

    /// One line for the settings of one block, `depth` names deep.
    pub(super) fn unmapped_block(&mut self, settings: &[Setting], depth: usize, instead: &str) {
        let Some(first) = settings.first() else { return };
        if settings.len() == 1 && may_be_shown(first) {
            return self.unmapped(first, instead);
        }
        self.unmapped.push(Line {
            place: first.place,
            key: key(first.path.get(..depth).unwrap_or(&first.path)),
            keys: settings.iter().map(Setting::key).collect(),
            was: None,
            then: instead.to_owned(),
        });
    }

    pub(super) fn note(&mut self, place: Option<Place>, text: &str) {
        self.notes.push((place, text.to_owned()));
    }

    /// In the order of the file.
    pub(super) fn sort(&mut self) {
        let place = |line: &Line| (line.place.line, line.place.column);
        self.mapped.sort_by_key(place);
        self.unmapped.sort_by_key(place);
        self.notes
            .sort_by_key(|(place, _)| place.map(|place| (place.line, place.column)));
    }

    /// One line each, so that grep finds them.
    pub(super) fn text(&self, file: &str, to: &str) -> String {
        let mut lines = vec![format!(
            "{file}: {} settings are in {to} or hold anyway",
            self.mapped.len()
        )];
        for line in &self.unmapped {
            let head = line.key.split('.').count();
            let inner: Vec<String> = line
                .keys
                .iter()
                .map(|key| within(key, head))
                .filter(|key| !key.is_empty())
                .collect();
            let was = match (&line.was, inner.is_empty()) {
                (Some(was), _) => format!(" = {was}"),
                (None, true) => String::new(),
                (None, false) => format!(" ({})", inner.join(", ")),
            };
            lines.push(format!(
                "unmapped: {}: {}{was}: {}",
                self.at(line.place),
                line.key,
                line.then
            ));
        }
        for (place, text) in &self.notes {
            match place {
                Some(place) => lines.push(format!("note: {}: {text}", self.at(*place))),
                None => lines.push(format!("note: {text}")),
            }
        }
        lines
            .iter()
            .map(|line| output::clean_line(line))
            .collect::<Vec<_>>()
            .join("\n")
    }

    pub(super) fn mapped_json(&self) -> Value {
        let each = self
            .mapped
            .iter()
            .map(|line| json!({"at": self.at(line.place), "key": line.key, "to": line.then}));
        Value::Array(each.collect())
    }

    pub(super) fn unmapped_json(&self) -> Value {
        let each = self.unmapped.iter().map(|line| {
            json!({"at": self.at(line.place), "key": line.key, "keys": line.keys, "was": line.was, "instead": line.then})
        });
        Value::Array(each.collect())
    }

    pub(super) fn notes_json(&self) -> Value {
        let each = self
            .notes
            .iter()
            .map(|(place, text)| json!({"at": place.map(|place| self.at(place)), "text": text}));
        Value::Array(each.collect())
    }

    fn at(&self, place: Place) -> String {
        format!("{}:{}", self.file, place.line)
    }
}

impl Line {
    fn of(setting: &Setting, then: &str) -> Self {
        Self {
            place: setting.place,
            key: setting.key(),
            keys: vec![setting.key()],
            was: may_be_shown(setting).then(|| setting.shown()),
            then: then.to_owned(),
        }
    }
}

/// Plugins' data may hold passwords under any name.
fn may_be_shown(setting: &Setting) -> bool {
    let secret = |part: &String| {
        let part = part.to_ascii_lowercase();
        ["token", "password", "secret"]
            .iter()
            .any(|word| part.contains(word))
            && !part.ends_with("_file")
    };
    !setting.is_below(&["plugins"]) && !setting.path.iter().any(secret)
}

/// The key without the first parts of its name; empty when there is no more.
fn within(key: &str, parts: usize) -> String {
    let inner = key.splitn(parts + 1, '.').nth(parts).unwrap_or("");
    let data = inner.strip_prefix("plugin_data").unwrap_or(inner);
    // `plugin_data_file` is no data.
    if data.is_empty() || data.starts_with('.') {
        data
    } else {
        inner
    }
    .trim_start_matches('.')
    .to_owned()
}
