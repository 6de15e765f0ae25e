//! The bundle chain of a server on a script.

use landfast_identity::chain::{RootPrivateKey, SignedStep, Step};
use landfast_identity::{Bundle, UnixTime};
use landfast_proto::landfast::chain::v1::{self as pb, chain_server::Chain};
use tonic::{Request, Response, Status};

use super::{FakeServer, Shown};

/// What it shows, to whom. Without `signed` it is SPIRE's.
#[derive(Default)]
pub(crate) struct Steps {
    pub(crate) signed: Option<Vec<SignedStep>>,
    /// In one answer.
    pub(crate) page: usize,
    /// Who has forgotten steps takes those that are shown; what was shown, each time, by sequence.
    pub(crate) takes: bool,
    pub(crate) shown: Vec<Vec<u64>>,
    /// Every question, and whether a certificate was shown.
    pub(crate) asked: Vec<(u64, u64, bool)>,
}

impl Steps {
    /// Adds a step in this epoch with this bundle, by these keys, for those who are to sign the next one.
    pub(crate) fn add(
        &mut self,
        epoch: u64,
        bundle: &Bundle,
        signers: &[&RootPrivateKey],
        next: &[&RootPrivateKey],
    ) {
        let all = self.signed.get_or_insert_default();
        let sequence = all.last().map_or(1, |last| last.step().sequence + 1);
        let step = Step {
            epoch,
            sequence,
            previous: all.last().map(SignedStep::digest),
            bundle: bundle.clone().with_sequence(sequence),
            root_keys: next.iter().map(|key| key.public_key()).collect(),
            time: UnixTime::from_secs(0),
        };
        let mut signed = SignedStep::unsigned(&step).unwrap();
        signers.iter().for_each(|key| signed.sign(key).unwrap());
        all.push(signed);
    }

    /// The same for a chain of one key.
    pub(crate) fn next(&mut self, bundle: &Bundle, key: &RootPrivateKey) {
        self.add(5, bundle, &[key], &[key]);
    }
}

#[tonic::async_trait]
impl Chain for FakeServer {
    async fn get_steps(
        &self,
        request: Request<pb::GetStepsRequest>,
    ) -> Result<Response<pb::GetStepsResponse>, Status> {
        self.called("GetSteps", &request, false)?;
        let shown = request
            .extensions()
            .get::<Shown>()
            .is_some_and(|shown| shown.0.is_some());
        let pb::GetStepsRequest { epoch, sequence } = request.into_inner();
        let mut script = self.script();
        let steps = &mut script.steps;
        steps.asked.push((epoch, sequence, shown));
        let Some(all) = &steps.signed else {
            return Err(Status::unimplemented(""));
        };
        let from = |step: &&SignedStep| (step.step().epoch, step.step().sequence) >= (epoch, sequence);
        let mut found: Vec<_> = match epoch {
            0 => all.last().into_iter().collect(),
            _ => all.iter().filter(from).collect(),
        };
        let page = if steps.page == 0 { found.len() } else { steps.page };
        let more = found.len() > page;
        found.truncate(page);
        Ok(Response::new(pb::GetStepsResponse {
            steps: found.iter().map(|step| step.to_bytes().into()).collect(),
            more,
        }))
    }

    async fn show_steps(
        &self,
        request: Request<pb::ShowStepsRequest>,
    ) -> Result<Response<pb::ShowStepsResponse>, Status> {
        self.called("ShowSteps", &request, true)?;
        let mut script = self.script();
        let steps = &mut script.steps;
        let read = |step: &prost::bytes::Bytes| SignedStep::from_bytes(step).unwrap();
        let shown: Vec<_> = request.get_ref().steps.iter().map(read).collect();
        let sequences = shown.iter().map(|step| step.step().sequence);
        steps.shown.push(sequences.collect());
        let adopted = steps.takes;
        if adopted {
            steps.signed = Some(shown);
        }
        Ok(Response::new(pb::ShowStepsResponse { adopted }))
    }

    async fn prepare_step(
        &self,
        _: Request<pb::PrepareStepRequest>,
    ) -> Result<Response<pb::PrepareStepResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn import_step(
        &self,
        _: Request<pb::ImportStepRequest>,
    ) -> Result<Response<pb::ImportStepResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}
