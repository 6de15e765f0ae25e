//! The scripted server's reserve: policies that entries are told with, and rungs.

use std::collections::HashMap;
use std::time::Duration;

use landfast_identity::{Csr, UnixTime};
use landfast_proto::landfast::entry::v1::{EntryPolicy, JwtOffline};
use landfast_proto::landfast::reserve::v1 as wire;
use landfast_proto::spire::api::types;
use tonic::{Request, Response, Status};

use super::{FakeServer, Lie};
use crate::testing::id;

/// What it does.
#[derive(Default)]
pub(crate) struct Reserve {
    /// By entry.
    pub(crate) policies: HashMap<String, EntryPolicy>,
    /// How long a rung lives; an hour unless set.
    pub(crate) life: Option<u64>,
    /// Whether there is such a service at all.
    pub(crate) missing: bool,
    /// What happened: entry and beginning of each rung that was asked for, by batch.
    pub(crate) asked: Vec<Vec<(String, i64)>>,
    /// Rungs are signed while there are permits.
    pub(crate) hold: Option<std::sync::Arc<tokio::sync::Semaphore>>,
    /// So many of the next calls get no answer in time.
    pub(crate) late: u32,
    /// Of what bundles agents have said that they hold them.
    pub(crate) acknowledged: Vec<u64>,
}

/// A policy that asks for this.
pub(crate) fn policy(reserve: u32, tokens: &[(&str, u32)]) -> EntryPolicy {
    let tokens = tokens.iter().map(|(audience, seconds)| JwtOffline {
        audience: (*audience).to_owned(),
        seconds: *seconds,
    });
    EntryPolicy {
        offline_reserve_seconds: reserve,
        jwt_offline: tokens.collect(),
        revision: 1,
        ..Default::default()
    }
}

impl FakeServer {
    /// Rungs that were asked for.
    pub(crate) fn rungs(&self) -> usize {
        self.script().reserve.asked.iter().map(Vec::len).sum()
    }

    /// Sets an entry's policy, and says so.
    pub(crate) async fn set_policy(&self, entry_id: &str, policy: EntryPolicy) {
        let entry = {
            let mut script = self.script();
            let entry = script.entries.iter().find(|entry| entry.id == entry_id);
            let entry = entry.cloned().unwrap();
            script.reserve.policies.insert(entry_id.to_owned(), policy);
            entry
        };
        let message = {
            let mut script = self.script();
            let (epoch, number) = script.push.next();
            let mut put = super::push::put(entry);
            put.policy = script.reserve.policies.get(entry_id).cloned();
            landfast_proto::landfast::sync::v1::SubscribeResponse {
                put: vec![put],
                ..super::push::step(epoch, number)
            }
        };
        self.say(message).await;
    }
}

#[tonic::async_trait]
impl wire::reserve_server::Reserve for FakeServer {
    async fn new_rungs(
        &self,
        request: Request<wire::NewRungsRequest>,
    ) -> Result<Response<wire::NewRungsResponse>, Status> {
        if self.script().reserve.missing {
            *self.script().calls.entry("NewRungs").or_default() += 1;
            return Err(Status::unimplemented(
                "unknown service landfast.reserve.v1.Reserve",
            ));
        }
        self.called("NewRungs", &request, true)?;
        let fewer = self.script().reserve.late.checked_sub(1);
        if let Some(fewer) = fewer {
            self.script().reserve.late = fewer;
            return Err(Status::deadline_exceeded("too late"));
        }
        let held = self.script().reserve.hold.clone();
        if let Some(held) = held {
            held.acquire().await.unwrap().forget();
        }
        let asked = request.into_inner().rungs;
        assert!((1..=64).contains(&asked.len()));
        let batch = asked.iter().map(|one| (one.entry_id.clone(), one.not_before));
        self.script().reserve.asked.push(batch.collect());
        let rungs = asked.iter().map(|one| self.rung(one));
        Ok(Response::new(wire::NewRungsResponse {
            rungs: rungs.collect(),
        }))
    }

    async fn new_token(
        &self,
        request: Request<wire::NewTokenRequest>,
    ) -> Result<Response<wire::NewTokenResponse>, Status> {
        self.called("NewToken", &request, true)?;
        let asked = request.into_inner();
        let script = self.script();
        let declared = script.reserve.policies.get(&asked.entry_id);
        let declared = declared.and_then(|policy| {
            policy
                .jwt_offline
                .iter()
                .find(|one| one.audience == asked.audience)
        });
        let Some(life) = declared.map(|one| Duration::from_secs(one.seconds.into())) else {
            return Err(Status::failed_precondition("no policy asks for it"));
        };
        let entry = script.entries.iter().find(|entry| entry.id == asked.entry_id);
        let whose = id(&entry.unwrap().spiffe_id.as_ref().unwrap().path);
        let now = crate::testing::real_clock().now().unwrap();
        let ends = now.saturating_add(life);
        let token = self.ca.jwt(&whose, &[asked.audience], "kid", now, ends);
        Ok(Response::new(wire::NewTokenResponse {
            svid: Some(types::Jwtsvid {
                token,
                issued_at: now.as_secs(),
                expires_at: ends.as_secs(),
                ..Default::default()
            }),
        }))
    }
}

impl FakeServer {
    fn rung(&self, asked: &wire::NewRung) -> wire::Rung {
        let script = self.script();
        let entry = script.entries.iter().find(|entry| entry.id == asked.entry_id);
        let refused = script.refuse_each.clone();
        let Some(entry) = entry.filter(|_| refused.is_none()) else {
            let status = refused.unwrap_or_else(|| Status::not_found("entry not found or not authorized"));
            return wire::Rung {
                status: Some(types::Status {
                    code: status.code().into(),
                    message: status.message().to_owned(),
                }),
                svid: None,
            };
        };
        let honest = id(&entry.spiffe_id.as_ref().unwrap().path);
        let life = Duration::from_secs(script.reserve.life.unwrap_or(3600));
        let lie = script.lie;
        drop(script);
        let whose = if lie == Some(Lie::OtherWorkload) {
            id("/other")
        } else {
            honest
        };
        let later = if lie == Some(Lie::OtherTime) { 10_000 } else { 0 };
        let from = UnixTime::from_secs(asked.not_before + later);
        let csr = Csr::parse_der(&asked.csr).unwrap();
        let leaf = self
            .ca
            .sign(&whose, csr.public_key(), from, from.saturating_add(life));
        wire::Rung {
            status: Some(types::Status::default()),
            svid: Some(types::X509svid {
                cert_chain: vec![leaf.as_der().to_vec().into()],
                expires_at: from.saturating_add(life).as_secs(),
                ..Default::default()
            }),
        }
    }
}
