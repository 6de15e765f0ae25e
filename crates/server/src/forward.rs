//! The ledger's records, forwarded to where others watch: syslog over TLS, OTLP, lines of JSON.
//!
//! Invariant: it reads what a checkpoint names, from the files of the ledger, behind a cursor that is on the disk; the cursor goes on when a
//! destination has taken what is before it. So nothing is lost by outages and restarts, what is in doubt comes twice, and nothing here is waited for.

mod batch;
mod cursor;
mod http;
mod lines;
mod otlp;
mod pace;
mod portion;
mod sink;
mod syslog;
mod wire;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use landfast_audit::verify::DirSource;
use landfast_daemon::{TaskHandle, error_chain};
use landfast_lifecycle::SharedClock;
use landfast_store::{Store, StoreError};

use crate::config::ServerConfig;
use crate::ledger;
use batch::{Batch, BatchError};
use cursor::Cursor;
use pace::Pace;
use portion::Portion;
use sink::Sink;
pub(crate) use sink::SinkError;

/// A destination, as the configuration has it.
#[derive(Clone, Debug)]
pub struct ForwardConfig {
    /// What its cursor and its metrics are called.
    pub name: String,
    /// Where records go.
    pub target: Target,
    /// Authorities of the receiver's certificate, in PEM; those of the system when not given.
    pub ca_file: Option<PathBuf>,
}

/// Where records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// RFC 5424 with octet counting (RFC 5425), over TLS or, on this machine alone, plain.
    Syslog {
        /// A name or an address.
        host: String,
        /// The port.
        port: u16,
        /// Whether it is encrypted.
        tls: bool,
    },
    /// OTLP's logs over HTTP, in protobuf.
    Otlp {
        /// A name or an address.
        host: String,
        /// The port.
        port: u16,
        /// Whether it is https.
        tls: bool,
        /// Where, such as `/v1/logs`.
        path: String,
    },
    /// A line of JSON each, at the end of a file that others may move away.
    File(PathBuf),
    /// The same into a Unix socket.
    Unix(PathBuf),
}

/// Starts a task for each destination.
///
/// # Errors
/// The directory of the cursors cannot be used.
pub(crate) fn start(
    config: &ServerConfig,
    clock: &SharedClock,
    tasks: &TaskHandle,
) -> Result<(), StoreError> {
    let Some(data_dir) = config.data_dir.as_ref().filter(|_| !config.forward.is_empty()) else {
        return Ok(());
    };
    let ledger = config.ledger_dir.clone();
    let ledger = ledger.unwrap_or_else(|| data_dir.join(ledger::DIRECTORY));
    let cursors = Store::open(&data_dir.join(DIRECTORY))?;
    for config in &config.forward {
        let forwarder = Forwarder::new(config, cursors.clone(), &ledger, Arc::clone(clock));
        let stop = tasks.token();
        tasks.spawn(format!("forward-{}", config.name), async move {
            stop.run_until_cancelled(forwarder.keep())
                .await
                .unwrap_or_default();
        });
    }
    Ok(())
}

/// One destination.
struct Forwarder {
    name: String,
    source: DirSource,
    cursors: Store,
    sink: Arc<Sink>,
    pace: Pace,
    portion: Portion,
}

/// Why nothing was forwarded.
#[derive(Debug, thiserror::Error)]
enum ForwardError {
    #[error("the ledger cannot be read")]
    Read {
        #[from]
        source: BatchError,
    },
    #[error("the cursor cannot be read: move it away, and all records are sent again")]
    Cursor {
        #[from]
        source: StoreError,
    },
    #[error("the destination has not taken the records")]
    Sink {
        #[from]
        source: SinkError,
    },
    #[error("the destination has not taken the records in {} s", DELIVERY.as_secs())]
    Late,
}

impl ForwardError {
    /// Whether less at once may pass.
    fn is_of_size(&self) -> bool {
        match self {
            Self::Late => true,
            Self::Sink { source } => matches!(
                source,
                SinkError::Broken(_) | SinkError::Http(_) | SinkError::Status(TOO_LARGE)
            ),
            Self::Read { .. } | Self::Cursor { .. } => false,
        }
    }
}

impl Forwarder {
    fn new(config: &ForwardConfig, cursors: Store, ledger: &Path, clock: SharedClock) -> Self {
        Self {
            name: config.name.clone(),
            source: DirSource::new(ledger),
            cursors,
            sink: Arc::new(Sink::new(config, clock)),
            pace: Pace::default(),
            portion: Portion::default(),
        }
    }

