//! Where the database is, as the configuration says. Invariant: nothing of it goes in clear over a network, and no password is shown.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::ClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use zeroize::Zeroizing;

/// A PostgreSQL database.
#[derive(Clone)]
pub struct PostgresConfig {
    config: Config,
    password_file: Option<PathBuf>,
    tls: Option<Arc<ClientConfig>>,
}

/// Why a text does not say where a database is.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// Not one of PostgreSQL's ways to say it.
    #[error("not a connection string")]
    Syntax(#[source] tokio_postgres::Error),
    /// Something that has to be said is not, or is said twice.
    #[error("{0}")]
    Value(&'static str),
    /// The authorities of the database's certificate.
    #[error("{}: {what}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

impl PostgresConfig {
    /// From a URL or pairs of key and value, as `psql` takes them.
    ///
    /// # Errors
    /// It says too little or too much; the error never shows it.
    pub fn parse(
        text: &str,
        password_file: Option<PathBuf>,
        ca_file: Option<&Path>,
    ) -> Result<Self, TargetError> {
        let mut config: Config = text.parse().map_err(TargetError::Syntax)?;
        if config.get_hosts().is_empty() {
            return Err(TargetError::Value(
                "it names no host: give one or more, or the directory of a socket",
            ));
        }
        if !config.get_hostaddrs().is_empty() {
            return Err(TargetError::Value("it has hostaddr: give host alone"));
        }
        if config.get_user().is_none() || config.get_dbname().is_none() {
            return Err(TargetError::Value("it names no user, or no database (dbname)"));
        }
        if password_file.is_some() && config.get_password().is_some() {
            return Err(TargetError::Value(
                "it has a password, and password_file another: leave one out",
            ));
        }
        if config.get_target_session_attrs() == TargetSessionAttrs::ReadOnly {
            return Err(TargetError::Value(
                "it wants a database that only reads: a server has to write",
            ));
        }
        // A replica answers with what was: nobody is to read there either.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        let tls = ca_file.map(authorities).transpose()?;
        if tls.is_none() && config.get_ssl_mode() == SslMode::Require {
            return Err(TargetError::Value(
                "it has sslmode=require: give ca_file, by which the database is known",
            ));
        }
        if tls.is_none() && config.get_hosts().iter().any(is_far) {
            return Err(TargetError::Value(
                "it names another machine, and what goes there must not go in clear: give ca_file, by which the database is known",
            ));
        }
        config.ssl_mode(match tls {
            Some(_) => SslMode::Require,
            None => SslMode::Disable,
        });
        config.application_name("landfast-server");
        Ok(Self {
            config,
            password_file,
            tls,
        })
    }

    /// One configuration for each host, with the password as its file has it now: it may be changed while we run.
    pub(super) fn attempts(&self) -> Result<Vec<Config>, std::io::Error> {
        let password = match &self.password_file {
            Some(path) => Some(password(path)?),
            None => None,
        };
        let (hosts, ports) = (self.config.get_hosts(), self.config.get_ports());
        let one = |(n, host): (usize, &Host)| {
            let mut one = Config::new();
            match host {
                Host::Tcp(name) => one.host(name),
                Host::Unix(path) => one.host_path(path),
            };
            if let Some(port) = ports
                .get(n)
                .or_else(|| ports.first().filter(|_| ports.len() == 1))
            {
                one.port(*port);
            }
            if let Some(user) = self.config.get_user() {
                one.user(user);
            }
            if let Some(name) = self.config.get_dbname() {
                one.dbname(name);
            }
            if let Some(options) = self.config.get_options() {
                one.options(options);
            }
            if let Some(name) = self.config.get_application_name() {
                one.application_name(name);
            }
            match &password {
                Some(password) => {
                    one.password(password.as_slice());
                }
                None => {
                    if let Some(password) = self.config.get_password() {
                        one.password(password);
                    }
                }
            }
            one.ssl_mode(self.config.get_ssl_mode())
                .target_session_attrs(TargetSessionAttrs::ReadWrite)
                .channel_binding(self.config.get_channel_binding());
            one
        };
        Ok(hosts.iter().enumerate().map(one).collect())
    }

    pub(super) fn tls(&self) -> Option<Arc<ClientConfig>> {
        self.tls.clone()
    }

    /// Hosts and database, without anything secret.
    pub(crate) fn shown(&self) -> PathBuf {
        let host = |host: &Host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        };
        let hosts: Vec<_> = self.config.get_hosts().iter().map(host).collect();
        let database = self.config.get_dbname().unwrap_or_default();
        PathBuf::from(format!("{database} on {}", hosts.join(",")))
    }
}

impl std::fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PostgresConfig({})", self.shown().display())
    }
}

