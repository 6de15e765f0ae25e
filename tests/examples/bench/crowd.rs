//! Rotation: thousands of workloads, each a user with an SVID of its own and an open stream; how long until all have the next one. Needs root.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use landfast_proto::spire::api::server::entry::v1 as entry_api;
use landfast_proto::spire::api::types;
use landfast_testkit::site::{Site, TRUST_DOMAIN};
use landfast_testkit::{unix_channel, wire};
use tonic::transport::Channel;

use crate::chart::Series;
use crate::report::Report;
use crate::{BoxError, own_uid, unlimited};

pub(crate) async fn measure(bin: &Path, report: &mut Report) -> Result<(), BoxError> {
    if own_uid() != 0 {
        report.note("not measured: each workload is a user of its own, which takes root");
        return Ok(());
    }
    let mut charted = [Series::new("all SVIDs replaced and pushed")];
    for size in [100, 1_000, LARGEST] {
        let site = unlimited(bin, report);
        let entries = Entries::create(&site, size).await?;
        entries.all_held(&site).await?;
        let mut crowd = Crowd::start(&site, size)?;
        let cpu = (site.agent.cpu(), site.server.cpu());
        let mut took = Vec::new();
        for round in 0..3 {
            took.push(crowd.pushed(entries.change(round)).await?);
        }
        took.sort_by(|one, other| one.0.total_cmp(&other.0));
        let (best, worst) = (took[0], took[took.len() - 1]);
        let label = format!("{size} distinct SVIDs replaced and pushed to {size} streams");
        let aim = if size == LARGEST {
            " (aim <= 1000 for 10,000)"
        } else {
            ""
        };
        report.add(&format!("{label}: best of 3{aim}"), "ms", best.0);
        report.add(
            &format!("{label}: of which the operator's change took"),
            "ms",
            best.1,
        );
        report.add(&format!("{label}: worst of 3"), "ms", worst.0);
        let each = |now: std::time::Duration, then: std::time::Duration| {
            (now - then).as_secs_f64() * 1e6 / (3.0 * f64::from(size))
        };
        report.add(
            &format!("{label}: CPU of the agent for each"),
            "µs",
            each(site.agent.cpu(), cpu.0),
        );
        report.add(
            &format!("{label}: CPU of the server for each"),
            "µs",
            each(site.server.cpu(), cpu.1),
        );
        charted[0].push(size, best.0);
    }
    report.note("from the first word of the change at the server to the last workload's having its SVID: the change, one synchronisation (200 ms), keys, signing with records, and the push");
    report.chart(
        "rotation",
        "Distinct SVIDs replaced and pushed",
        "workloads, each with a stream",
        "ms, best of 3",
        &charted,
    )
}

struct Entries {
    channel: Channel,
    entries: Vec<types::Entry>,
}

impl Entries {
    async fn create(site: &Site, count: u32) -> Result<Self, BoxError> {
        let channel = unix_channel(&site.admin_socket()).await?;
        let id = |path: &str| {
            Some(types::Spiffeid {
                trust_domain: TRUST_DOMAIN.to_owned(),
                path: path.to_owned(),
            })
        };
        let parent = site
            .agent_id()
            .trim_start_matches("spiffe://")
            .trim_start_matches(TRUST_DOMAIN);
        let wanted: Vec<_> = (0..count)
            .map(|n| types::Entry {
                spiffe_id: id(&format!("/crowd/{n}")),
                parent_id: id(parent),
                selectors: vec![types::Selector {
                    r#type: "unix".to_owned(),
                    value: format!("uid:{}", FIRST_UID + n),
                }],
                ..Default::default()
            })
            .collect();
        let mut entries = Vec::new();
        for part in wanted.chunks(500) {
            let request = entry_api::BatchCreateEntryRequest {
                entries: part.to_vec(),
                output_mask: None,
            };
            let made = entry_api::entry_client::EntryClient::new(channel.clone())
                .batch_create_entry(request)
                .await?;
            for result in made.into_inner().results {
                entries.push(result.entry.ok_or("an entry was refused")?);
            }
        }
        Ok(Self { channel, entries })
    }

    async fn all_held(&self, site: &Site) -> Result<(), BoxError> {
        let begin = Instant::now();
        while site.held() < self.entries.len() {
            if begin.elapsed() > crate::PATIENCE {
                return Err(
                    format!("the agent holds {} of {} SVIDs", site.held(), self.entries.len()).into(),
                );
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// A change to every entry, ready to be made.
    fn change(&self, round: u32) -> impl Future<Output = Result<(), BoxError>> + use<> {
        let channel = self.channel.clone();
        let mut entries = self.entries.clone();
        for entry in &mut entries {
            entry.hint = format!("round-{round}");
        }
        async move {
            let mut client = entry_api::entry_client::EntryClient::new(channel);
            for part in entries.chunks(2_000) {
                let request = entry_api::BatchUpdateEntryRequest {
                    entries: part.to_vec(),
                    input_mask: Some(types::EntryMask {
                        hint: true,
                        ..Default::default()
                    }),
                    output_mask: Some(types::EntryMask::default()),
                };
                client.batch_update_entry(request).await?;
            }
            Ok(())
        }
    }
}

struct Crowd {
    child: Child,
    orders: ChildStdin,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Crowd {
    fn start(site: &Site, count: u32) -> Result<Self, BoxError> {
        let request = site.path().join("fetch.bin");
        std::fs::write(&request, wire::fetch_x509())?;
        let rig: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/rigs/crowd");
        let mut child = Command::new(&rig)
            .arg(site.socket())
            .arg(&request)
            .args([count.to_string(), FIRST_UID.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}; tests/rigs/build builds it", rig.display()))?;
        let orders = child.stdin.take().ok_or("no standard input")?;
        let lines = BufReader::new(child.stdout.take().ok_or("no standard output")?).lines();
        let mut crowd = Self { child, orders, lines };
        crowd.expect("served ")?;
        Ok(crowd)
    }

    /// Makes the change. Answers in ms how long it took until each had its message, and how long the change itself took.
    async fn pushed(
        &mut self,
        change: impl Future<Output = Result<(), BoxError>>,
    ) -> Result<(f64, f64), BoxError> {
        writeln!(self.orders, "next")?;
        self.expect("ready ")?;
        let begin = Instant::now();
        change.await?;
        let made = begin.elapsed();
        let line = self.expect("pushed ")?;
        let all: f64 = line.rsplit(' ').next().unwrap_or_default().parse()?;
        Ok((all, made.as_secs_f64() * 1e3))
    }

    fn expect(&mut self, beginning: &str) -> Result<String, BoxError> {
        let line = self.lines.next().ok_or("the crowd has gone")??;
        match line.starts_with(beginning) {
            true => Ok(line),
            false => Err(format!("the crowd says: {line}").into()),
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Two descriptors each, and 20,000 at most for a process.
const LARGEST: u32 = 9_500;
const FIRST_UID: u32 = 100_000;