    async fn keep(mut self) {
        let mut cursor = None;
        loop {
            let pause = match self.step(&mut cursor).await {
                Ok(0) => POLL,
                Ok(_) => self.well(),
                Err(error) => self.trouble(&error),
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Forwards what comes next; gives how many messages that were. What is begun ends, or is done again.
    async fn step(&mut self, cursor: &mut Option<Cursor>) -> Result<usize, ForwardError> {
        let (source, cursors, name) = (self.source.clone(), self.cursors.clone(), self.name.clone());
        let (known, most) = (cursor.take(), self.portion.bytes());
        let read = move || {
            let known = match known {
                Some(known) => known,
                None => Cursor::load(&cursors, &name)?,
            };
            Ok::<_, ForwardError>((Batch::after(&source, &known, most)?, known))
        };
        let (batch, known) = blocking(read).await?;
        metrics::gauge!("landfast_server_forward_lag_records", "to" => self.name.clone())
            .set(batch.size.saturating_sub(known.next) as f64);
        if batch.messages.is_empty() {
            *cursor = Some(known);
            return Ok(0);
        }
        let (count, gap) = (batch.messages.len(), batch.gap);
        let next = Cursor {
            origin: batch.origin.clone(),
            next: batch.next,
            last: batch.last.clone(),
        };
        let lag = batch.size.saturating_sub(batch.next);
        let delivered = tokio::time::timeout(DELIVERY, self.sink.deliver(batch)).await;
        let delivered = delivered.map_err(|_elapsed| ForwardError::Late);
        if let Err(error) = delivered.and_then(|delivered| delivered.map_err(ForwardError::from)) {
            if error.is_of_size() {
                self.portion.less();
            }
            *cursor = Some(known);
            return Err(error);
        }
        self.portion.more();
        if let Some(gap) = gap {
            metrics::counter!("landfast_server_forward_gap_records_total", "to" => self.name.clone())
                .increment(gap);
            tracing::error!(
                to = self.name,
                first = known.next,
                records = gap,
                "records were removed from the ledger before they were forwarded"
            );
        }
        metrics::counter!("landfast_server_forward_records_total", "to" => self.name.clone())
            .increment(count as u64);
        metrics::gauge!("landfast_server_forward_lag_records", "to" => self.name.clone()).set(lag as f64);
        self.save(&next).await;
        *cursor = Some(next);
        Ok(count)
    }

    /// What cannot be saved is sent again after a restart.
    async fn save(&self, cursor: &Cursor) {
        let (cursors, name, cursor) = (self.cursors.clone(), self.name.clone(), cursor.clone());
        let saved = blocking(move || Ok(cursor.save(&cursors, &name)?)).await;
        if let Err(error) = saved {
            metrics::counter!("landfast_server_forward_failures_total", "to" => self.name.clone())
                .increment(1);
            let error = error_chain(&error);
            tracing::warn!(
                to = self.name,
                error,
                "how far records are forwarded cannot be written: a restart sends them again"
            );
        }
    }

    fn well(&mut self) -> Duration {
        if self.pace.mend() {
            tracing::info!(to = self.name, "records of the ledger are forwarded again");
        }
        Duration::ZERO
    }

    fn trouble(&mut self, error: &ForwardError) -> Duration {
        metrics::counter!("landfast_server_forward_failures_total", "to" => self.name.clone()).increment(1);
        let is_first = self.pace.is_well();
        let pause = self.pace.fail();
        let error = error_chain(error);
        match is_first {
            true => tracing::error!(
                to = self.name,
                error,
                "records of the ledger are not forwarded; they wait in the ledger, and it is tried again at least every {} s",
                pace::LONGEST.as_secs()
            ),
            false => tracing::debug!(to = self.name, error, "records of the ledger are not forwarded"),
        }
        pause
    }
}

/// Off the threads that answer.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ForwardError> + Send + 'static,
) -> Result<T, ForwardError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends, and this task with it.
            Err(_cancelled) => std::future::pending().await,
        },
    }
}

/// The directory of the cursors in the data directory.
const DIRECTORY: &str = "forward";
/// Between two looks whether there is a new checkpoint.
const POLL: Duration = Duration::from_secs(1);
/// For one batch, from the connection to the last byte.
const DELIVERY: Duration = Duration::from_secs(60);
/// What a collector answers to more than it takes (RFC 9110 §15.5.14).
const TOO_LARGE: u16 = 413;
/// Destinations in one configuration.
pub(crate) const MOST_DESTINATIONS: usize = 8;

#[cfg(test)]
mod tests;
