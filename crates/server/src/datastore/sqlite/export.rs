//! Reads a whole database as it was at one moment, beside the process that writes it. Invariant: all that one [`Export`] gives belongs to one
//! revision, and nothing is changed.

use std::path::Path;
use std::sync::Arc;

use landfast_identity::TrustDomain;
use landfast_identity::chain::SignedStep;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Row};

use super::open::{self, refused};
use super::writer::Tx;
use super::{authorities, chain, migrate, people, records};
use crate::authority::Journal;
use crate::datastore::rows::{Column, ColumnKind, RecoveryRow, Source, Table, Value};
use crate::datastore::{DatastoreError, OpenError, Snapshot};
use crate::issuance::IssuanceRecord;

/// See the module. The write-ahead log grows while one is open.
pub(crate) struct Export {
    conn: Connection,
    pub(crate) schema: i64,
}

impl Export {
    pub(crate) fn open(path: &Path, trust_domain: &TrustDomain) -> Result<Self, OpenError> {
        if !path.exists() {
            return Err(OpenError::Absent { path: path.into() });
        }
        let wrong = |e| refused(path, e);
        // Not read-only: without a server the log has to be made, and taken in again.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(path, flags).map_err(wrong)?;
        conn.execute_batch(
            "PRAGMA query_only = ON; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA busy_timeout = 5000",
        )
        .map_err(wrong)?;
        open::recognise(&conn, path)?;
        let schema = migrate::current(&conn, path)?;
        conn.execute_batch("BEGIN").map_err(wrong)?;
        // The first read takes the snapshot.
        open::owner(&conn, path, trust_domain)?;
        Ok(Self { conn, schema })
    }

    pub(crate) fn journal(&self) -> Result<Journal, DatastoreError> {
        authorities::journal(&Tx::reading(&self.conn))
    }

    /// Number and epoch of the revision.
    pub(crate) fn revision(&self) -> Result<(i64, i64), DatastoreError> {
        let state = |row: &Row<'_>| Ok((row.get("revision")?, row.get("epoch")?));
        Ok(self.conn.query_row("SELECT * FROM state", [], state)?)
    }

    pub(crate) fn tables(&self) -> Result<Vec<Table>, DatastoreError> {
        tables(&self.conn)
    }

    /// Every row, in the order of the primary key.
    pub(crate) fn each_row<E: From<DatastoreError>>(
        &self,
        table: &Table,
        mut see: impl FnMut(Vec<Value>) -> Result<(), E>,
    ) -> Result<(), E> {
        let failed = |e: rusqlite::Error| DatastoreError::from(e);
        let columns: Vec<_> = table.columns.iter().map(|column| quoted(&column.name)).collect();
        let sql = format!(
            "SELECT {} FROM {} ORDER BY {}",
            columns.join(", "),
            quoted(&table.name),
            primary_key(&self.conn, &table.name)?.join(", ")
        );
        let mut select = self.conn.prepare(&sql).map_err(failed)?;
        let mut rows = select.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let values = (0..table.columns.len()).map(|i| value(row, i));
            see(values.collect::<Result<_, _>>().map_err(failed)?)?;
        }
        Ok(())
    }
}

impl Source for Export {
    fn snapshot(&self) -> Result<Snapshot, DatastoreError> {
        super::snapshot(&Tx::reading(&self.conn))
    }

    fn journal(&self) -> Result<Journal, DatastoreError> {
        Self::journal(self)
    }

    fn steps(&self) -> Result<Vec<SignedStep>, DatastoreError> {
        chain::all(&Tx::reading(&self.conn))
    }

    fn created_by(&self, id: &str) -> Result<String, DatastoreError> {
        let mut made = self
            .conn
            .prepare_cached("SELECT created_by FROM entries WHERE id = ?1")?;
        Ok(made.query_row([id], |row| row.get(0))?)
    }

    fn tokens(&self) -> Result<Vec<[Value; 7]>, DatastoreError> {
        let mut tokens = self.conn.prepare(
            "SELECT hash, expires_at, alias, redeemed_at, redeemed_key, agent_id, revoked FROM join_tokens",
        )?;
        let tokens = tokens.query_map([], |row| {
            let all = |i| value(row, i);
            Ok([all(0)?, all(1)?, all(2)?, all(3)?, all(4)?, all(5)?, all(6)?])
        })?;
        Ok(tokens.collect::<Result<_, _>>()?)
    }

    fn recoveries(&self) -> Result<Vec<RecoveryRow>, DatastoreError> {
        let sql = "SELECT agent_id, heard_at, waiting, body FROM recoveries";
        let mut rows = self.conn.prepare(sql)?;
        let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn person_names(&self) -> Result<Vec<(String, String)>, DatastoreError> {
        people::pairs(&self.conn, "SELECT reference, name FROM person_names")
    }

    fn proposals(&self) -> Result<Vec<(String, String)>, DatastoreError> {
        people::pairs(&self.conn, "SELECT id, body FROM person_proposals")
    }

    fn records(&self, after: i64, limit: i64) -> Result<Vec<(i64, IssuanceRecord)>, DatastoreError> {
        let mut some = self
            .conn
            .prepare_cached("SELECT * FROM issued WHERE number > ?1 ORDER BY number LIMIT ?2")?;
        let some = some.query_map([after, limit], |row| {
            Ok((row.get("number")?, records::read(row)?))
        })?;
        Ok(some.collect::<Result<_, _>>()?)
    }
}

/// All tables but the one that says which migrations were applied, by name.
pub(super) fn tables(conn: &Connection) -> Result<Vec<Table>, DatastoreError> {
    let mut names = conn.prepare(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name <> 'schema_migrations' ORDER BY name",
    )?;
    let names: Vec<String> = names.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let table = |name: String| {
        let mut columns = conn.prepare("SELECT name, type FROM pragma_table_info(?1) ORDER BY cid")?;
        let columns = columns.query_map([&name], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let columns = columns.map(|column| column.map_err(DatastoreError::from).and_then(known));
        Ok(Table {
            columns: columns.collect::<Result<_, _>>()?,
            name,
        })
    };
    names.into_iter().map(table).collect()
}

fn known((name, kind): (String, String)) -> Result<Column, DatastoreError> {
    let kind = match kind.as_str() {
        "INTEGER" => ColumnKind::Integer,
        "TEXT" => ColumnKind::Text,
        "BLOB" => ColumnKind::Blob,
        other => {
            return Err(DatastoreError::Failed {
                source: Arc::from(Box::<dyn std::error::Error + Send + Sync>::from(format!(
                    "column {name} has the type {other}, of which a backup knows nothing"
                ))),
            });
        }
    };
    Ok(Column { name, kind })
}

fn primary_key(conn: &Connection, table: &str) -> Result<Vec<String>, DatastoreError> {
    let mut columns = conn.prepare("SELECT name FROM pragma_table_info(?1) WHERE pk > 0 ORDER BY pk")?;
    let columns = columns.query_map([table], |row| row.get::<_, String>(0))?;
    Ok(columns
        .map(|name| name.map(|name| quoted(&name)))
        .collect::<Result<_, _>>()?)
}

fn value(row: &Row<'_>, index: usize) -> Result<Value, rusqlite::Error> {
    Ok(match row.get_ref(index)? {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Text(text) => Value::Text(
            std::str::from_utf8(text)
                .map_err(|e| rusqlite::Error::Utf8Error(index, e))?
                .to_owned(),
        ),
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
        ValueRef::Real(_) => {
            return Err(rusqlite::Error::InvalidColumnType(
                index,
                String::new(),
                rusqlite::types::Type::Real,
            ));
        }
    })
}

pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
