//! What a server does by itself, for as long as it runs.

use std::sync::Arc;

use landfast_daemon::TaskHandle;
use landfast_lifecycle::SharedClock;

use super::clients::Clients;
use super::own_svid::OwnSvid;
use crate::backup;
use crate::core::Core;
use crate::federation::Federation;
use crate::push;

/// The tasks that have no end: maintenance, federation, the own SVID, the bundle that clients are verified with, the notes of backups.
pub(super) fn keep(
    core: &Core,
    own: OwnSvid,
    clients: Clients,
    (federation, clock): (Federation, &SharedClock),
    tasks: &TaskHandle,
) {
    let stop = tasks.token();
    let maintenance = core.maintenance();
    tasks.spawn("maintenance", async move {
        stop.run_until_cancelled(maintenance).await.unwrap_or_default()
    });
    let (stop, peers) = (tasks.token(), federation.keep(tasks.clone()));
    tasks.spawn("federation", async move {
        stop.run_until_cancelled(peers).await.unwrap_or_default()
    });
    let (stop, upstream) = (tasks.token(), Arc::clone(&core.authorities).keep_to_upstream());
    tasks.spawn("upstream", async move {
        stop.run_until_cancelled(upstream).await.unwrap_or_default()
    });
    let (stop, pushing) = (
        tasks.token(),
        push::keep(Arc::clone(&core.authorities), Arc::clone(&core.registry)),
    );
    tasks.spawn("subscribers", async move {
        stop.run_until_cancelled(pushing).await.unwrap_or_default();
    });
    let stop = tasks.token();
    tasks.spawn("own-svid", async move {
        stop.run_until_cancelled(own.keep()).await.unwrap_or_default()
    });
    let stop = tasks.token();
    tasks.spawn("bundle", async move {
        stop.run_until_cancelled(clients.keep()).await.unwrap_or_default();
    });
    let stop = tasks.token();
    let noted = backup::keep_notes(Arc::clone(&core.registry), core.ledger.clone(), Arc::clone(clock));
    tasks.spawn("backups", async move {
        stop.run_until_cancelled(noted).await.unwrap_or_default();
    });
}
