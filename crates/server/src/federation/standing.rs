//! How each relationship fares: what the log has been told, and the metrics. Invariant: one complaint for one cause.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use landfast_daemon::error_chain;
use landfast_identity::TrustDomain;
use tokio::time::Instant;

use super::round::RoundError;

/// Of those there are, at most as many as relationships.
#[derive(Default)]
pub(super) struct Standings(Mutex<BTreeMap<TrustDomain, Standing>>);

#[derive(Default)]
struct Standing {
    succeeded: Option<Instant>,
    complained: Option<String>,
}

/// What the log is told.
#[derive(PartialEq, Eq, Debug)]
enum Said {
    Again,
    Rollback(String),
    Failed(String),
}

impl Standing {
    /// What is news about this outcome: a complaint is said once, until it is over or another one.
    fn news(&mut self, outcome: &Result<bool, RoundError>) -> Option<Said> {
        let Err(error) = outcome else {
            self.succeeded = Some(Instant::now());
            return self.complained.take().map(|_| Said::Again);
        };
        let text = short(error_chain(error));
        if self.complained.as_ref() == Some(&text) {
            return None;
        }
        self.complained = Some(text.clone());
        Some(match error.is_rollback() {
            true => Said::Rollback(text),
            false => Said::Failed(text),
        })
    }
}

impl Standings {
    /// Notes how a round ended, and says it when it is news.
    pub(super) fn heed(&self, trust_domain: &TrustDomain, outcome: &Result<bool, RoundError>) {
        let rollback = outcome.as_ref().is_err_and(RoundError::is_rollback);
        gauge(ROLLBACK, trust_domain, f64::from(u8::from(rollback)));
        let news = self.lock().entry(trust_domain.clone()).or_default().news(outcome);
        match news {
            None => {}
            Some(Said::Again) => {
                tracing::info!(%trust_domain, "the bundle of a federated trust domain is fetched again");
            }
            Some(Said::Rollback(error)) => tracing::error!(
                %trust_domain, error,
                "a federated trust domain publishes an older or another bundle than before: the one we have stays. Ask its operators; \
                 if it is meant, landfast bundle set stores it"
            ),
            Some(Said::Failed(error)) => tracing::warn!(
                %trust_domain, error,
                "the bundle of a federated trust domain cannot be fetched: the one we have stays; asking again at the usual time"
            ),
        }
    }

    /// Shows for how long nobody has been heard.
    pub(super) fn show(&self, trust_domain: &TrustDomain) {
        let succeeded = self
            .lock()
            .get(trust_domain)
            .and_then(|standing| standing.succeeded);
        gauge(
            SINCE,
            trust_domain,
            succeeded.map_or(-1.0, |at| at.elapsed().as_secs_f64()),
        );
    }

    /// The relationship is over: nothing to alarm about remains.
    pub(super) fn forget(&self, trust_domain: &TrustDomain) {
        self.lock().remove(trust_domain);
        gauge(SINCE, trust_domain, 0.0);
        gauge(ROLLBACK, trust_domain, 0.0);
    }

    /// Whether anything was heard.
    #[cfg(test)]
    pub(super) fn knows(&self, trust_domain: &TrustDomain) -> bool {
        self.lock().contains_key(trust_domain)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TrustDomain, Standing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn gauge(name: &'static str, trust_domain: &TrustDomain, value: f64) {
    metrics::gauge!(name, "trust_domain" => trust_domain.to_string()).set(value);
}

/// A key ID in a document may fill a screen.
fn short(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_TEXT) {
        text.truncate(end);
        text.push('…');
    }
    text
}

const SINCE: &str = "landfast_server_federation_seconds_since_last_success";
const ROLLBACK: &str = "landfast_server_federation_rollback_refused";
const MAX_TEXT: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::RegistryError;

    fn older(published: u64) -> Result<bool, RoundError> {
        let trust_domain = TrustDomain::parse("site.example").unwrap();
        Err(RoundError::Refused {
            source: RegistryError::OlderBundle {
                trust_domain,
                stored: 9,
                published,
            },
        })
    }

    #[tokio::test(start_paused = true)]
    async fn one_cause_is_complained_of_once() {
        let mut standing = Standing::default();
        assert_eq!(standing.news(&Ok(true)), None);
        let rollback = |news| matches!(news, Some(Said::Rollback(_)));
        assert!(rollback(standing.news(&older(8))));
        assert_eq!(standing.news(&older(8)), None);
        assert!(rollback(standing.news(&older(7))), "another cause");
        assert!(matches!(
            standing.news(&Err(RoundError::NoRoots)),
            Some(Said::Failed(_))
        ));
        assert_eq!(standing.news(&Err(RoundError::NoRoots)), None);
        assert_eq!(standing.news(&Ok(false)), Some(Said::Again));
        assert_eq!(standing.news(&Ok(false)), None);
        assert!(rollback(standing.news(&older(7))), "and again after it was over");
        tokio::time::advance(std::time::Duration::from_secs(60)).await;
        assert_eq!(
            standing.succeeded.unwrap().elapsed().as_secs(),
            60,
            "a failure is no success"
        );
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(short("é".repeat(500)).chars().count(), MAX_TEXT + 1);
        assert_eq!(short("short".to_owned()), "short");
    }
}
