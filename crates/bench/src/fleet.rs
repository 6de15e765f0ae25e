//! Simulated agents of one server, thousands in this process, and a fleet that grows.
//!
//! Invariant: a fleet that was grown is served: each agent follows the server and has an SVID for each of its entries.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use landfast_identity::SpiffeId;
use landfast_proto::spire::api::types;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::BoxError;
use crate::agent::{Agent, Event, Habits};
use crate::args::{Globals, Mode};
use crate::node::Node;
use crate::operator::{Operator, wire_id};
use crate::report::Under;
use crate::site::Site;
use crate::target::Target;

/// All agents of a run.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) agents: Vec<Arc<Agent>>,
    pub(crate) site: Arc<Site>,
    pub(crate) operator: Operator,
    pub(crate) entries: usize,
    pub(crate) events: UnboundedReceiver<Event>,
    habits: Habits,
    arrivals: u64,
    /// Which fleet of this server: what names hang on.
    name: String,
    made: usize,
    told: UnboundedSender<Event>,
    tasks: JoinSet<()>,
}

/// How long each part of growing took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Growth {
    pub(crate) agents: usize,
    tokens: Duration,
    entries: Duration,
    attested: Duration,
    served: Duration,
}

impl Fleet {
    /// Empty; its agents will have so many entries each.
    ///
    /// # Errors
    /// The server does not answer.
    pub(crate) async fn new(globals: &Globals, target: &Target, entries: u64) -> Result<Self, BoxError> {
        let descriptors = landfast_daemon::descriptor_limit();
        let (told, events) = unbounded_channel();
        let site = target.site().await?;
        if descriptors < LEAST_DESCRIPTORS {
            return Err(format!("only {descriptors} files may be open here: ulimit -n").into());
        }
        Ok(Self {
            agents: Vec::new(),
            operator: target.operator().await?,
            entries: usize::try_from(entries)?,
            events,
            habits: Habits {
                mode: globals.mode,
                interval: globals.interval(),
            },
            arrivals: globals.arrivals,
            // A server that runs already may have seen a fleet before.
            name: format!("fleet-{}-{}", std::process::id(), site.now()),
            made: 0,
            site,
            told,
            tasks: JoinSet::new(),
        })
    }

    /// Whom an entry of all agents has as parent.
    pub(crate) fn alias(&self) -> Result<types::Spiffeid, BoxError> {
        self.alias_of("all")
    }

    /// One that nothing else hangs on.
    pub(crate) fn alias_of(&self, whom: &str) -> Result<types::Spiffeid, BoxError> {
        Ok(wire_id(&SpiffeId::from_parts(
            &self.site.trust_domain,
            &format!("/{}/{whom}", self.name),
        )?))
    }

    /// What the load is, for reports.
    pub(crate) fn load(&self) -> String {
        let how = match (
            self.habits.mode,
            self.agents.first().is_some_and(|agent| agent.polls()),
        ) {
            (Mode::Push, _) | (Mode::Auto, false) => "pushed to".to_owned(),
            _ => format!("polling every {} s", self.habits.interval.as_secs()),
        };
        let (agents, entries) = (self.agents.len(), self.entries);
        format!("{agents} agents with {entries} entries each, {how}")
    }

    /// Makes more agents, until there are so many.
    ///
    /// # Errors
    /// The server refuses something, or does not serve all within [`PATIENCE`].
    pub(crate) async fn grow(&mut self, to: usize) -> Result<Growth, BoxError> {
        let more = to.saturating_sub(self.agents.len());
        if more as u64 + self.agents.len() as u64 + LEAST_DESCRIPTORS > landfast_daemon::descriptor_limit() {
            return Err(
                format!("{to} agents need more open files than this process may have: ulimit -n").into(),
            );
        }
        let mut growth = Growth {
            agents: more,
            ..Growth::default()
        };
        let begin = Instant::now();
        let tokens = self.operator.tokens(more, &self.alias()?).await?;
        growth.tokens = begin.elapsed();

        let begin = Instant::now();
        let parents = tokens
            .iter()
            .map(|token| SpiffeId::agent(&self.site.trust_domain, "join_token", token));
        let parents = parents.collect::<Result<Vec<_>, _>>()?;
        let entries: Vec<_> = parents
            .iter()
            .enumerate()
            .flat_map(|(n, parent)| (0..self.entries).map(move |entry| (n, parent, entry)))
            .map(|(n, parent, entry)| {
                self.entry(
                    &format!("node-{}/{entry}", self.made + n),
                    &wire_id(parent),
                    entry,
                )
            })
            .collect::<Result<_, _>>()?;
        self.operator.create(&entries).await?;
        growth.entries = begin.elapsed();

        let begin = Instant::now();
        let first = self.made;
        let nodes = stream::iter(tokens.iter().enumerate()).map(|(n, token)| {
            let site = Arc::clone(&self.site);
            async move {
                Node::attest(site, first + n, token)
                    .await
                    .map(|node| (first + n, node))
            }
        });
        let nodes: Vec<_> = nodes.buffered(ATTEST_AT_ONCE).try_collect().await?;
        growth.attested = begin.elapsed();
        self.made += more;

        let begin = Instant::now();
        let spread = Duration::from_secs_f64(more as f64 / self.arrivals as f64);
        for (number, node) in nodes {
            let agent = Arc::new(Agent::new(number, node, self.habits, self.told.clone()));
            self.tasks
                .spawn(Arc::clone(&agent).run(spread.mul_f64(crate::agent::share())));
            self.agents.push(agent);
        }
        let all = self.agents.len();
        let served = self.served(all, PATIENCE).await;
        if served < all {
            let why = self
                .agents
                .iter()
                .filter(|agent| !agent.is_served(self.entries))
                .find_map(|agent| agent.trouble());
            let why = why.unwrap_or_else(|| "no call failed".to_owned());
            return Err(format!(
                "only {served} of {all} agents are served after {} s: {why}",
                PATIENCE.as_secs()
            )
            .into());
        }
        growth.served = begin.elapsed();
        self.quiet();
        Ok(growth)
    }

