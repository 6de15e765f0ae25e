//! The link's one connection: made when needed, given up when it fails.
//!
//! Invariant: what is handed out was verified to be the server of our trust domain.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use landfast_daemon::error_chain;
use landfast_identity::{SpiffeId, TrustDomain};
use landfast_lifecycle::SharedClock;
use landfast_tls::Expect;
use tonic::transport::{Channel, Endpoint};

use super::dial::Dialled;
use super::failure::LinkError;
use super::time::Vouched;
use super::{Link, attest};

impl Link {
    /// The connection in use, or a new one that shows our SVID.
    pub(super) async fn channel(&mut self) -> Result<Channel, LinkError> {
        let current = self.channel.borrow().clone().filter(|_| !self.leaving);
        if let Some(channel) = current {
            return Ok(channel);
        }
        let channel = self.connect(true).await?;
        if self.leaving {
            self.hang_up();
        }
        // Calls that are under way keep the connection that they began on.
        self.channel.send_replace(Some(channel.clone()));
        drop(attest::post_status(channel.clone(), 0).await);
        self.register_device(&channel).await;
        Ok(channel)
    }

    /// Servers are verified at the time of this clock.
    pub(super) async fn dial(&self, show_svid: bool, clock: SharedClock) -> Result<Dialled, LinkError> {
        let now = clock.now().ok_or(LinkError::NoClock)?;
        let expect = Expect::Exactly(SpiffeId::server(&self.settings.trust_domain));
        let identity = show_svid.then(|| self.identity.clone());
        let tls = landfast_tls::client_config(expect, self.bundles.clone(), identity, clock)
            .map_err(|error| LinkError::protocol("TLS", error_chain(&error)))?;
        let dialler = &self.settings.dialler;
        dialler
            .dial(self.rota.begin(), &tls, now)
            .await
            .map_err(LinkError::Dial)
    }

    pub(super) async fn connect(&mut self, show_svid: bool) -> Result<Channel, LinkError> {
        let dialled = match self.dial(show_svid, Arc::clone(&self.clock)).await {
            Err(LinkError::Dial(error))
                if self.ask_the_time(&error).await || self.walk_to_servers(&error).await =>
            {
                self.dial(show_svid, Arc::clone(&self.clock)).await
            }
            dialled => dialled,
        }?;
        self.rota.reached(dialled.server);
        self.floor.listener.vouched = Vouched::by(&dialled);
        let address = dialled.address.clone();
        let channel = channel_over(dialled, &self.settings.trust_domain, self.settings.keep_alive).await?;
        self.status.send_modify(|status| {
            status.reachable = true;
            if status.address != address {
                tracing::info!(%address, "connected to the server");
                status.address = address;
            }
        });
        Ok(channel)
    }
}

/// HTTP/2 over one verified connection. It is not replaced by itself when it breaks: the link dials anew.
pub(super) async fn channel_over(
    dialled: Dialled,
    trust_domain: &TrustDomain,
    keep_alive: Duration,
) -> Result<Channel, LinkError> {
    let mut stream = Some(TokioIo::new(dialled.stream));
    let connector = tower::service_fn(move |_: http::Uri| {
        let stream = stream.take();
        async move { stream.ok_or_else(|| std::io::Error::other("the connection was closed")) }
    });
    let failed = |error: tonic::transport::Error| LinkError::protocol("HTTP/2", error_chain(&error));
    Endpoint::from_shared(format!("http://{}", trust_domain.as_str()))
        .or_else(|_| Endpoint::from_shared("http://server"))
        .map_err(failed)?
        .http2_keep_alive_interval(keep_alive)
        .keep_alive_timeout(silence(keep_alive))
        .keep_alive_while_idle(true)
        .connect_timeout(HANDSHAKE)
        .connect_with_connector(connector)
        .await
        .map_err(failed)
}

/// How long a ping may go unanswered: a server that is loaded or whose disk stands still for a moment is not dead.
fn silence(keep_alive: Duration) -> Duration {
    (keep_alive * 2).min(LONGEST_SILENCE)
}

const HANDSHAKE: Duration = Duration::from_secs(10);
/// A ping that is not answered for so long never is.
const LONGEST_SILENCE: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_stands_still_for_two_signs_of_life_is_not_left() {
        let after = |seconds| silence(Duration::from_secs(seconds)).as_secs();
        assert_eq!((after(1), after(5), after(10)), (2, 10, 20));
        assert_eq!(
            (after(60), after(300)),
            (20, 20),
            "a dead one is left all the same"
        );
    }
}
