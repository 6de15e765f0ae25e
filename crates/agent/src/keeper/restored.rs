//! A keeper that begins with what was held before. Invariant: all of it is published before the keeper is handed out, so before a socket opens.

use std::sync::Arc;

use landfast_lifecycle::SharedClock;

use super::state::{Event, Reach, Snapshot, State};
use super::{Keeper, KeeperHandle, Views};
use crate::telemetry;

impl Keeper {
    pub(crate) fn restored(
        views: Views,
        clock: SharedClock,
        before: Option<&Arc<Snapshot>>,
    ) -> (Self, KeeperHandle) {
        let (mut keeper, handle) = Self::new(views, clock);
        if let Some(snapshot) = before {
            keeper.state = State::restored(snapshot);
            let now = keeper.clock.now();
            keeper.views.publish(Arc::clone(snapshot), &Reach::All, now);
            if let Some(now) = now {
                telemetry::held(snapshot, now);
            }
            // So that it wakes for what ends first, and says what is due.
            drop(keeper.handle(Event::Tick));
        }
        (keeper, handle)
    }
}
