//! `landfast.login.v1.Login`: a person is let in from another machine. Invariant: what is signed names the person and the login, and is for a key
//! whose holder has asked.

use std::net::IpAddr;
use std::time::Duration;

use landfast_audit::{Category, Record};
use landfast_daemon::error_chain;
use landfast_identity::ssh::SshSignature;
use landfast_identity::{Csr, LoginProof};
use landfast_proto::landfast::login::v1::{
    self as pb, finish_request::Proof, login_server::Login as LoginService,
};
use tonic::{Code, Request, Response, Status};

use super::svid::csr_in;
use super::{Api, status};
use crate::endpoints::TlsPeer;
use crate::issuance::Requester;
use crate::ledger::{self, Failure};
use crate::login::{ChallengeError, LONGEST, Provider, ProviderError, SOON};
use crate::people::{Login, Session};

#[tonic::async_trait]
impl LoginService for Api {
    async fn begin(&self, request: Request<pb::BeginRequest>) -> Result<Response<pb::BeginResponse>, Status> {
        self.login_limit.charge(&request, 1)?;
        let address = address(&request);
        let key = <[u8; 32]>::try_from(&*request.into_inner().key_sha256);
        let key = key.map_err(|_length| Status::invalid_argument("key_sha256 has 32 bytes"));
        let key = key.inspect_err(|refused| self.not_in(address, "no key was named", refused))?;
        let challenge = self.logins.challenges.ask(&key, self.now()?);
        let challenge = challenge.ok_or_else(|| status::internal("the random source failed"))?;
        Ok(Response::new(pb::BeginResponse {
            challenge: challenge.into(),
            trust_domain: self.trust_domain.to_string(),
            providers: self.logins.providers.iter().map(provider_out).collect(),
        }))
    }

    async fn finish(
        &self,
        request: Request<pb::FinishRequest>,
    ) -> Result<Response<pb::FinishResponse>, Status> {
        self.login_limit.charge(&request, 1)?;
        let address = address(&request);
        let request = request.into_inner();
        let proven = async {
            let csr = csr_in(&request.csr)?;
            let ttl = self.life(request.seconds)?;
            let login = self.proven(&csr, &request).await?;
            Ok((csr, ttl, login))
        };
        let what = match request.proof {
            Some(Proof::SshSignature(_)) => "an SSH key",
            Some(Proof::IdToken(_)) => "an ID token",
            None => "no proof",
        };
        let untaken = format!("{what} was not taken");
        let proven = proven.await;
        let proven = proven.inspect_err(|refused| self.not_in(address, &untaken, refused));
        let (csr, ttl, login) = proven?;
        // By what may be old somebody is let in who was shut out.
        self.is_current()?;
        let who = Requester::login(address).come_by(Some(login.recorded()));
        let holder = self.registry.holder(&login);
        let Some(person) = holder else {
            let refused = Status::permission_denied(NOBODY);
            self.not_in(address, &format!("{what} is nobody's login"), &refused);
            return Err(refused);
        };
        let spent = self.logins.challenges.spend(&request.challenge, self.now()?);
        let spent = spent.map_err(|error| late(&error));
        spent.inspect_err(|refused| self.not_in(address, &untaken, refused))?;
        let who = who
            .operated_by(format!("person {}", person.reference))
            .of_person(Some(person.reference.to_string()));
        if !person.active {
            let refused = Status::permission_denied(NOBODY);
            told_of(address, &refused);
            tracing::warn!(%who, login = login.recorded(), "a login was refused: its person is not active");
            let record = Record::new(Category::AccessControl, "login.denied", ledger::actor(&who));
            self.ledger.refused(record.because(NOBODY));
            return Err(refused);
        }
        let id = Session::id(&self.trust_domain, &person, &login)
            .ok_or_else(|| status::internal("the ID of a session cannot be made"))?;
        let issued = self.issuer.session_svid(&who, &id, ttl, csr.public_key()).await;
        let issued = issued.map_err(|error| status::issue(&error))?;
        metrics::counter!("landfast_server_logins_total", "outcome" => "done").increment(1);
        tracing::info!(%who, login = login.recorded(), serial = issued.serial_hex(), until = %issued.not_after, "a person has logged in");
        let der = |link: &landfast_identity::Certificate| bytes::Bytes::copy_from_slice(link.as_der());
        Ok(Response::new(pb::FinishResponse {
            chain: issued.chain.iter().map(der).collect(),
            person: person.reference.to_string(),
            expires_at: issued.not_after.as_secs(),
        }))
    }
}

