//! What a registry of some size costs: memory, cold start, lists, lookups.
//!
//! `size fill DIR ENTRIES AGENTS` writes a data directory; `size open DIR` opens it in a process of its own and prints one JSON object. All are
//! figures of this process alone, without network.

#![expect(clippy::print_stdout, reason = "its output is for scripts")]
#![expect(clippy::disallowed_methods, reason = "it measures real time")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _};
use landfast_identity::{Bundle, Selector, SelectorSet, SpiffeId, TrustDomain, UnixTime};
use landfast_lifecycle::SystemClock;
use landfast_server::issuance::Requester;
use landfast_server::registry::{AgentFilter, AgentRecord, Created, EntryDraft, EntryFilter, PolicyPatch};
use landfast_server::{Core, CoreParams};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["fill", dir, entries, agents] => fill(Path::new(dir), entries.parse()?, agents.parse()?).await,
        ["open", dir] => open(Path::new(dir)).await,
        _ => Err("size fill DIR ENTRIES AGENTS | size open DIR".into()),
    }
}

async fn core(dir: &Path) -> Result<Core, Failure> {
    let params = CoreParams {
        data_dir: Some(dir.to_owned()),
        ..CoreParams::in_memory(trust_domain()?, Arc::new(SystemClock))
    };
    Ok(Core::open(params).await?)
}

fn trust_domain() -> Result<TrustDomain, Failure> {
    Ok(TrustDomain::parse("plant-7.site.example")?)
}

fn id(path: &str) -> Result<SpiffeId, Failure> {
    Ok(SpiffeId::from_parts(&trust_domain()?, path)?)
}

fn node(n: usize) -> Result<SpiffeId, Failure> {
    id(&format!(
        "/spire/agent/x509pop/{:040x}",
        n.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    ))
}

fn selectors(texts: &[String]) -> Result<SelectorSet, Failure> {
    Ok(texts
        .iter()
        .map(|text| Selector::parse(text))
        .collect::<Result<_, _>>()?)
}

/// Every node has its share of the entries, two selectors each. One in ten federates, one in ten has a policy, one in a hundred hangs under
/// one of a hundred aliases.
async fn fill(dir: &Path, entries: usize, agents: usize) -> Result<(), Failure> {
    let core = core(dir).await?;
    let registry = &core.registry;
    let peer = TrustDomain::parse("peer.example")?;
    registry.set_federated_bundle(Bundle::new(peer.clone())).await?;
    let by = Requester::local(0, None);
    for n in 0..entries.min(100) {
        let marks = selectors(&[format!("x509pop:subject:cn:line{n}"), "x509pop:ca:fp:aa".into()])?;
        let alias = EntryDraft::new(
            SpiffeId::server(registry.trust_domain()),
            id(&format!("/line/{n}"))?,
            marks,
        );
        registry.create_entry(alias, &by).await?;
    }
    let make = async |n: usize| -> Result<(), Failure> {
        let parent = match n % 100 {
            0 => id(&format!("/line/{}", n / 100 % 100))?,
            _ => node(n % agents.max(1))?,
        };
        let marks = selectors(&[
            format!("unix:uid:{}", 1000 + n % 50),
            format!("unix:path:/opt/line/bin/service-{}", n % 200),
        ])?;
        let mut draft = EntryDraft::new(parent, id(&format!("/line/{}/service/{n}", n % 100))?, marks);
        if n % 10 == 1 {
            draft.federates_with = vec![peer.clone()];
        }
        if n % 10 == 2 {
            draft.dns_names = vec![format!("service-{n}.line.plant-7.site.example")];
        }
        let made = match registry.create_entry(draft, &by).await? {
            Created::New(made) | Created::Similar(made) => made,
        };
        if n % 10 == 3 {
            let patch = PolicyPatch {
                description: Some(format!("service {n} of the line, ask the shift leader")),
                ..PolicyPatch::default()
            };
            registry.set_entry_policy(&made.id, patch, None).await?;
        }
        Ok(())
    };
    let mut made = stream::iter((0..entries).map(make)).buffer_unordered(512);
    while let Some(outcome) = made.next().await {
        outcome?;
    }
    let attest = async |n: usize| -> Result<(), Failure> {
        let record = AgentRecord {
            id: node(n)?,
            attestation_type: "x509pop".into(),
            serial: format!("{n:032x}"),
            not_after: UnixTime::from_secs(4_000_000_000),
            new_serial: None,
            new_not_after: None,
            selectors: selectors(&[
                format!("x509pop:subject:cn:line{}", n % 100),
                "x509pop:ca:fp:aa".into(),
                format!("x509pop:serialnumber:{n:x}"),
            ])?,
            can_reattest: true,
            agent_version: "0.1.0".into(),
            key_hash: [7; 32],
        };
        Ok(registry.upsert_agent_on_attest(record).await?)
    };
    let mut joined = stream::iter((0..agents).map(attest)).buffer_unordered(512);
    while let Some(outcome) = joined.next().await {
        outcome?;
    }
    Ok(())
}

