//! What an agent has read from its disk, as it says so itself while its server is away.

use std::time::Duration;

use landfast_lifecycle::SimClock;
use landfast_proto::landfast::agent::v1::GetStatusResponse;
use landfast_proto::spire::agent::debug::v1 as debug;
use serde_json::{Value, json};

use super::{Stored, agent_at};
use crate::{NodeAgent, eventually, unix_channel};

/// Half of what an SVID of these files lives.
const STEP: Duration = Duration::from_secs(1800);

impl Stored {
    /// What the agent that has everything knows after a start without a server, and the SVIDs that it has ahead, one after the other. It is the same
    /// today as on the day on which it was written, or something was lost or made up.
    pub async fn seen(&self) -> Value {
        let plant = self.empty_plant();
        let mut node = self.agent(&plant, "node");
        let mut seen = Value::Null;
        let mut ahead = Vec::new();
        let mut lasts = None;
        for step in 0..5 {
            let clock = self.clock(Duration::from_secs(60) + STEP * step);
            let status = started(&mut node, &clock, lasts).await;
            lasts = status.identities.first().map(|held| held.lasts_until);
            if step == 0 {
                seen = json!({ "status": known(&status), "kept": numbers(&node).await });
            }
            let serials = status.identities.iter().map(|held| held.serial.as_str());
            let mut serials: Vec<_> = serials.collect();
            serials.sort_unstable();
            ahead.push(json!(serials));
            node.stop().await;
        }
        seen["serials_each_half_hour"] = json!(ahead);
        plant.tear_down([node]).await;
        seen
    }
}

async fn started(node: &mut NodeAgent, clock: &SimClock, lasts: Option<i64>) -> GetStatusResponse {
    node.start_with(agent_at(clock)).await.expect("the agent starts");
    // A reserve is read after the start: until it is there it has no end, and lasts less long than it did.
    let is_read = |status: &GetStatusResponse| match lasts {
        None => status.reserve_until != 0,
        Some(lasts) => status.identities.iter().all(|held| held.lasts_until == lasts),
    };
    let mut status = eventually("an attempt to reach its server", async || {
        let status = node.status().await;
        match !status.last_error.is_empty() && is_read(&status) {
            true => Ok(status),
            false => Err(status.standing_text),
        }
    })
    .await;
    status.identities.sort_by(|a, b| a.entry_id.cmp(&b.entry_id));
    status
}

/// What does not depend on when it is looked at, and is no wording, but for the step.
fn known(status: &GetStatusResponse) -> Value {
    let identities = status.identities.iter().map(|held| {
        json!({
            "entry_id": held.entry_id, "spiffe_id": held.spiffe_id, "selectors": held.selectors, "serial": held.serial,
            "not_after": held.not_after, "lasts_until": held.lasts_until, "debt_until": held.debt_until,
        })
    });
    let time = status.time.as_ref().expect("the time");
    json!({
        "agent_id": status.agent_id, "agent_svid_not_after": status.agent_svid_not_after,
        "newest_revision": status.newest_revision, "first_ends": status.first_ends, "valid_until": status.valid_until,
        "reserve_until": status.reserve_until, "trust_debt_until": status.trust_debt_until,
        "step": status.bundle_chain.split(',').next(), "floor": time.floor, "estimated": time.estimated,
        "identities": identities.collect::<Vec<_>>(),
    })
}

async fn numbers(node: &NodeAgent) -> Value {
    let admin = unix_channel(&node.data().with_file_name("admin.sock")).await;
    let mut client = debug::debug_client::DebugClient::new(admin.expect("the admin socket"));
    let info = client.get_info(debug::GetInfoRequest {}).await;
    let info = info.expect("an answer").into_inner();
    json!({ "x509": info.cached_x509_svids_count, "jwt": info.cached_jwt_svids_count })
}