impl Api {
    /// Nobody was let in, and all that is known is from where it was tried. `why` is ours: what a token says may be a name, and stays for good.
    fn not_in(&self, address: Option<IpAddr>, why: &str, refused: &Status) {
        told_of(address, refused);
        // That a provider cannot be asked, or the clock shows nothing, is no decision.
        let is_refusal = !matches!(refused.code(), Code::Unavailable | Code::Internal);
        if let Some(address) = address.filter(|_| is_refusal) {
            self.ledger.failed(Failure::Login, address, why);
        }
    }

    /// The login that the answer proves, whoever's it is.
    async fn proven(&self, csr: &Csr, request: &pb::FinishRequest) -> Result<Login, Status> {
        let (key, now) = (csr.public_key(), self.now()?);
        let challenges = &self.logins.challenges;
        let proof = LoginProof {
            trust_domain: &self.trust_domain,
            challenge: &request.challenge,
            csr_key: key,
        };
        match &request.proof {
            Some(Proof::SshSignature(signature)) => {
                challenges
                    .check(&request.challenge, key, SOON, now)
                    .map_err(|error| late(&error))?;
                let signature = SshSignature::parse(signature);
                let key = signature.as_ref().map_err(|error| *error);
                let key = key.and_then(|signature| signature.verify(LoginProof::NAMESPACE, &proof.message()));
                let key = key.map_err(|error| Status::permission_denied(format!("SSH key: {error}")))?;
                Ok(Login::Ssh(key.fingerprint()))
            }
            Some(Proof::IdToken(answer)) => {
                challenges
                    .check(&request.challenge, key, LONGEST, now)
                    .map_err(|error| late(&error))?;
                let provider = self.logins.provider(&answer.issuer);
                let provider = provider.ok_or_else(|| Status::permission_denied(UNKNOWN_PROVIDER))?;
                let subject = provider.verify(&answer.token, &proof.nonce(), now).await;
                Ok(Login::Oidc(subject.map_err(|error| untaken(&error))?))
            }
            None => Err(Status::invalid_argument(
                "a proof of a kind that this server does not know",
            )),
        }
    }

    fn life(&self, seconds: i64) -> Result<Duration, Status> {
        let config = &self.logins.config;
        match u64::try_from(seconds) {
            Ok(0) => Ok(config.usual()),
            Ok(seconds) if Duration::from_secs(seconds) <= config.longest => Ok(Duration::from_secs(seconds)),
            _ => Err(Status::invalid_argument(format!(
                "a login lasts for {} s at most (login.longest in the server's configuration)",
                config.longest.as_secs()
            ))),
        }
    }
}

fn provider_out(provider: &Provider) -> pb::Provider {
    pb::Provider {
        issuer: provider.config.issuer.clone(),
        client_id: provider.config.client_id.clone(),
    }
}

fn untaken(error: &ProviderError) -> Status {
    match error.is_refusal() {
        true => Status::permission_denied(error_chain(error)),
        false => Status::unavailable(error.to_string()),
    }
}

fn late(error: &ChallengeError) -> Status {
    match error {
        ChallengeError::Crowd => Status::resource_exhausted(error.to_string()),
        _ => Status::permission_denied(error.to_string()),
    }
}

fn address<T>(request: &Request<T>) -> Option<IpAddr> {
    request.extensions().get::<TlsPeer>().map(TlsPeer::ip)
}

/// In the log, with what was wrong.
fn told_of(address: Option<IpAddr>, refused: &Status) {
    metrics::counter!("landfast_server_logins_total", "outcome" => "denied").increment(1);
    let (who, why) = (Requester::login(address), refused.message());
    tracing::info!(%who, why, "a login was refused");
}

const UNKNOWN_PROVIDER: &str =
    "the word of this provider is not taken here ([[oidc]] in the server's configuration)";
const NOBODY: &str = "this login belongs to no active person: somebody who administers gives it to one, with landfast person grant";
