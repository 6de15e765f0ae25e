//! SPIRE's file as a flat list of settings, each with its path and place.
//!
//! Invariant: what is not taken is still there at the end; so nothing can be forgotten.

use crate::hcl::{Body, Place, Value};

/// One value, or an empty block.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) path: Vec<String>,
    pub(super) place: Place,
    pub(super) value: Value,
}

pub(super) struct Settings {
    pub(super) file: String,
    all: Vec<Setting>,
}

impl Settings {
    /// Blocks, labels and lists of blocks all become paths: `plugins.KeyManager.disk.plugin_data.keys_path`.
    pub(super) fn of(file: &str, body: &Body) -> Self {
        let mut all = Vec::new();
        flatten(body, &mut Vec::new(), &mut all);
        Self {
            file: file.to_owned(),
            all,
        }
    }

    /// Takes what has this very path. As in SPIRE, the last of several counts; those before stay.
    pub(super) fn take(&mut self, path: &[&str]) -> Option<Setting> {
        let at = self
            .all
            .iter()
            .rposition(|setting| setting.path.len() == path.len() && setting.is_below(path))?;
        Some(self.all.remove(at))
    }

    /// Takes everything at and below a path.
    pub(super) fn take_below(&mut self, path: &[&str]) -> Vec<Setting> {
        let (below, rest) = std::mem::take(&mut self.all)
            .into_iter()
            .partition(|setting| setting.is_below(path));
        self.all = rest;
        below
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.has_below(&[name])
    }

    pub(super) fn has_below(&self, path: &[&str]) -> bool {
        self.all.iter().any(|setting| setting.is_below(path))
    }

    /// Type and name of each.
    pub(super) fn plugins(&self) -> Vec<(String, String)> {
        let mut plugins: Vec<(String, String)> = Vec::new();
        for setting in self.all.iter().filter(|setting| setting.is_below(&["plugins"])) {
            if let [_, kind, name, ..] = setting.path.as_slice() {
                plugins.push((kind.clone(), name.clone()));
            }
        }
        plugins.dedup();
        plugins
    }

    /// Each name that comes next after a path, once.
    pub(super) fn names_below(&self, path: &[&str]) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for setting in self.all.iter().filter(|setting| setting.is_below(path)) {
            if let Some(name) = setting.path.get(path.len()).filter(|name| !names.contains(name)) {
                names.push(name.clone());
            }
        }
        names
    }

    /// What has this very path, left where it is. Of several the last.
    pub(super) fn text_of(&self, path: &[&str]) -> Option<String> {
        let same = |setting: &&Setting| setting.path.len() == path.len() && setting.is_below(path);
        self.all.iter().rfind(same)?.text()
    }

    pub(super) fn any_text(&self, wanted: impl Fn(&str) -> bool) -> bool {
        self.all
            .iter()
            .any(|setting| matches!(&setting.value, Value::Text(text) if wanted(text)))
    }

    pub(super) fn rest(self) -> Vec<Setting> {
        self.all
    }
}

impl Setting {
    /// Names mean the same in either case, as in SPIRE.
    pub(super) fn is_below(&self, path: &[&str]) -> bool {
        self.begins(path, |wanted, name| name.eq_ignore_ascii_case(wanted))
    }

    /// The same, with `*` for any name.
    pub(super) fn fits(&self, path: &[&str]) -> bool {
        self.begins(path, |wanted, name| {
            wanted == "*" || name.eq_ignore_ascii_case(wanted)
        })
    }

    fn begins(&self, path: &[&str], same: impl Fn(&str, &str) -> bool) -> bool {
        self.path.len() >= path.len()
            && path
                .iter()
                .zip(&self.path)
                .all(|(wanted, name)| same(wanted, name))
    }

    /// `server.federation.federates_with."other.example"`.
    pub(super) fn key(&self) -> String {
        key(&self.path)
    }

