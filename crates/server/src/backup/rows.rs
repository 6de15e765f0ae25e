//! A table as JSON lines: a head that names table and columns, then an array a row. Invariant: a row reads back as it was.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Json;

use super::error::ArchiveError;
use crate::datastore::rows::{Column, ColumnKind, Table, Value};

pub(super) fn write_head(table: &Table) -> String {
    let columns: Vec<_> = table
        .columns
        .iter()
        .map(|column| serde_json::json!([column.name, kind_name(column.kind)]))
        .collect();
    format!(
        "{}\n",
        serde_json::json!({ "table": table.name, "columns": columns })
    )
}

pub(super) fn write_row(row: &[Value]) -> String {
    let values = row.iter().map(|value| match value {
        Value::Null => Json::Null,
        Value::Integer(number) => Json::from(*number),
        Value::Text(text) => Json::from(text.as_str()),
        Value::Blob(bytes) => Json::from(STANDARD.encode(bytes)),
    });
    format!("{}\n", Json::Array(values.collect()))
}

pub(super) fn read_head(line: &str) -> Result<Table, ArchiveError> {
    read_table(line).ok_or_else(|| ArchiveError::damaged("the first line of a table cannot be read"))
}

fn read_table(line: &str) -> Option<Table> {
    let head: Json = serde_json::from_str(line).ok()?;
    let head = head.as_object().filter(|head| head.len() == 2)?;
    let column = |column: &Json| match column.as_array()?.as_slice() {
        [name, kind] => Some(Column {
            name: name.as_str()?.to_owned(),
            kind: KINDS.iter().find(|(_, word)| *kind == *word)?.0,
        }),
        _ => None,
    };
    let columns = head.get("columns")?.as_array()?;
    Some(Table {
        name: head.get("table")?.as_str()?.to_owned(),
        columns: columns.iter().map(column).collect::<Option<_>>()?,
    })
}

pub(super) fn read_row(table: &Table, line: &str) -> Result<Vec<Value>, ArchiveError> {
    read_values(table, line)
        .ok_or_else(|| ArchiveError::damaged(format!("a row of table {} cannot be read", table.name)))
}

fn read_values(table: &Table, line: &str) -> Option<Vec<Value>> {
    let Json::Array(values) = serde_json::from_str(line).ok()? else {
        return None;
    };
    if values.len() != table.columns.len() {
        return None;
    }
    let value = |(json, column): (Json, &Column)| match (json, column.kind) {
        (Json::Null, _) => Some(Value::Null),
        (Json::Number(number), ColumnKind::Integer) => number.as_i64().map(Value::Integer),
        (Json::String(text), ColumnKind::Text) => Some(Value::Text(text)),
        (Json::String(text), ColumnKind::Blob) => STANDARD.decode(text).ok().map(Value::Blob),
        _ => None,
    };
    values.into_iter().zip(&table.columns).map(value).collect()
}

fn kind_name(kind: ColumnKind) -> &'static str {
    let found = KINDS.iter().find(|(known, _)| *known == kind);
    found.map_or("", |(_, name)| name)
}

const KINDS: [(ColumnKind, &str); 3] = [
    (ColumnKind::Integer, "integer"),
    (ColumnKind::Text, "text"),
    (ColumnKind::Blob, "blob"),
];