async fn open(dir: &Path) -> Result<(), Failure> {
    let bare = memory("VmRSS:")?;
    let begin = Instant::now();
    let core = core(dir).await?;
    let (cold_start, cpu) = (begin.elapsed(), cpu()?);
    let (rss, peak) = (memory("VmRSS:")?, memory("VmHWM:")?);
    let registry = &core.registry;
    let all = EntryFilter::default();
    let (entries, agents) = (
        registry.count_entries(&all),
        registry.count_agents(&AgentFilter::default()),
    );
    let count = timed(20, |_| {
        registry.count_entries(&all);
    });
    let (mut pages, mut after) = (Vec::new(), None::<String>);
    let (mut ids, mut nodes) = (Vec::new(), Vec::new());
    loop {
        let begin = Instant::now();
        let (page, next) = registry.list_entries(&all, 500, after.as_deref());
        pages.push(begin.elapsed());
        ids.extend(page.iter().map(|entry| entry.id.clone()));
        after = next;
        if after.is_none() {
            break;
        }
    }
    let (agents_found, _) = registry.list_agents(&AgentFilter::default(), 0, None);
    nodes.extend(agents_found.iter().map(|agent| agent.id.clone()));
    let mut granted = 0;
    let lookup = timed(nodes.len(), |n| {
        granted += registry.authorized(&nodes[n]).entries.len()
    });
    let by_id = timed(ids.len(), |n| drop(registry.entry(&ids[n])));
    let by = Requester::local(0, None);
    let mut changes = Vec::new();
    for n in 0..200 {
        let draft = EntryDraft::new(
            id("/spire/agent/x509pop/none")?,
            id(&format!("/new/{n}"))?,
            selectors(&["unix:uid:1".into()])?,
        );
        let begin = Instant::now();
        let made = registry.create_entry(draft, &by).await?;
        changes.push(begin.elapsed());
        if let Created::New(made) = made {
            registry.delete_entry(&made.id).await?;
        }
    }
    println!(
        "{{\"entries\": {entries}, \"agents\": {agents}, \"cold_start_ms\": {}, \"cold_start_cpu_ms\": {}, \"rss_before_kib\": {bare}, \"rss_kib\": {rss}, \
         \"rss_peak_kib\": {peak}, \"count_us\": {}, \"page_of_500_us\": {}, \"list_all_ms\": {}, \"authorized_us\": {}, \
         \"granted\": {granted}, \"entry_us\": {}, \"create_us\": {}}}",
        cold_start.as_millis(),
        cpu.as_millis(),
        figures(count),
        figures(pages.clone()),
        pages.iter().sum::<Duration>().as_millis(),
        figures(lookup),
        figures(by_id),
        figures(changes),
    );
    Ok(())
}

fn timed(times: usize, mut what: impl FnMut(usize)) -> Vec<Duration> {
    let once = |n| {
        let begin = Instant::now();
        what(n);
        begin.elapsed()
    };
    (0..times).map(once).collect()
}

/// `{"p50": …, "p99": …}`, in microseconds.
fn figures(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |percent: usize| {
        let place = times.len().saturating_sub(1) * percent / 100;
        times.get(place).map_or(0.0, |time| time.as_secs_f64() * 1e6)
    };
    format!("{{\"p50\": {:.1}, \"p99\": {:.1}}}", at(50), at(99))
}

/// What this process has used of all cores.
fn cpu() -> Result<Duration, Failure> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = |time: nix::sys::time::TimeVal| time.num_microseconds().unsigned_abs();
    Ok(Duration::from_micros(
        micros(usage.user_time()) + micros(usage.system_time()),
    ))
}

fn memory(field: &str) -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or("no such field in /proc/self/status")?.parse()?)
}
