//! What connections and streams cost the agent, and what it gives back.

use std::path::Path;
use std::time::Duration;

use landfast_testkit::raw::{Event, RawClient};
use landfast_testkit::site::Site;

use crate::chart::Series;
use crate::report::Report;
use crate::{BoxError, own_uid, unlimited};

pub(crate) async fn measure(bin: &Path, report: &mut Report) -> Result<(), BoxError> {
    let mut charted = [Series::new("open"), Series::new("10 s after all have closed")];
    for (connections, streams, aim) in [
        (500, 1, "30"),
        (2_500, 1, ""),
        (10_000, 1, "320 glibc, 360 musl"),
        (100, 1, ""),
        (100, 10, ""),
        (100, 100, "120"),
    ] {
        // A new agent each time: what an earlier size left behind would count for the next.
        let site = unlimited(bin, report);
        site.entry("/w", &[&format!("unix:uid:{}", own_uid())]);
        let label = format!("{connections} connections with {streams} streams each");
        let held = open(&site, connections, streams).await?;
        let open = site.agent.pss() as f64 / 1e6;
        let aim = if aim.is_empty() {
            String::new()
        } else {
            format!(" (aim <= {aim})")
        };
        report.add(&format!("{label}: PSS of the agent{aim}"), "MB", open);
        if connections * streams == 10_000 {
            let before = site.agent.cpu();
            tokio::time::sleep(Duration::from_secs(10)).await;
            let idle = (site.agent.cpu() - before).as_secs_f64() / 10.0 * 100.0;
            report.add(
                &format!("{label}: CPU while nothing happens (aim <= 1)"),
                "%",
                idle,
            );
        }
        drop(held);
        tokio::time::sleep(Duration::from_secs(10)).await;
        let closed = site.agent.pss() as f64 / 1e6;
        report.add(
            &format!("{label}: 10 s after all have closed (aim <= 20)"),
            "MB",
            closed,
        );
        charted[0].push(format!("{connections} x {streams}"), open);
        charted[1].push(format!("{connections} x {streams}"), closed);
    }
    report.chart(
        "memory",
        "Memory of the agent",
        "connections x streams on each",
        "MB PSS",
        &charted,
    )
}

/// Opens them one after the other, and waits until each stream has had its SVID.
async fn open(site: &Site, connections: usize, streams: usize) -> Result<Vec<RawClient>, BoxError> {
    let mut held = Vec::with_capacity(connections);
    for _ in 0..connections {
        let mut client = RawClient::connect(&site.socket()).await?;
        for _ in 0..streams {
            client.open().await?;
        }
        let mut served = 0;
        while served < streams {
            match client.event().await? {
                Event::Message { .. } => served += 1,
                Event::Ended { stream } => return Err(format!("stream {stream} was refused").into()),
            }
        }
        held.push(client);
    }
    Ok(held)
}
