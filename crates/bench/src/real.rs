//! The same through a real landfast-agent, to the stream of a program: what the simulated agents leave out.
//!
//! Invariant: the agent ends with this value; its folder is that of the server, which goes with the server.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::StreamExt as _;
use landfast_identity::SpiffeId;
use landfast_proto::spire::api::types;
use landfast_workload_api::client::{ClientError, WorkloadClient, X509Context};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::BoxError;
use crate::args::Globals;
use crate::fleet::Fleet;
use crate::operator::wire_id;
use crate::report::Report;
use crate::samples::Samples;
use crate::target::{Target, put};

/// At the fleet's present size: entries are created and deleted, one after the other, for at most [`LONGEST`]; then the agent is banned.
pub(crate) async fn measure(
    globals: &Globals,
    target: &Target,
    fleet: &Fleet,
    samples: u64,
    report: &mut Report,
) -> Result<(), BoxError> {
    let Some(folder) = target.folder() else {
        report.note("no real agent beside a server that runs already: only simulated ones are measured");
        return Ok(());
    };
    let folder = folder.join(format!("agent-{}", fleet.agents.len()));
    let mut real = Real::start(globals, target, fleet, &folder).await?;
    let (mut made, mut gone) = (Samples::default(), Samples::default());
    let begin = Instant::now();
    for n in 0..samples {
        if begin.elapsed() > LONGEST {
            break;
        }
        let entry = real.entry(fleet, &format!("program-{n}"))?;
        let id = real.text(fleet, &entry)?;
        let change = Instant::now();
        let created = fleet.operator.create(&[entry]).await?;
        made.push(
            real.until(|ids| ids.contains(&id))
                .await?
                .saturating_duration_since(change),
        );
        let change = Instant::now();
        fleet.operator.delete(&created).await?;
        gone.push(
            real.until(|ids| !ids.contains(&id))
                .await?
                .saturating_duration_since(change),
        );
    }
    let change = Instant::now();
    fleet.operator.ban(&real.id).await?;
    let banned = real.until_ended().await?.saturating_duration_since(change);

    let load = format!(
        "a landfast-agent and a program's stream beside {}; one change after the other",
        fleet.load()
    );
    let mut under = report.under("program", load);
    let aim = super::propagation::aim(fleet.agents.len());
    under.latency(
        "operator creates an entry -> the program has the SVID",
        &made,
        aim,
    );
    under.latency(
        "operator deletes it -> the program's stream is without it",
        &gone,
        Some(super::propagation::BAN_AIM),
    );
    under.add_aimed(
        "operator bans the agent -> the stream has ended",
        "ms",
        banned.as_secs_f64() * 1e3,
        super::propagation::BAN_AIM,
    );
    let size = fleet.agents.len() as f64;
    let p99 = |samples: &Samples| samples.percentile(99.0).unwrap_or(0.0);
    under.point(CHART, "entry created, p99", size, p99(&made));
    under.point(CHART, "entry deleted, p99", size, p99(&gone));
    under.point(CHART, "agent banned", size, banned.as_secs_f64() * 1e3);
    Ok(())
}

struct Real {
    child: Child,
    id: SpiffeId,
    /// When, and which IDs the stream has since; `None` when it has ended. One is taken before the next can come in.
    seen: Receiver<(Instant, Option<BTreeSet<String>>)>,
    reader: JoinSet<()>,
}

