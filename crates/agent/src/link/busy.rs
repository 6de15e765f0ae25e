//! When a server that has no room for more is asked again.
//!
//! Invariant: while the time that the server named is not over, nothing of the kind is asked of it; what is held is kept, and the connection too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::failure::LinkError;

/// For the link's own orders.
#[derive(Default)]
pub(super) struct Busy {
    until: Option<Instant>,
}

impl Busy {
    /// Whether the failure is nothing but that: then it counts from now.
    pub(super) fn note(&mut self, error: &LinkError) -> bool {
        let Some(pushback) = error.pushback() else {
            return false;
        };
        let error = landfast_daemon::error_chain(error);
        tracing::info!(error, again_in = ?pushback, "the server is busy; what is held stays and is served");
        self.until = Some(Instant::now() + pushback).max(self.until);
        true
    }

    pub(super) fn until(&self) -> Option<Instant> {
        self.until.filter(|until| *until > Instant::now())
    }

    pub(super) fn is_over(&self) -> bool {
        self.until().is_none()
    }
}

/// For questions of those who wait, by kind.
#[derive(Clone, Default)]
pub(crate) struct Pauses(Arc<Mutex<HashMap<&'static str, Pause>>>);

/// The server's last word.
struct Pause {
    until: Instant,
    method: &'static str,
    code: tonic::Code,
    message: String,
}

impl Pauses {
    pub(super) fn note(&self, kind: &'static str, error: &LinkError) {
        if let LinkError::Refused {
            method,
            code,
            message,
            pushback: Some(pushback),
            ..
        } = error
        {
            let pause = Pause {
                until: Instant::now() + *pushback,
                method,
                code: *code,
                message: message.clone(),
            };
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(kind, pause);
        }
    }

    /// What the server would say.
    pub(super) fn refusal(&self, kind: &'static str) -> Option<LinkError> {
        let pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = pauses.get(kind)?;
        let left = pause.until.saturating_duration_since(Instant::now());
        (left > Duration::ZERO).then(|| LinkError::Refused {
            method: pause.method,
            code: pause.code,
            message: pause.message.clone(),
            denial: None,
            by_server: true,
            pushback: Some(left),
        })
    }
}
