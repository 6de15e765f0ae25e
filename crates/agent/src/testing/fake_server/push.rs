//! Subscriptions to the scripted server: they say what the script holds, unless a test puts other words into their mouth.

use landfast_proto::landfast::entry::v1::Revision;
use landfast_proto::landfast::sync::v1 as wire;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{FakeServer, Script, types, wire_bundle};

/// What it does.
#[derive(Default)]
pub(crate) struct Push {
    /// Whether there is such a service at all; SPIRE has none.
    pub(crate) served: bool,
    /// A refusal for each subscription.
    pub(crate) refuse: Option<Status>,
    /// The first words of each subscription, instead of what differs.
    pub(crate) begin_with: Option<Vec<wire::SubscribeResponse>>,
    /// The registry's, with steps and, when it is not 0, with the answers to polls.
    pub(crate) revision: (u64, u64),
    /// What happened.
    pub(crate) asked: Vec<wire::SubscribeRequest>,
    open: Vec<mpsc::Sender<Result<wire::SubscribeResponse, Status>>>,
}

/// A message with nothing in it.
pub(crate) fn step(epoch: u64, number: u64) -> wire::SubscribeResponse {
    wire::SubscribeResponse {
        revision: Some(Revision { epoch, number }),
        ..Default::default()
    }
}

pub(crate) fn put(entry: types::Entry) -> wire::AuthorizedEntry {
    wire::AuthorizedEntry {
        version: version(&entry),
        entry: Some(entry),
        policy: None,
    }
}

pub(crate) fn gone(id: &str) -> wire::Tombstone {
    wire::Tombstone {
        entry_id: id.to_owned(),
        revision: 0,
    }
}

pub(crate) fn current(bundle: types::Bundle) -> wire::CurrentBundle {
    wire::CurrentBundle {
        digest: format!("{} {}", bundle.trust_domain, bundle.sequence_number).into(),
        bundle: Some(bundle),
    }
}

fn version(entry: &types::Entry) -> u64 {
    1 + u64::try_from(entry.revision_number).unwrap()
}

impl Script {
    /// With the policy that the entry has.
    fn put(&self, entry: types::Entry) -> wire::AuthorizedEntry {
        let policy = self.reserve.policies.get(&entry.id).cloned();
        let put = put(entry);
        wire::AuthorizedEntry {
            version: put.version + policy.as_ref().map_or(0, |policy| policy.revision),
            policy,
            ..put
        }
    }
}

impl FakeServer {
    /// Subscriptions can be had, and the registry is at this revision.
    pub(crate) fn pushes(&self, epoch: u64, number: u64) {
        let mut script = self.script();
        script.push.served = true;
        script.push.revision = (epoch, number);
    }

    pub(crate) fn subscriptions(&self) -> usize {
        self.script().push.asked.len()
    }

    /// Says this on the newest subscription.
    pub(crate) async fn say(&self, message: wire::SubscribeResponse) {
        let stream = self.script().push.open.last().cloned().unwrap();
        // The agent may have gone.
        drop(stream.send(Ok(message)).await);
    }

    /// Ends the newest subscription.
    pub(crate) async fn end_subscription(&self, status: Option<Status>) {
        let stream = self.script().push.open.pop().unwrap();
        if let Some(status) = status {
            drop(stream.send(Err(status)).await);
        }
    }

    /// Registers or changes an entry, and says so. Answers what was said.
    pub(crate) async fn put(&self, mut entry: types::Entry) -> wire::SubscribeResponse {
        let message = {
            let mut script = self.script();
            match script.entries.iter().position(|old| old.id == entry.id) {
                Some(place) => {
                    entry.revision_number = script.entries[place].revision_number + 1;
                    script.entries[place] = entry.clone();
                }
                None => script.entries.push(entry.clone()),
            }
            let (epoch, number) = script.push.next();
            wire::SubscribeResponse {
                put: vec![script.put(entry)],
                ..step(epoch, number)
            }
        };
        self.say(message.clone()).await;
        message
    }

    /// Deletes an entry, and says so.
    pub(crate) async fn take_away(&self, id: &str) {
        let message = {
            let mut script = self.script();
            script.entries.retain(|entry| entry.id != id);
            let (epoch, number) = script.push.next();
            wire::SubscribeResponse {
                gone: vec![gone(id)],
                ..step(epoch, number)
            }
        };
        self.say(message).await;
    }

    /// What differs from what the agent says that it holds; an empty step, when nothing does.
    fn difference(&self, held: &wire::SubscribeRequest) -> wire::SubscribeResponse {
        let script = self.script();
        let (epoch, number) = script.push.revision;
        let mut message = step(epoch, number);
        let holds = |entry: &types::Entry| {
            let held = held.entries.iter().find(|held| held.id == entry.id);
            held.is_some_and(|held| held.version == script.put(entry.clone()).version)
        };
        let missing = script.entries.iter().filter(|entry| !holds(entry));
        message.put = missing.cloned().map(|entry| script.put(entry)).collect();
        let is_there = |id: &str| script.entries.iter().any(|entry| entry.id == id);
        let over = held.entries.iter().filter(|held| !is_there(&held.id));
        message.gone = over.map(|held| gone(&held.id)).collect();
        let bundle = current(types::Bundle {
            sequence_number: script.sequence.max(1),
            ..wire_bundle(&self.ca, script.tainted)
        });
        let known = held.bundles.iter().any(|held| held.digest == bundle.digest);
        if !known || script.tainted {
            message.bundles.push(bundle);
        }
        message
    }
}

impl Push {
    pub(super) fn next(&mut self) -> (u64, u64) {
        self.revision.1 += 1;
        self.revision
    }
}

/// Of an answer.
pub(super) fn metadata((epoch, number): (u64, u64)) -> Option<tonic::metadata::AsciiMetadataValue> {
    (number > 0).then(|| format!("{epoch}.{number}").parse().unwrap())
}

#[tonic::async_trait]
impl wire::sync_server::Sync for FakeServer {
    type SubscribeStream = ReceiverStream<Result<wire::SubscribeResponse, Status>>;

    async fn subscribe(
        &self,
        request: Request<wire::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        if !self.script().push.served {
            *self.script().calls.entry("Subscribe").or_default() += 1;
            return Err(Status::unimplemented("unknown service landfast.sync.v1.Sync"));
        }
        self.called("Subscribe", &request, true)?;
        let request = request.into_inner();
        let (stream, answers) = mpsc::channel(64);
        let first = {
            let mut script = self.script();
            script.push.asked.push(request.clone());
            if let Some(refusal) = &script.push.refuse {
                return Err(refusal.clone());
            }
            script.push.open.push(stream.clone());
            script.push.begin_with.clone()
        };
        let first = first.unwrap_or_else(|| vec![self.difference(&request)]);
        for message in first {
            stream.send(Ok(message)).await.unwrap();
        }
        Ok(self.dated("Subscribe", ReceiverStream::new(answers)))
    }
}
