//! SPIRE's services, as the script has them answer.

use super::*;

macro_rules! service {
    (impl $service:path { $($body:tt)* } refuses { $($name:ident($request:ty) -> $response:ty;)* }) => {
        #[tonic::async_trait]
        impl $service for FakeServer {
            $($body)*
            $(async fn $name(&self, _: Request<$request>) -> Result<Response<$response>, Status> {
                Err(Status::unimplemented("not scripted"))
            })*
        }
    };
}

service! {
    impl agent::agent_server::Agent {
        type AttestAgentStream = ReceiverStream<Result<agent::AttestAgentResponse, Status>>;

        async fn attest_agent(
            &self,
            request: Request<Streaming<agent::AttestAgentRequest>>,
        ) -> Result<Response<Self::AttestAgentStream>, Status> {
            use agent::attest_agent_request::Step;
            use agent::attest_agent_response::Step as Answer;
            self.called("AttestAgent", &request, false)?;
            let mut steps = request.into_inner();
            let server = self.clone();
            let (answers, stream) = mpsc::channel(4);
            #[expect(clippy::disallowed_methods, reason = "a test's server has no task tree")]
            tokio::spawn(async move {
                let Some(Step::Params(params)) = steps.message().await.unwrap().unwrap().step else { panic!("no params") };
                let data = params.data.unwrap();
                let csr = params.params.unwrap().csr;
                server.script().payloads.push(data.payload.to_vec());
                server.script().attested_keys.push(Csr::parse_der(&csr).unwrap().public_key().clone());
                let accounted = server.script().nodes.as_mut().map(|nodes| nodes.attest(&data.r#type, &data.payload));
                let scripted = server.script().refuse_attestation.clone();
                let refusal = accounted.and_then(Result::err).or(scripted);
                let claim = recovery::claim(&data);
                let challenge = server.script().challenge.clone();
                if let Some(refusal) = refusal {
                    answers.send(Err(refusal)).await.unwrap();
                    return;
                }
                if let Some(claim) = claim {
                    let nonce = [9; 32];
                    let step = Some(Answer::Challenge(recovery::challenge(nonce).into()));
                    answers.send(Ok(agent::AttestAgentResponse { step })).await.unwrap();
                    let answer = steps.message().await.unwrap().unwrap().step;
                    let Some(Step::ChallengeResponse(answer)) = answer else { panic!("no proof") };
                    if let Err(refusal) = server.prove(&claim, &nonce, &csr, &answer) {
                        answers.send(Err(refusal)).await.unwrap();
                        return;
                    }
                }
                if let Some(challenge) = challenge {
                    let step = Some(Answer::Challenge(challenge.into()));
                    answers.send(Ok(agent::AttestAgentResponse { step })).await.unwrap();
                    let answer = steps.message().await.unwrap().unwrap().step;
                    let Some(Step::ChallengeResponse(answer)) = answer else { panic!("no answer to the challenge") };
                    server.script().challenge_answer = Some(answer.to_vec());
                }
                let lost = {
                    let mut script = server.script();
                    script.deny = None;
                    let lost = script.lose_replies > 0;
                    script.lose_replies = script.lose_replies.saturating_sub(1);
                    lost
                };
                if lost {
                    answers.send(Err(Status::unavailable("the connection broke"))).await.unwrap();
                    return;
                }
                let validity = server.script().agent_validity;
                // By its device key it is the node that it was.
                let kind = if data.r#type == "device_key" { "join_token" } else { &data.r#type };
                let honest = SpiffeId::agent(&td(), kind, "node-1").unwrap();
                let id = if server.lies(Lie::NotAnAgent) { crate::testing::id("/workload") } else { honest };
                let svid = server.svid(&id, &csr, validity);
                let reattestable = {
                    let mut script = server.script();
                    let scripted = script.reattestable;
                    let nodes = script.nodes.as_mut();
                    nodes.map_or(scripted, |nodes| nodes.attested(&id, &serial(&svid), &data.r#type))
                };
                let result = agent::attest_agent_response::Result { svid: Some(svid), reattestable };
                let step = Some(Answer::Result(result));
                drop(answers.send(Ok(agent::AttestAgentResponse { step })).await);
            });
            Ok(Response::new(ReceiverStream::new(stream)))
        }

        async fn renew_agent(
            &self,
            request: Request<agent::RenewAgentRequest>,
        ) -> Result<Response<agent::RenewAgentResponse>, Status> {
            self.called("RenewAgent", &request, true)?;
            let validity = self.script().agent_validity;
            let csr = request.into_inner().params.unwrap().csr;
            let id = SpiffeId::agent(&td(), "join_token", "node-1").unwrap();
            let svid = self.svid(&id, &csr, validity);
            if let Some(nodes) = &mut self.script().nodes {
                nodes.renewed(&id, &serial(&svid))?;
            }
            Ok(Response::new(agent::RenewAgentResponse { svid: Some(svid) }))
        }

        async fn post_status(
            &self,
            request: Request<agent::PostStatusRequest>,
        ) -> Result<Response<agent::PostStatusResponse>, Status> {
            self.called("PostStatus", &request, false)?;
            Ok(Response::new(agent::PostStatusResponse {}))
        }
    }
    refuses {
        count_agents(agent::CountAgentsRequest) -> agent::CountAgentsResponse;
        list_agents(agent::ListAgentsRequest) -> agent::ListAgentsResponse;
        get_agent(agent::GetAgentRequest) -> types::Agent;
        create_join_token(agent::CreateJoinTokenRequest) -> types::JoinToken;
        delete_agent(agent::DeleteAgentRequest) -> ();
        ban_agent(agent::BanAgentRequest) -> ();
    }
}

service! {
    impl bundle::bundle_server::Bundle {
        async fn get_bundle(&self, request: Request<bundle::GetBundleRequest>) -> Result<Response<types::Bundle>, Status> {
            self.called("GetBundle", &request, false)?;
            let tainted = self.script().tainted;
            let mut bundle = wire_bundle(&self.ca, tainted);
            bundle.sequence_number = self.script().sequence.max(1);
            let wit = self.script().wit.clone();
            bundle.wit_authorities = wit.into_iter().map(|(key_id, tainted)| types::WitKey {
                public_key: self.ca.public_key().spki_der().to_vec().into(),
                key_id: key_id.to_owned(),
                expires_at: 0,
                tainted,
            }).collect();
            if self.lies(Lie::EmptyBundle) {
                bundle.x509_authorities.clear();
            }
            if self.lies(Lie::OtherBundle) {
                bundle.trust_domain = "other.test".to_owned();
            }
            if self.lies(Lie::LeafInBundle) {
                let svid = self.ca.svid(&crate::testing::id("/leaf"), UnixTime::from_secs(1_700_000_000), crate::testing::NOON);
                bundle.x509_authorities[0].asn1 = svid.leaf().as_der().to_vec().into();
            }
            Ok(self.dated("GetBundle", bundle))
        }

        async fn get_federated_bundle(
            &self,
            request: Request<bundle::GetFederatedBundleRequest>,
        ) -> Result<Response<types::Bundle>, Status> {
            self.called("GetFederatedBundle", &request, true)?;
            let found = self.script().federated.get(&request.into_inner().trust_domain).cloned();
            found.map(Response::new).ok_or_else(|| Status::not_found("bundle not found"))
        }
    }
    refuses {
        count_bundles(bundle::CountBundlesRequest) -> bundle::CountBundlesResponse;
        append_bundle(bundle::AppendBundleRequest) -> types::Bundle;
        publish_jwt_authority(bundle::PublishJwtAuthorityRequest) -> bundle::PublishJwtAuthorityResponse;
        publish_wit_authority(bundle::PublishWitAuthorityRequest) -> bundle::PublishWitAuthorityResponse;
        list_federated_bundles(bundle::ListFederatedBundlesRequest) -> bundle::ListFederatedBundlesResponse;
        batch_create_federated_bundle(bundle::BatchCreateFederatedBundleRequest) -> bundle::BatchCreateFederatedBundleResponse;
        batch_update_federated_bundle(bundle::BatchUpdateFederatedBundleRequest) -> bundle::BatchUpdateFederatedBundleResponse;
        batch_set_federated_bundle(bundle::BatchSetFederatedBundleRequest) -> bundle::BatchSetFederatedBundleResponse;
        batch_delete_federated_bundle(bundle::BatchDeleteFederatedBundleRequest) -> bundle::BatchDeleteFederatedBundleResponse;
    }
}

service! {
    impl entry::entry_server::Entry {
        type SyncAuthorizedEntriesStream = ReceiverStream<Result<entry::SyncAuthorizedEntriesResponse, Status>>;

        async fn sync_authorized_entries(
            &self,
            request: Request<Streaming<entry::SyncAuthorizedEntriesRequest>>,
        ) -> Result<Response<Self::SyncAuthorizedEntriesStream>, Status> {
            self.called("SyncAuthorizedEntries", &request, true)?;
            let mut requests = request.into_inner();
            let server = self.clone();
            let (answers, stream) = mpsc::channel(4);
            #[expect(clippy::disallowed_methods, reason = "a test's server has no task tree")]
            tokio::spawn(async move {
                let Ok(Some(first)) = requests.message().await else { return };
                let mask = first.output_mask.unwrap();
                assert!(first.ids.is_empty() && mask.revision_number);
                let mut entries = server.authorized();
                for entry in entries.iter_mut().filter(|_| !mask.additional_attributes) {
                    entry.additional_attributes = None;
                }
                let page = server.script().page;
                if entries.len() <= page {
                    let all = entry::SyncAuthorizedEntriesResponse { entries, ..Default::default() };
                    drop(answers.send(Ok(all)).await);
                    return;
                }
                let mut pages = entries.chunks(page).peekable();
                while let Some(part) = pages.next() {
                    let entry_revisions = part.iter().map(|e| entry::EntryRevision {
                        id: e.id.clone(), revision_number: e.revision_number, created_at: e.created_at,
                    });
                    let more = pages.peek().is_some();
                    let entry_revisions = entry_revisions.collect();
                    let answer = entry::SyncAuthorizedEntriesResponse { entry_revisions, more, ..Default::default() };
                    if answers.send(Ok(answer)).await.is_err() {
                        return;
                    }
                }
                while let Ok(Some(request)) = requests.message().await {
                    server.script().asked_ids.push(request.ids.len());
                    assert!(request.ids.len() <= page && request.ids.is_sorted());
                    let lie = server.lies(Lie::OtherEntries);
                    let wanted = entries.iter().filter(|e| request.ids.contains(&e.id) != lie);
                    let wanted: Vec<_> = wanted.take(request.ids.len()).cloned().collect();
                    // In two messages, to show that `more` is obeyed.
                    let (one, two) = wanted.split_at(wanted.len() / 2);
                    let hollow = server.lies(Lie::EmptyPage);
                    let pages = [(one, true), (two, false)];
                    for (part, more) in pages.into_iter().filter(|(part, more)| hollow || !more || !part.is_empty()) {
                        let answer = entry::SyncAuthorizedEntriesResponse { entries: part.to_vec(), more, ..Default::default() };
                        if answers.send(Ok(answer)).await.is_err() {
                            return;
                        }
                    }
                }
            });
            Ok(self.dated("SyncAuthorizedEntries", ReceiverStream::new(stream)))
        }

        async fn get_authorized_entries(
            &self,
            request: Request<entry::GetAuthorizedEntriesRequest>,
        ) -> Result<Response<entry::GetAuthorizedEntriesResponse>, Status> {
            self.called("GetAuthorizedEntries", &request, true)?;
            let entries = self.authorized();
            Ok(self.dated("GetAuthorizedEntries", entry::GetAuthorizedEntriesResponse { entries }))
        }
    }
    refuses {
        count_entries(entry::CountEntriesRequest) -> entry::CountEntriesResponse;
        list_entries(entry::ListEntriesRequest) -> entry::ListEntriesResponse;
        get_entry(entry::GetEntryRequest) -> types::Entry;
        batch_create_entry(entry::BatchCreateEntryRequest) -> entry::BatchCreateEntryResponse;
        batch_update_entry(entry::BatchUpdateEntryRequest) -> entry::BatchUpdateEntryResponse;
        batch_delete_entry(entry::BatchDeleteEntryRequest) -> entry::BatchDeleteEntryResponse;
    }
}

service! {
    impl svid::svid_server::Svid {
        async fn batch_new_x509svid(
            &self,
            request: Request<svid::BatchNewX509svidRequest>,
        ) -> Result<Response<svid::BatchNewX509svidResponse>, Status> {
            self.called("BatchNewX509SVID", &request, true)?;
            let held = self.script().hold_issuing.clone();
            if let Some(held) = held {
                held.acquire().await.unwrap().forget();
            }
            let params = request.into_inner().params;
            self.script().batch_sizes.push(params.len());
            let entries = self.script().entries.clone();
            let validity = self.script().workload_validity;
            let refused = self.script().refuse_each.clone();
            let short = usize::from(self.lies(Lie::ShortBatch));
            let results = params.iter().skip(short).map(|one| {
                if let Some(refused) = &refused {
                    let status = types::Status { code: refused.code().into(), message: refused.message().to_owned() };
                    return svid::batch_new_x509svid_response::Result { status: Some(status), svid: None };
                }
                let found = entries.iter().find(|entry| entry.id == one.entry_id);
                let Some(found) = found else {
                    let status = types::Status { code: 5, message: "entry not found or not authorized".to_owned() };
                    return svid::batch_new_x509svid_response::Result { status: Some(status), svid: None };
                };
                let honest = crate::testing::id(&found.spiffe_id.as_ref().unwrap().path);
                let id = if self.lies(Lie::OtherWorkload) { crate::testing::id("/other") } else { honest };
                let svid = Some(self.svid(&id, &one.csr, validity));
                svid::batch_new_x509svid_response::Result { status: Some(types::Status::default()), svid }
            });
            Ok(Response::new(svid::BatchNewX509svidResponse { results: results.collect() }))
        }

        async fn new_jwtsvid(
            &self,
            request: Request<svid::NewJwtsvidRequest>,
        ) -> Result<Response<svid::NewJwtsvidResponse>, Status> {
            self.called("NewJWTSVID", &request, true)?;
            let request = request.into_inner();
            let entry = self.script().entries.iter().find(|entry| entry.id == request.entry_id).cloned();
            let entry = entry.ok_or_else(|| Status::not_found("entry not found or not authorized"))?;
            let spiffe_id = entry.spiffe_id.unwrap();
            let now = real_clock().now().unwrap();
            let life = self.script().jwt_life.unwrap_or(300);
            let expires = now.saturating_add(Duration::from_secs(life));
            let token = self.ca.jwt(&crate::testing::id(&spiffe_id.path), &request.audience, "kid", now, expires);
            let svid = types::Jwtsvid {
                token, id: Some(spiffe_id), expires_at: expires.as_secs(), issued_at: now.as_secs(), hint: String::new(),
            };
            Ok(Response::new(svid::NewJwtsvidResponse { svid: Some(svid) }))
        }

        async fn batch_new_witsvid(
            &self,
            request: Request<svid::BatchNewWitsvidRequest>,
        ) -> Result<Response<svid::BatchNewWitsvidResponse>, Status> {
            self.called("BatchNewWITSVID", &request, true)?;
            let refused = self.script().refuse_each.clone();
            let results = request.into_inner().params.into_iter().map(|one| {
                let status = |status: &Status| types::Status { code: status.code().into(), message: status.message().to_owned() };
                if let Some(refused) = &refused {
                    return svid::batch_new_witsvid_response::Result { status: Some(status(refused)), svid: None };
                }
                // As SPIRE, which leaves out the status of a success.
                svid::batch_new_witsvid_response::Result { status: None, svid: Some(self.wit(&one)) }
            });
            Ok(Response::new(svid::BatchNewWitsvidResponse { results: results.collect() }))
        }
    }
    refuses {
        mint_x509svid(svid::MintX509svidRequest) -> svid::MintX509svidResponse;
        mint_jwtsvid(svid::MintJwtsvidRequest) -> svid::MintJwtsvidResponse;
        mint_witsvid(svid::MintWitsvidRequest) -> svid::MintWitsvidResponse;
        new_downstream_x509ca(svid::NewDownstreamX509caRequest) -> svid::NewDownstreamX509caResponse;
    }
}
