//! From a place in a TOML text to the key there, and back.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::Position;

/// Line and column of a byte offset.
pub(super) fn position(text: &str, offset: usize) -> Position {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    Position {
        line: before.matches('\n').count() + 1,
        column: line.chars().count() + 1,
    }
}

/// The key whose name or value is at this span, with its tables; empty for the whole file. `None`: the text is not TOML.
pub(super) fn key_at(text: &str, span: Option<&Range<usize>>) -> Option<String> {
    let table = DeTable::parse(text).ok()?;
    let inside = span.filter(|span| **span != table.span());
    Some(
        inside
            .and_then(|span| innermost(table.get_ref(), span.start))
            .unwrap_or_default(),
    )
}

/// Where the value of this key stands (`ttl.x509`), or the nearest table around it.
pub(super) fn value(text: &str, key: &str) -> Option<usize> {
    let root = DeTable::parse(text).ok()?;
    let mut table = root.get_ref();
    let mut found = None;
    for name in key.split('.') {
        let Some(value) = table.get(name) else { break };
        found = Some(value.span().start);
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            _ => break,
        }
    }
    found
}

fn innermost(table: &DeTable<'_>, offset: usize) -> Option<String> {
    let holds = |span: Range<usize>| span.start <= offset && offset < span.end.max(span.start + 1);
    for (key, value) in table {
        let name = key.get_ref();
        let below = match value.get_ref() {
            DeValue::Table(inner) => innermost(inner, offset),
            // Tables in an array, as `[[name]]`.
            DeValue::Array(items) => items.iter().find_map(|item| match item.get_ref() {
                DeValue::Table(inner) => innermost(inner, offset),
                _ => None,
            }),
            _ => None,
        };
        if let Some(below) = below {
            return Some(format!("{name}.{below}"));
        }
        if holds(key.span()) || holds(value.span()) {
            return Some(name.to_string());
        }
    }
    None
}
