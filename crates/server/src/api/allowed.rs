//! What an agent may have, when there is room to say it. Invariant: who waits for room is not answered from before.

use std::sync::Arc;

use landfast_identity::SpiffeId;
use tonic::Status;

use super::status::stale;
use crate::answers::{Reservation, Way, of_page};
use crate::authority::Authorities;
use crate::registry::{Entry, Registry, Revision};

/// What there is to be said.
pub(super) struct Allowed {
    pub(super) revision: Revision,
    pub(super) entries: Vec<Arc<Entry>>,
    pub(super) room: Reservation,
}

/// With room for a page of so many, or for all in one message.
///
/// # Errors
/// This server may know less than another; there is no room (see [`Way::room`]), or never would be for so much at once.
pub(super) async fn allowed(
    authorities: &Authorities,
    registry: &Registry,
    agent: &SpiffeId,
    way: &Way,
    page: Option<usize>,
) -> Result<Allowed, Status> {
    let mut waited: Option<(usize, Reservation)> = None;
    loop {
        authorities.current().map_err(|error| stale(&error))?;
        let authorized = registry.authorized(agent);
        let entries = authorized.entries.iter().map(|found| Arc::clone(&found.entry));
        let entries: Vec<_> = entries.collect();
        let revision = authorized.revision;
        let bytes = of_page(&entries, page.unwrap_or(entries.len()));
        if page.is_none() && !way.may_be_one(bytes) {
            return Err(Status::resource_exhausted(TOO_MANY));
        }
        // What has grown meanwhile waits again, and without the room that it has: that would be lost to others.
        let enough = waited.take().filter(|(has, _room)| *has >= bytes);
        let is_new = enough.is_some();
        let room = match enough {
            Some((_has, room)) => room,
            None => way.room(bytes).await?,
        };
        if is_new || (registry.revision() == revision && authorities.current().is_ok()) {
            return Ok(Allowed {
                revision,
                entries,
                room,
            });
        }
        waited = Some((bytes, room));
    }
}

const TOO_MANY: &str = "this agent has more entries than go into one answer: ask by SyncAuthorizedEntries, which sends them in pages (SPIRE's agents \
    do from 1.12 on), or give the server a larger `limits.answers_size`";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use landfast_identity::{Selector, SelectorSet};
    use tonic::Code;

    use super::*;
    use crate::answers::Budget;
    use crate::core::fixture::{Rig, agent, draft, id};

    const NODE: &str = "/spire/agent/x/1";

    async fn rig() -> Rig {
        let rig = Rig::new().await;
        let record = agent(NODE, "0a", &["x:node:1"]);
        rig.core.registry.upsert_agent_on_attest(record).await.unwrap();
        rig
    }

    async fn ask(rig: &Rig, way: &Way, page: Option<usize>) -> Result<Allowed, Status> {
        let core = &rig.core;
        allowed(&core.authorities, &core.registry, &id(NODE), way, page).await
    }

    #[tokio::test]
    async fn who_waited_for_room_is_told_what_is_so_now() {
        let rig = rig().await;
        let (_one, two) = (
            rig.entry(draft(NODE, "/one")).await,
            rig.entry(draft(NODE, "/two")).await,
        );
        let budget = Budget::new(1 << 20);
        let mut held = Vec::new();
        for n in ["/a", "/b"] {
            held.push(budget.reserve(&id(n), 128 << 10, None).await.unwrap());
        }
        for page in [None, Some(500)] {
            let way = Way::along(&budget, &id(NODE), None);
            let mut asks = Box::pin(ask(&rig, &way, page));
            assert!((&mut asks).now_or_never().is_none(), "there is no room");
            match page {
                None => drop(rig.core.registry.delete_entry(&two.id).await.unwrap()),
                Some(_) => drop(rig.entry(draft(NODE, "/three")).await),
            }
            held.pop();
            let told = asks.await.unwrap();
            assert_eq!(told.revision, rig.core.registry.revision());
            assert_eq!(told.entries.len(), if page.is_none() { 1 } else { 2 });
            drop(told);
            held.push(budget.reserve(&id("/c"), 128 << 10, None).await.unwrap());
        }
    }

    #[tokio::test]
    async fn one_answer_is_no_more_than_a_part_of_the_room_and_pages_are_the_way_around() {
        let rig = rig().await;
        let budget = Budget::new(1 << 20);
        let way = Way::along(&budget, &id(NODE), None);
        let mut large = draft(NODE, "/one");
        let path = |n| Selector::parse(&format!("unix:path:/{n}/{}", "x".repeat(4000))).unwrap();
        large.selectors = SelectorSet::from_iter((0..20).map(path));
        rig.entry(large.clone()).await;
        assert!(ask(&rig, &way, None).await.is_ok());
        large.spiffe_id = id("/two");
        rig.entry(large).await;
        let refused = ask(&rig, &way, None).await.err().unwrap();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.message().contains("SyncAuthorizedEntries"), "{refused:?}");
        let paged = tokio::time::timeout(Duration::from_secs(60), ask(&rig, &way, Some(1)));
        assert_eq!(paged.await.unwrap().unwrap().entries.len(), 2);
    }
}