fn is_far(host: &Host) -> bool {
    match host {
        Host::Unix(_) => false,
        Host::Tcp(name) => {
            name != "localhost"
                && !name
                    .parse::<std::net::IpAddr>()
                    .is_ok_and(|address| address.is_loopback())
        }
    }
}

fn authorities(path: &Path) -> Result<Arc<ClientConfig>, TargetError> {
    let wrong = |what: String| TargetError::Authorities {
        path: path.into(),
        what,
    };
    let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
        let certificate = certificate.map_err(|e| wrong(e.to_string()))?;
        roots.add(certificate).map_err(|e| wrong(e.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("no certificate in PEM".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| wrong(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// The first line of the file.
fn password(path: &Path) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let cannot = |error: std::io::Error| {
        let what = format!("cannot read password_file {}: {error}", path.display());
        std::io::Error::new(error.kind(), what)
    };
    let mut file = std::fs::File::open(path).map_err(cannot)?;
    if file.metadata().map_err(cannot)?.permissions().mode() & 0o007 != 0 {
        let what = format!(
            "password_file {} is open to everybody: chmod o= it",
            path.display()
        );
        return Err(std::io::Error::other(what));
    }
    let mut text = Zeroizing::new(Vec::new());
    file.by_ref()
        .take(MAX_PASSWORD)
        .read_to_end(&mut text)
        .map_err(cannot)?;
    let line = text.split(|b| *b == b'\n').next().unwrap_or_default();
    Ok(Zeroizing::new(line.to_vec()))
}

const MAX_PASSWORD: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let error = PostgresConfig::parse(text, None, None).unwrap_err();
        error.to_string()
    }

    #[test]
    fn a_string_names_hosts_user_and_database_and_nothing_goes_in_clear() {
        let good = PostgresConfig::parse("postgres://me:secret@localhost:5433/landfast", None, None).unwrap();
        assert_eq!(format!("{good:?}"), "PostgresConfig(landfast on localhost)");
        assert_eq!(good.attempts().unwrap()[0].get_ports(), [5433]);
        let two = "host=/run/a,/run/b port=1,2 user=me dbname=landfast";
        let two = PostgresConfig::parse(two, None, None)
            .unwrap()
            .attempts()
            .unwrap();
        assert_eq!((two.len(), two[1].get_ports()), (2, &[2_u16][..]));
        assert_eq!(two[0].get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
        assert!(refused("postgres://me@db.plant.example/landfast").contains("in clear"));
        assert!(refused("postgres://me@127.0.0.1,10.0.0.1/landfast").contains("in clear"));
        assert!(refused("postgres://me@[::1]/landfast?sslmode=require").contains("ca_file"));
        assert!(refused("user=me dbname=x").contains("no host"));
        assert!(refused("host=/run/a user=me").contains("no user, or no database"));
        assert!(
            refused("host=/run/a user=me dbname=x target_session_attrs=read-only").contains("only reads")
        );
        assert!(refused("nonsense").contains("not a connection string"));
        let twice = PostgresConfig::parse(
            "postgres://me:secret@localhost/l",
            Some(PathBuf::from("/x")),
            None,
        );
        assert!(!twice.unwrap_err().to_string().contains("secret"));
    }

    #[test]
    fn a_password_is_the_first_line_of_a_file_that_is_not_for_everybody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        let mut file = std::fs::File::create(&path).unwrap();
        std::io::Write::write_all(&mut file, b"secret\nmore\n").unwrap();
        let mode = |mode| {
            file.set_permissions(std::fs::Permissions::from_mode(mode))
                .unwrap()
        };
        mode(0o640);
        let text = "postgres://me@localhost/landfast";
        let target = PostgresConfig::parse(text, Some(path), None).unwrap();
        assert_eq!(target.attempts().unwrap()[0].get_password(), Some(&b"secret"[..]));
        mode(0o644);
        assert!(
            target
                .attempts()
                .unwrap_err()
                .to_string()
                .contains("open to everybody")
        );
    }
}
