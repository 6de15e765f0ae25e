//! What clients may take of the server, as configured.

use landfast_daemon::config::{ConfigError, HumanSize};

use super::Checker;
use super::raw::RawLimits;

/// See `limits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// TLS connections at a time.
    pub connections: usize,
    /// Attestations a second: from one address, or of one identity that shows a certificate.
    pub attestations: u32,
    /// X.509-SVIDs a second of one SPIFFE ID in the long run, and as many JWT-SVIDs.
    pub signatures: u32,
    /// The same, at once after a rest.
    pub signatures_burst: u32,
    /// Requests for signatures that wait or are served at a time.
    pub signing_queue: usize,
    /// Bytes of their messages.
    pub signing_queue_bytes: usize,
    /// Bytes of all synchronisations and steps of subscriptions under way.
    pub answers_bytes: usize,
    /// HTTPS handshakes a second of one address, where the trust domain is shown to others.
    pub publish_handshakes: u32,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 4096,
            attestations: 10,
            // Each is a row on disk for a month. 10,000 entries renewed each half hour are 5.6 a second; twice they are had at once.
            signatures: 10,
            signatures_burst: 20_000,
            signing_queue: 4096,
            signing_queue_bytes: 32 * 1024 * 1024,
            answers_bytes: 32 * 1024 * 1024,
            publish_handshakes: 20,
        }
    }
}

impl Checker<'_> {
    pub(super) fn limits(&self, raw: &RawLimits) -> Result<ServerLimits, ConfigError> {
        let defaults = ServerLimits::default();
        let limit = |key: &str, value: Option<u32>, default: u32| match value {
            Some(0) => Err(self.invalid(key, "0", "a number of at least 1")),
            value => Ok(value.unwrap_or(default)),
        };
        let size = |key: &str, value: Option<HumanSize>, default: usize| {
            let Some(value) = value else { return Ok(default) };
            match usize::try_from(value.bytes()) {
                Ok(bytes @ LEAST_BYTES..=MOST_BYTES) => Ok(bytes),
                _ => Err(self.invalid(key, &format!("{} B", value.bytes()), "1MiB to 4GiB")),
            }
        };
        Ok(ServerLimits {
            connections: match raw.connections {
                None => defaults.connections,
                Some(count @ 1..=65_536) => count,
                Some(other) => {
                    return Err(self.invalid("limits.connections", &other.to_string(), "1 to 65536"));
                }
            },
            attestations: limit(
                "limits.attestations_per_second",
                raw.attestations_per_second,
                defaults.attestations,
            )?,
            signatures: limit(
                "limits.signatures_per_second",
                raw.signatures_per_second,
                defaults.signatures,
            )?,
            signatures_burst: limit(
                "limits.signatures_burst",
                raw.signatures_burst,
                defaults.signatures_burst,
            )?,
            signing_queue: match raw.signing_queue {
                None => defaults.signing_queue,
                Some(count @ 64..=65_536) => count,
                Some(other) => {
                    return Err(self.invalid("limits.signing_queue", &other.to_string(), "64 to 65536"));
                }
            },
            signing_queue_bytes: size(
                "limits.signing_queue_size",
                raw.signing_queue_size,
                defaults.signing_queue_bytes,
            )?,
            answers_bytes: size("limits.answers_size", raw.answers_size, defaults.answers_bytes)?,
            publish_handshakes: limit(
                "limits.publish_handshakes_per_second",
                raw.publish_handshakes_per_second,
                defaults.publish_handshakes,
            )?,
        })
    }
}

/// The largest message of an agent; of an answer, four pages of what agents have.
const LEAST_BYTES: usize = 1024 * 1024;
const MOST_BYTES: usize = 4 * 1024 * 1024 * 1024;
