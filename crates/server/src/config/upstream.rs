//! What `[upstream]` says. Invariant: one authority above ours at most. The files are read when the server starts, and by `check`: a server that
//! has something to sign with starts with whatever is in them.

use std::sync::Arc;

use landfast_daemon::config::ConfigError;
use landfast_identity::{SpiffeId, TrustDomain};
use landfast_lifecycle::{SharedClock, SystemClock};

use super::raw::RawUpstream;
use super::{Checker, ServerConfig};
use crate::upstream::{DiskConfig, ParentConfig, UpstreamCheckError, UpstreamConfig};

impl ServerConfig {
    /// Looks also at what a start can do without when there is something to sign with: the files of the authority above ours.
    ///
    /// # Errors
    /// Why they are of no use.
    pub fn check_upstream(&self) -> Result<(), UpstreamCheckError> {
        let clock: SharedClock = Arc::new(SystemClock);
        match &self.upstream {
            Some(upstream) => Ok(upstream.check(&self.trust_domain, &clock)?),
            None => Ok(()),
        }
    }
}

impl Checker<'_> {
    pub(super) fn upstream(
        &self,
        raw: RawUpstream,
        trust_domain: &TrustDomain,
    ) -> Result<Option<UpstreamConfig>, ConfigError> {
        match (raw.disk, raw.spire) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(self.invalid(
                "upstream",
                "disk and spire",
                "one of [upstream.disk] and [upstream.spire]",
            )),
            (Some(disk), None) => Ok(Some(UpstreamConfig::Disk(DiskConfig {
                cert: self.absolute("upstream.disk.cert_file", disk.cert_file)?,
                key: self.absolute("upstream.disk.key_file", disk.key_file)?,
                bundle: disk
                    .bundle_file
                    .map(|path| self.absolute("upstream.disk.bundle_file", path))
                    .transpose()?,
            }))),
            (None, Some(parent)) => {
                let address = host_and_port(&parent.server).ok_or_else(|| {
                    let expected =
                        "the parent server's host and port, such as \"landfast.plant.example:8081\"";
                    self.invalid("upstream.spire.server", &parent.server, expected)
                })?;
                let key = "upstream.spire.workload_api";
                let path = parent.workload_api.strip_prefix("unix://");
                if !path.unwrap_or(&parent.workload_api).starts_with('/') {
                    let expected = "the agent's socket, such as \"unix:///run/landfast/agent/api.sock\"";
                    return Err(self.invalid(key, &parent.workload_api, expected));
                }
                let id = parent.spiffe_id.map(|text| {
                    let id = SpiffeId::parse(&text).ok();
                    let id = id.filter(|id| id.trust_domain() == trust_domain && !id.path().is_empty());
                    id.ok_or_else(|| {
                        let expected = format!("a SPIFFE ID of {trust_domain} with a path");
                        self.invalid("upstream.spire.spiffe_id", &text, &expected)
                    })
                });
                Ok(Some(UpstreamConfig::Spire(ParentConfig {
                    host: address.0,
                    port: address.1,
                    workload_api: parent.workload_api,
                    spiffe_id: id.transpose()?,
                })))
            }
        }
    }
}

/// A name, an IPv4 address, or an IPv6 address in brackets; a colon and a port.
fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once("]:")?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, port)
        }
        None => {
            let (host, port) = text.rsplit_once(':')?;
            let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            let plain = !host.is_empty() && host.len() <= 253 && host.chars().all(name);
            (plain.then_some(host)?, port)
        }
    };
    let port = port.parse().ok().filter(|port| *port != 0)?;
    Some((host.to_owned(), port))
}

#[cfg(test)]
mod tests;