    /// A string or a number: SPIRE takes one for the other.
    pub(super) fn text(&self) -> Option<String> {
        match &self.value {
            Value::Text(text) => Some(text.clone()),
            Value::Integer(number) => Some(number.to_string()),
            _ => None,
        }
    }

    pub(super) fn integer(&self) -> Option<i64> {
        self.text()?.trim().parse().ok()
    }

    pub(super) fn flag(&self) -> Option<bool> {
        match &self.value {
            Value::Bool(yes) => Some(*yes),
            Value::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// The strings of a list, or one string.
    pub(super) fn texts(&self) -> Vec<String> {
        match &self.value {
            Value::List(values) => values
                .iter()
                .filter_map(|value| match value {
                    Value::Text(text) => Some(text.clone()),
                    _ => None,
                })
                .collect(),
            Value::Text(text) => vec![text.clone()],
            _ => Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match &self.value {
            Value::Text(text) => text.is_empty(),
            Value::List(values) => values.is_empty(),
            Value::Null => true,
            _ => false,
        }
    }

    /// The value as it would be written, on one line.
    pub(super) fn shown(&self) -> String {
        shown(&self.value)
    }
}

/// Parts that are no plain names are quoted.
pub(super) fn key(path: &[String]) -> String {
    let plain = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'))
    };
    let parts = path.iter().map(|part| {
        if plain(part) {
            part.clone()
        } else {
            format!("{part:?}")
        }
    });
    parts.collect::<Vec<_>>().join(".")
}

fn shown(value: &Value) -> String {
    match value {
        Value::Text(text) => format!("{:?}", without_secrets(text)),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Bool(yes) => yes.to_string(),
        Value::Null => "null".to_owned(),
        Value::List(values) => format!("[{}]", values.iter().map(shown).collect::<Vec<_>>().join(", ")),
        Value::Body(_) => "{}".to_owned(),
    }
}

/// A URL without what may be a password in it: who is logged in as, and what is asked.
fn without_secrets(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let (place, asked) = match rest.find(['?', '#']) {
        Some(at) => (&rest[..at], "?…"),
        None => (rest, ""),
    };
    let (authority, path) = place.split_at(place.find('/').unwrap_or(place.len()));
    let host = match authority.rsplit_once('@') {
        Some((_user, host)) => format!("…@{host}"),
        None => authority.to_owned(),
    };
    format!("{scheme}://{host}{path}{asked}")
}

fn flatten(body: &Body, path: &mut Vec<String>, all: &mut Vec<Setting>) {
    for item in &body.items {
        let above = path.len();
        path.extend(item.keys.iter().cloned());
        add(&item.value, item.place, path, all);
        path.truncate(above);
    }
}

fn add(value: &Value, place: Place, path: &mut Vec<String>, all: &mut Vec<Setting>) {
    match value {
        Value::Body(body) if !body.items.is_empty() => flatten(body, path, all),
        // A list of blocks is the same as the block repeated.
        Value::List(values) if values.iter().any(|value| matches!(value, Value::Body(_))) => {
            for value in values {
                add(value, place, path, all);
            }
        }
        value => all.push(Setting {
            path: path.clone(),
            place,
            value: value.clone(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::without_secrets;

    #[test]
    fn of_a_url_neither_user_nor_query_is_shown() {
        for (text, shown) in [
            (
                "https://bundles.plant.example/b?token=s3cret",
                "https://bundles.plant.example/b?…",
            ),
            (
                "https://me:s3cret@bundles.plant.example:8443/b",
                "https://…@bundles.plant.example:8443/b",
            ),
            ("https://me:s3@cret@host?sig=s3cret#s3cret", "https://…@host?…"),
            ("https://host#s3cret", "https://host?…"),
            ("https://host/a@b", "https://host/a@b"),
            ("spiffe://plant.example/console", "spiffe://plant.example/console"),
            ("/run/a?b", "/run/a?b"),
        ] {
            assert_eq!(without_secrets(text), shown);
        }
    }
}
