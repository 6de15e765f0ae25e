//! What `[datastore]` says. Invariant: what is accepted names a database whose servers give right answers together.

use landfast_daemon::config::ConfigError;

use super::Checker;
use super::raw::RawDatastore;
use crate::datastore::postgres::{PostgresConfig, TargetError};
use crate::upstream::UpstreamConfig;

impl Checker<'_> {
    pub(super) fn datastore(
        &self,
        raw: RawDatastore,
        upstream: Option<&UpstreamConfig>,
    ) -> Result<Option<PostgresConfig>, ConfigError> {
        let Some(text) = raw.postgres else {
            let lonely = [("password_file", raw.password_file), ("ca_file", raw.ca_file)];
            return match lonely.into_iter().find_map(|(key, path)| Some((key, path?))) {
                None => Ok(None),
                Some((key, path)) => Err(self.invalid(
                    &format!("datastore.{key}"),
                    &path.display().to_string(),
                    "datastore.postgres with it",
                )),
            };
        };
        let path = |key, path: Option<_>| path.map(|path| self.absolute(key, path)).transpose();
        let password_file = path("datastore.password_file", raw.password_file)?;
        let ca_file = path("datastore.ca_file", raw.ca_file)?;
        if let Some(UpstreamConfig::Disk(_)) = upstream {
            // Which server's files are the newer ones, nobody can tell: a root that one of them does not name yet or no longer would come and go.
            return Err(self.invalid(
                "datastore.postgres",
                "with [upstream.disk]",
                "[upstream.spire] or none: servers that share a database believe one upstream authority, and files of each would contradict each \
                 other; let a server with [upstream.disk] and a database of its own stand above these",
            ));
        }
        let target = PostgresConfig::parse(&text, password_file, ca_file.as_deref());
        target.map(Some).map_err(|error| match error {
            TargetError::Authorities { path, what } => self.invalid(
                "datastore.ca_file",
                &path.display().to_string(),
                &format!("certificates in PEM: {what}"),
            ),
            // What it says may hold a password.
            other => {
                let why = landfast_daemon::error_chain(&other);
                let expected = format!(
                    "a PostgreSQL connection string such as \"postgres://landfast@db1,db2/landfast\"; this one: {why}"
                );
                self.invalid("datastore.postgres", "...", &expected)
            }
        })
    }
}

#[cfg(test)]
mod tests;
