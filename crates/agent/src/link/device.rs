//! The node's device key: registered while all is well, used to come back when the node's own SVID is over or not believed any more (ADR 28).
//!
//! Invariant: a registration that fails fails nothing else; the server hears of no key and no counter that is not on disk.

use std::sync::Arc;

use landfast_daemon::error_chain;
use landfast_identity::{RegistrationProof, SpiffeId};
use landfast_proto::landfast::recovery::v1::{
    self as wire, recovery_client::RecoveryClient, register_device_key_response::State,
};
use tonic::transport::Channel;

use super::evidence::{Evidence, Ready};
use super::failure::LinkError;
use super::{Link, attest, blocking, rpc};
use crate::persist::{DeviceKey, PersistError};

/// What the link knows of it.
#[derive(Default)]
pub(super) struct Device {
    read: bool,
    held: Option<DeviceKey>,
}

impl Link {
    /// The device key by which this node may come back, if it attests by tokens, of which it has no other.
    pub(super) async fn way_back(&mut self) -> Result<Option<(DeviceKey, SpiffeId)>, LinkError> {
        if !matches!(self.settings.evidence, Evidence::JoinToken(_)) {
            return Ok(None);
        }
        self.read_device().await?;
        let held = self.device.held.clone();
        Ok(held.and_then(|device| device.agent_id.clone().map(|id| (device, id))))
    }

    /// Asks to be the node that this was.
    pub(super) async fn come_back(
        &mut self,
        device: DeviceKey,
        agent_id: SpiffeId,
        denied: bool,
    ) -> Result<(), LinkError> {
        let key = self.pending_key(false).await?;
        let (files, csr_key) = (Arc::clone(&self.files), key.public_key().sha256());
        let counted = self.disk.run(move || files.count(&device, csr_key)).await??;
        self.device.held = Some(counted.clone());
        let ready = Ready::Returning {
            agent_id: agent_id.clone(),
            device_key: Arc::clone(&counted.key),
            csr_key: key.public_key(),
            counter: counted.counter,
        };
        tracing::info!(%agent_id, counter = counted.counter, "this node asks to come back by its device key");
        let channel = self.connect(false).await?;
        let attested = self.attest_over(channel, METHOD, ready, &key).await?;
        if *attested.svid.id() != agent_id {
            return Err(LinkError::protocol(
                attest::ATTEST,
                format!("it is for {}, and this node is {agent_id}", attested.svid.id()),
            ));
        }
        self.take_in(attested, key, denied, METHOD).await
    }

    /// Whether the operator has given a token since this node was let in: then that is a way in too, as another node.
    pub(super) async fn has_another_token(&self, agent_id: &SpiffeId) -> Result<bool, LinkError> {
        let evidence = self.settings.evidence.clone();
        Ok(match blocking(move || evidence.prepare()).await? {
            Ok(Ready::Token(token)) => agent_id.path().rsplit('/').next() != Some(token.as_str()),
            _ => false,
        })
    }

    /// Has the server know the device key of this node, over a connection that shows its SVID.
    pub(super) async fn register_device(&mut self, channel: &Channel) {
        let Some(node) = self.node.clone() else { return };
        if node.reattestable || !matches!(self.settings.evidence, Evidence::JoinToken(_)) {
            return;
        }
        let words = match self.registered(channel, node.svid.id()).await {
            Ok(state) => in_words(state).to_owned(),
            Err(LinkError::Refused {
                code: tonic::Code::Unimplemented,
                ..
            }) => UNKNOWN_THERE.to_owned(),
            Err(error) => {
                let why = error_chain(&error);
                tracing::warn!(
                    error = why,
                    "the device key of this node is not registered; it is tried again"
                );
                format!("not registered yet: {why}")
            }
        };
        self.status.send_if_modified(|status| {
            let differs = status.device_key != words;
            if differs {
                tracing::info!(device_key = words);
                status.device_key = words;
            }
            differs
        });
    }

    async fn registered(&mut self, channel: &Channel, agent_id: &SpiffeId) -> Result<State, LinkError> {
        self.read_device().await?;
        let held = self.device.held.clone();
        let device = match held {
            // It is registered for a node that this one is not any more.
            Some(device) if device.agent_id.as_ref().is_some_and(|id| id != agent_id) => {
                self.make_device(device.counter).await?
            }
            Some(device) => device,
            None => self.make_device(0).await?,
        };
        let state = register(channel, &device, agent_id).await?;
        if state != State::MakeAnother {
            return self.note(state, device, agent_id).await;
        }
        tracing::warn!("the device key of this node has been in two hands: it makes another one");
        let device = self.make_device(device.counter).await?;
        let state = register(channel, &device, agent_id).await?;
        self.note(state, device, agent_id).await
    }

    async fn note(
        &mut self,
        state: State,
        device: DeviceKey,
        agent_id: &SpiffeId,
    ) -> Result<State, LinkError> {
        if state == State::Registered && device.agent_id.as_ref() != Some(agent_id) {
            let device = DeviceKey {
                agent_id: Some(agent_id.clone()),
                ..device
            };
            let (files, to_save) = (Arc::clone(&self.files), device.clone());
            self.disk.run(move || files.save_device_key(&to_save)).await??;
            self.device.held = Some(device);
        }
        Ok(state)
    }

    async fn make_device(&mut self, counter: u64) -> Result<DeviceKey, LinkError> {
        let files = Arc::clone(&self.files);
        let made = self.disk.run(move || files.new_device_key(counter)).await??;
        self.device.held = Some(made.clone());
        Ok(made)
    }

    async fn read_device(&mut self) -> Result<(), LinkError> {
        if self.device.read {
            return Ok(());
        }
        let files = Arc::clone(&self.files);
        self.device.held = match self.disk.run(move || files.device_key()).await? {
            Err(error @ PersistError::Damaged { .. }) => {
                tracing::error!(
                    error = error_chain(&error),
                    "this node makes another device key, which a person has to approve (on the server: landfast agent pending); a node that is \
                     out already needs a new join token"
                );
                None
            }
            read => read?,
        };
        self.device.read = true;
        Ok(())
    }

    /// With the node's keys.
    pub(super) fn forget_device(&mut self) {
        self.device = Device::default();
    }
}

async fn register(channel: &Channel, device: &DeviceKey, agent_id: &SpiffeId) -> Result<State, LinkError> {
    let public_key = device.key.public_key();
    let proof = RegistrationProof {
        agent_id,
        device_key: &public_key,
    };
    let signature = proof.sign(&device.key).map_err(|_cause| LinkError::Key)?;
    let request = wire::RegisterDeviceKeyRequest {
        public_key: public_key.spki_der().to_vec().into(),
        signature: signature.into(),
    };
    let mut client = RecoveryClient::new(channel.clone());
    let answer = rpc::call(REGISTER, client.register_device_key(request)).await?;
    match answer.state() {
        State::Unspecified => Err(LinkError::protocol(
            REGISTER,
            "it does not say what became of the key",
        )),
        state => Ok(state),
    }
}

fn in_words(state: State) -> &'static str {
    match state {
        State::Registered => {
            "registered: this node comes back by itself, or with a person after a long silence"
        }
        State::Held => "waits for a person to approve it (on the server: landfast agent pending)",
        State::Denied => "a person has refused it (on the server: landfast agent pending)",
        State::MakeAnother | State::Unspecified => {
            "not registered: the server asks for another one, again and again"
        }
    }
}

const METHOD: &str = "device_key";
const REGISTER: &str = "RegisterDeviceKey";
const UNKNOWN_THERE: &str =
    "the server knows of none: a node that is away until its own SVID has ended needs a new join token";
