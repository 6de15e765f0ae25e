//! What the authorities did without anybody's order goes into the ledger. Invariant: also what was done before the ledger was at hand, in its order.

use std::sync::{Mutex, OnceLock, PoisonError};

use landfast_audit::Record;

use super::Authorities;
use super::plan::Step;
use crate::ledger::{Ledger, ordered};

/// Where it is told; until there is a ledger, what is to be told. No more than a start does: one step a kind and slot.
#[derive(Default)]
pub(super) struct Told {
    ledger: OnceLock<Ledger>,
    early: Mutex<Vec<Record>>,
}

impl Told {
    /// The step is durable.
    pub(super) async fn of(&self, step: &Step) {
        let record = record(step);
        match self.ledger.get() {
            Some(ledger) => ledger.own(vec![record]).await,
            None => self
                .early
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(record),
        }
    }
}

impl Authorities {
    /// What is done by itself is recorded there, from the start on.
    pub(crate) async fn recording(self, ledger: Ledger) -> Self {
        let early = std::mem::take(&mut *self.told.early.lock().unwrap_or_else(PoisonError::into_inner));
        ledger.own(early).await;
        let _set_once = self.told.ledger.set(ledger);
        self
    }
}

/// With the words of CIR (EU) 2024/2690, 9.2.
fn record(step: &Step) -> Record {
    match step {
        Step::Prepare(kind) => ordered("authority.prepared", "generating").with("kind", kind.as_str()),
        Step::Activate(kind) => ordered("authority.activated", "activating").with("kind", kind.as_str()),
        Step::Resume(id) => ordered("authority.activated", "activating").with("authority", id.clone()),
        Step::Retire(id) => ordered("authority.retired", "deactivating").with("authority", id.clone()),
        Step::Forget(id) => ordered("authority.forgotten", "destroying").with("authority", id.clone()),
    }
}
