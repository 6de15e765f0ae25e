//! A whole signing server in memory, as `landfast dev` starts it, with a client of every class. Nothing of the server is public for this:
//! it is called over its own sockets, so what is judged is the published API with its table of rights.

mod methods;
mod setup;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use landfast_daemon::TaskTree;
use landfast_identity::{Bundle, BundleSet, UnixTime};
use landfast_lifecycle::{Clock, SharedClock};
use landfast_server::ServerHandle;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tonic::Code;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;

use crate::calls::Call;
use crate::fixed::NOW;
use crate::raw::{self, Answer};
pub use methods::{METHODS, Method, Who, method};

/// The callers of a plant, in the order of [`Plant::channels`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Caller {
    /// A process on the admin socket.
    Operator,
    /// Over TLS, without a certificate.
    Stranger,
    /// An agent with entries `a1` and `a2`.
    AgentA,
    /// An agent with entry `b1`.
    AgentB,
    /// A workload: a certificate of `a1`.
    Workload,
    /// A workload with an entry that says `admin`.
    Admin,
}

impl Caller {
    /// Everybody.
    pub const ALL: [Self; 6] = [
        Self::Operator,
        Self::Stranger,
        Self::AgentA,
        Self::AgentB,
        Self::Workload,
        Self::Admin,
    ];

    /// Whether the published rules let it call this; written apart from the server's table.
    pub fn may(self, method: &Method) -> bool {
        match method.who {
            Who::Anybody => true,
            Who::Operators => matches!(self, Self::Operator | Self::Admin),
            Who::Agents => matches!(self, Self::AgentA | Self::AgentB),
            Who::OperatorsAndAgents => !matches!(self, Self::Stranger | Self::Workload),
            Who::Nobody => false,
        }
    }

    /// The IDs of the entries it is a parent of, and theirs.
    pub fn entries(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::AgentA => &[("a1", "/a/one"), ("a2", "/a/two")],
            Self::AgentB => &[("b1", "/b/one"), ("admin", "/admin")],
            _ => &[],
        }
    }

    /// Its own path, when it is an agent.
    pub fn agent_path(self) -> Option<&'static str> {
        match self {
            Self::AgentA => Some("/spire/agent/join_token/token-a"),
            Self::AgentB => Some("/spire/agent/join_token/token-b"),
            _ => None,
        }
    }
}

/// A server and its clients. Everything of it ends with it.
pub struct Plant {
    runtime: Runtime,
    _tree: TaskTree,
    server: ServerHandle,
    channels: Vec<Channel>,
    _folder: TempDir,
}

impl Plant {
    /// A server with an operator and a federated bundle; with `nodes`, also everybody else.
    ///
    /// # Panics
    /// When it does not start: then there is nothing to fuzz.
    pub fn start(nodes: bool) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let (tree, server, channels, folder) = runtime.block_on(setup::start(nodes));
        Self {
            runtime,
            _tree: tree,
            server,
            channels,
            _folder: folder,
        }
    }

    /// One stream of messages to one method. `None` when the connection broke on our side.
    ///
    /// # Panics
    /// When the server blames itself for a message that it could read, or is silent for ten seconds.
    pub fn call(&self, caller: Caller, method: &Method, messages: Vec<Bytes>) -> Option<Answer> {
        let readable = messages.iter().all(|message| (method.decodes)(message));
        let channel = &self.channels[caller as usize];
        let call = raw::call(
            channel,
            method.path,
            MetadataMap::new(),
            messages,
            raw::MAX_MESSAGES,
        );
        let answer = self
            .runtime
            .block_on(async { tokio::time::timeout(SILENCE, call).await })
            .expect("no answer");
        if let Some(status) = &answer.refused {
            if raw::connection_lost(status) {
                return None;
            }
            // gRPC wants Internal for what is no protobuf (statuscodes.md): the peer's fault under our name.
            let unreadable = !readable && status.code() == Code::Internal;
            assert!(
                unreadable || !raw::blames_the_server(status),
                "{}: {status:?}",
                method.path
            );
        }
        if !caller.may(method) {
            assert_eq!(
                answer.code(),
                Code::PermissionDenied,
                "{caller:?} called {}",
                method.path
            );
            assert!(answer.messages.is_empty());
        }
        for message in &answer.messages {
            for code in (method.items)(message) {
                let code = Code::from(code);
                assert!(
                    !matches!(code, Code::Internal | Code::Unknown | Code::Unavailable),
                    "{}: an item ended with {code:?}",
                    method.path
                );
            }
        }
        Some(answer)
    }

    /// Runs on the plant's own runtime.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// A caller's connection.
    pub fn channel(&self, caller: Caller) -> Channel {
        self.channels[caller as usize].clone()
    }

    /// What verifies what it issues.
    pub fn bundle(&self) -> Arc<Bundle> {
        self.server.bundle()
    }

    /// The same as a set.
    pub fn bundles(&self) -> BundleSet {
        BundleSet::from_iter([self.server.bundle()])
    }
}

thread_local! {
    static PLANT: RefCell<(u32, Option<Plant>)> = const { RefCell::new((0, None)) };
}

/// Runs with a plant that serves at most `runs` inputs, so that records do not fill the memory; a new one when `run` says that it
/// changed something, so that an input that fails fails alone.
pub fn with(nodes: bool, runs: u32, run: impl FnOnce(&Plant) -> bool) {
    PLANT.with_borrow_mut(|(served, plant)| {
        if *served >= runs {
            (*served, *plant) = (0, None);
        }
        *served += 1;
        if run(plant.get_or_insert_with(|| Plant::start(nodes))) {
            (*served, *plant) = (0, None);
        }
    });
}

/// Neighbouring calls of one caller to one streaming method are one stream; all others stand alone.
pub fn streams<'a>(calls: &[Call<'a>], callers: &[Caller]) -> Vec<(Caller, &'static Method, Vec<Bytes>)> {
    let mut all: Vec<(Caller, &'static Method, Vec<Bytes>)> = Vec::new();
    for call in calls {
        let caller = callers[usize::from(call.caller) % callers.len()];
        let method = &METHODS[usize::from(call.method) % METHODS.len()];
        let message = Bytes::copy_from_slice(call.message);
        match all.last_mut() {
            Some((last, same, messages))
                if *last == caller && same.path == method.path && method.streaming =>
            {
                messages.push(message);
            }
            _ => all.push((caller, method, vec![message])),
        }
    }
    all
}

/// A clock that stands still.
#[derive(Debug)]
struct Stopped;

impl Clock for Stopped {
    fn now(&self) -> Option<UnixTime> {
        Some(NOW)
    }
}

pub(crate) fn clock() -> SharedClock {
    Arc::new(Stopped)
}

const SILENCE: Duration = Duration::from_secs(10);
/// The trust domain of every plant.
pub const DOMAIN: &str = "plant.test";