    /// An entry for one or all of them, which no process on any node matches.
    pub(crate) fn entry(
        &self,
        path: &str,
        parent: &types::Spiffeid,
        number: usize,
    ) -> Result<types::Entry, BoxError> {
        let path = format!("/{}/{path}", self.name);
        Ok(types::Entry {
            spiffe_id: Some(wire_id(&SpiffeId::from_parts(&self.site.trust_domain, &path)?)),
            parent_id: Some(parent.clone()),
            selectors: vec![types::Selector {
                r#type: "unix".to_owned(),
                value: format!("uid:{}", FIRST_UID + number),
            }],
            ..types::Entry::default()
        })
    }

    /// Waits until the first `count` are served, or for `patience`. Answers how many are.
    pub(crate) async fn served(&self, count: usize, patience: Duration) -> usize {
        let begin = Instant::now();
        let mut waiting: Vec<&Arc<Agent>> = self.agents.iter().take(count).collect();
        loop {
            waiting.retain(|agent| !agent.is_served(self.entries));
            if waiting.is_empty() || begin.elapsed() > patience {
                return count - waiting.len();
            }
            // To look at each takes of the time that is measured: no more than a thousandth.
            sleep(LOOK.max(EACH_LOOK.saturating_mul(u32::try_from(waiting.len()).unwrap_or(u32::MAX)))).await;
        }
    }

    /// Forgets what has happened until now.
    pub(crate) fn quiet(&mut self) {
        while self.events.try_recv().is_ok() {}
    }

    /// Ends every connection.
    pub(crate) async fn leave(&mut self) {
        self.tasks.shutdown().await;
        self.agents.iter().for_each(|agent| agent.disconnect());
        self.quiet();
    }

    /// The first `count` come back, each at some moment within `within`.
    pub(crate) fn come_back(&mut self, count: usize, within: Duration) {
        for agent in self.agents.iter().take(count) {
            self.tasks
                .spawn(Arc::clone(agent).run(within.mul_f64(crate::agent::share())));
        }
    }

    /// Takes out those at the end, who are shut out by now.
    pub(crate) fn bury(&mut self, from: usize) {
        self.agents.truncate(from);
        while self.tasks.try_join_next().is_some() {}
        self.quiet();
    }
}

impl Growth {
    /// What the growing itself tells: to a fleet of `size` agents with so many entries each.
    pub(crate) fn tell(self, under: &mut Under<'_>, size: u64, entries: usize) {
        if self.agents == 0 {
            return;
        }
        let rate = |count: usize, took: Duration| count as f64 / took.as_secs_f64().max(1e-9);
        for (what, series, count, took) in [
            ("join tokens made", "join tokens made", self.agents, self.tokens),
            (
                "entries created, 500 in a request",
                "entries created",
                self.agents * entries,
                self.entries,
            ),
            (
                "agents attested, a connection each",
                "agents attested",
                self.agents,
                self.attested,
            ),
            (
                "agents connected and told what they have, with all SVIDs",
                "agents connected, with SVIDs",
                self.agents,
                self.served,
            ),
        ] {
            if count > 0 {
                under.add(what, "/s", rate(count, took));
                under.point(CHART, series, size as f64, rate(count, took));
            }
        }
    }
}

/// Our own beside the agents' connections.
const LEAST_DESCRIPTORS: u64 = 128;
const ATTEST_AT_ONCE: usize = 64;
const FIRST_UID: usize = 200_000;
const PATIENCE: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_millis(20);
const EACH_LOOK: Duration = Duration::from_micros(50);
const CHART: [&str; 4] = ["growth", "A fleet that grows", "agents when it has grown", "/s"];
