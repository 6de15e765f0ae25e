//! Hears what an agent and its server say to each other.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use landfast_identity::Bundle;
use landfast_lifecycle::SimClock;
use landfast_testkit::Plant;
use landfast_testkit::front::{Answers, Authority, Front, Messages, Shown, connect, identity};
use landfast_testkit::spoken::{Plain, Said, Spoken, said_in};
use tokio_stream::StreamExt as _;
use tonic::{Code, Request, Response, Status, Streaming};

/// Passes on what it hears.
#[derive(Clone)]
pub(crate) struct Listener {
    server: String,
    bundle: Bundle,
    clock: SimClock,
    /// The agent's identity: he who listens has its key as well.
    agent: PathBuf,
    /// Methods that the server shall not have.
    without: &'static [&'static str],
    heard: Arc<Mutex<Vec<Spoken>>>,
}

impl Listener {
    /// Between this plant's server and an agent of this name, who does not run yet.
    pub(crate) async fn open(
        plant: &Plant,
        clock: &SimClock,
        name: &str,
        without: &'static [&'static str],
    ) -> (Self, Front) {
        let bundle = (*plant.handle().bundle()).clone();
        let listener = Self {
            server: plant.address(),
            clock: clock.clone(),
            agent: plant.path().join(name).join("data/node-identity.json"),
            without,
            heard: Arc::default(),
            bundle,
        };
        let authority = Authority::of_server(&plant.server_data(), &listener.bundle);
        let own = listener.clone();
        let answers: Answers = Arc::new(move |method, request| {
            let own = own.clone();
            Box::pin(async move { own.pass_on(method, request).await })
        });
        let front = Front::open(&authority, clock, answers).await;
        (listener, front)
    }

    /// What was said until now.
    pub(crate) fn heard(&self) -> Vec<Spoken> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Spoken>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn pass_on(
        self,
        method: String,
        request: Request<Streaming<Bytes>>,
    ) -> Result<Response<Messages>, Status> {
        if self.without.iter().any(|without| method.ends_with(without)) {
            return Err(Status::unimplemented("not here"));
        }
        let is_node = request.extensions().get::<Shown>().is_some_and(|shown| shown.0);
        let svid = if is_node { identity(&self.agent) } else { None };
        let channel = connect(&self.server, &self.bundle, svid, &self.clock).await;
        let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
        let (metadata, _, requests) = request.into_parts();
        let number = {
            let mut heard = self.lock();
            heard.push(Spoken {
                method: method.clone(),
                by: if is_node { "node" } else { "anybody" }.to_owned(),
                asked_with: said_in(&metadata),
                answered_with: Said::new(),
                requests: Vec::new(),
                responses: Vec::new(),
                code: Code::Ok,
            });
            heard.len() - 1
        };
        let own = self.clone();
        let requests = requests.filter_map(move |message| {
            let message = message.ok()?;
            own.lock()[number].requests.push(message.clone());
            Some(message)
        });
        let mut request = Request::new(requests);
        *request.metadata_mut() = metadata;
        let mut grpc = tonic::client::Grpc::new(channel);
        let ready = grpc.ready().await;
        ready.map_err(|error| Status::unavailable(error.to_string()))?;
        let answer = grpc.streaming(request, method.parse().unwrap(), Plain).await;
        let answer = answer.inspect_err(|status| self.lock()[number].code = status.code())?;
        self.lock()[number].answered_with = said_in(answer.metadata());
        Ok(answer.map(|messages| {
            let all = messages.map(move |message| {
                match &message {
                    Ok(message) => self.lock()[number].responses.push(message.clone()),
                    Err(status) => self.lock()[number].code = status.code(),
                }
                message
            });
            Box::pin(all) as Messages
        }))
    }
}