impl Real {
    async fn start(
        globals: &Globals,
        target: &Target,
        fleet: &Fleet,
        folder: &Path,
    ) -> Result<Self, BoxError> {
        let program = globals.bin_dir.join("landfast-agent");
        std::fs::create_dir(folder)?;
        put(
            &folder.join("bundle.pem"),
            &fleet.operator.bundle().await?.to_pem(),
        )?;
        let token = fleet.operator.tokens(1, &fleet.alias_of("real")?).await?.concat();
        let id = SpiffeId::agent(&fleet.site.trust_domain, "join_token", &token)?;
        let config = folder.join("agent.toml");
        let (at, address, trust_domain) = (folder.display(), target.address(), &fleet.site.trust_domain);
        put(
            &config,
            &format!(
                "trust_domain = \"{}\"\nserver = [\"{address}\"]\ndata_dir = \"{at}/data\"\nsocket = \"{at}/api.sock\"\nadmin_socket = \"{at}/admin.sock\"\ntrust_bundle = \"{at}/bundle.pem\"\n[attestation]\nmethod = \"join_token\"\ntoken = \"{token}\"\n[log]\nlevel = \"warn\"\n",
                trust_domain.as_str()
            ),
        )?;
        let log = std::fs::File::create(folder.join("agent.log"))?;
        let child = Command::new(&program)
            .args(["run", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        let (told, seen) = channel(1);
        let mut reader = JoinSet::new();
        let mut real = Self {
            child,
            id,
            seen,
            reader: JoinSet::new(),
        };
        fleet.operator.create(&[real.entry(fleet, "program")?]).await?;
        let stream = first(&folder.join("api.sock")).await?;
        reader.spawn(async move {
            let (mut client, first) = stream;
            drop(told.send((Instant::now(), Some(ids(&first)))).await);
            let Ok(mut stream) = client.x509_svids().await else {
                return;
            };
            while let Some(Ok(context)) = stream.next().await {
                drop(told.send((Instant::now(), Some(ids(&context)))).await);
            }
            drop(told.send((Instant::now(), None)).await);
        });
        real.reader = reader;
        Ok(real)
    }

    /// For this program.
    fn entry(&self, fleet: &Fleet, path: &str) -> Result<types::Entry, BoxError> {
        let mut entry = fleet.entry(
            &format!("real-{}/{path}", fleet.agents.len()),
            &wire_id(&self.id),
            0,
        )?;
        entry.selectors = vec![types::Selector {
            r#type: "unix".to_owned(),
            value: format!("uid:{}", nix::unistd::geteuid()),
        }];
        Ok(entry)
    }

    fn text(&self, fleet: &Fleet, entry: &types::Entry) -> Result<String, BoxError> {
        let path = entry.spiffe_id.as_ref().map_or("", |id| &id.path);
        Ok(SpiffeId::from_parts(&fleet.site.trust_domain, path)?.to_string())
    }

    async fn until(&mut self, so: impl Fn(&BTreeSet<String>) -> bool) -> Result<Instant, BoxError> {
        let begin = Instant::now();
        while let Ok(Some((at, ids))) = timeout(PATIENCE, self.seen.recv()).await {
            match ids {
                Some(ids) if so(&ids) => return Ok(at),
                Some(_) if begin.elapsed() < PATIENCE => {}
                _ => break,
            }
        }
        Err("a change has not reached a program's stream".into())
    }

    async fn until_ended(&mut self) -> Result<Instant, BoxError> {
        while let Ok(Some((at, ids))) = timeout(PATIENCE, self.seen.recv()).await {
            if ids.is_none() {
                return Ok(at);
            }
        }
        Err("the stream of a banned agent has not ended".into())
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        // Both fail only when it has ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The first SVIDs of an agent that is just starting.
async fn first(socket: &Path) -> Result<(WorkloadClient, X509Context), BoxError> {
    let begin = Instant::now();
    loop {
        let fetched = async {
            let mut client = WorkloadClient::connect(&socket.display().to_string()).await?;
            let context = client.fetch_x509().await?;
            Ok::<_, ClientError>((client, context))
        };
        match fetched.await {
            Ok(fetched) => return Ok(fetched),
            Err(error) if begin.elapsed() > PATIENCE => return Err(error.into()),
            Err(_) => sleep(LOOK).await,
        }
    }
}

fn ids(context: &X509Context) -> BTreeSet<String> {
    context.svids.iter().map(|svid| svid.id().to_string()).collect()
}

const PATIENCE: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(40);
const LOOK: Duration = Duration::from_millis(50);
const CHART: [&str; 4] = [
    "program",
    "From an operator's change until a program's stream has it",
    "agents beside it",
    "ms",
];
