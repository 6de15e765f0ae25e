//! `landfast entry policy`.

use std::collections::HashMap;

use clap::Subcommand;
use landfast_proto::landfast::entry::v1 as api;
use landfast_proto::landfast::entry::v1::entry_policies_client::EntryPoliciesClient;
use serde_json::json;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::cli::Globals;
use crate::failure::{Failure, SERVER};
use crate::{connect, output};

#[derive(Subcommand, Debug)]
pub(crate) enum PolicyCommand {
    /// The policy of one entry [server].
    Get {
        /// The entry's ID.
        id: String,
    },
    /// Change what is given of an entry's policy, leave the rest [server].
    Set {
        /// The entry's ID.
        id: String,
        /// For people: what it is for, whom to ask; at most 1,024 bytes on one line, empty to clear it.
        #[arg(long)]
        description: Option<String>,
        /// Only while the policy is at this revision, as get showed it.
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..), value_name = "NUMBER")]
        if_revision: Option<u64>,
    },
}

pub(super) async fn run(command: PolicyCommand, globals: &Globals) -> Result<(), Failure> {
    let mut client = EntryPoliciesClient::new(connect::server(globals).await?);
    match command {
        PolicyCommand::Get { id } => {
            let request = api::GetEntryPoliciesRequest { entry_ids: vec![id] };
            let answer = connect::answer(client.get_entry_policies(request)).await;
            let found = answer.map_err(refused)?.policies.into_iter().next();
            print(&found.unwrap_or_default(), globals)
        }
        PolicyCommand::Set {
            id,
            description,
            if_revision,
        } => {
            let Some(description) = description else {
                return Err(Failure::usage("nothing to change", "give --description"));
            };
            let policy = api::EntryPolicy {
                entry_id: id,
                description,
                revision: 0,
            };
            let request = api::SetEntryPolicyRequest {
                policy: Some(policy),
                mask: Some(api::EntryPolicyMask { description: true }),
                if_revision: if_revision.unwrap_or_default(),
            };
            let answer = connect::answer(client.set_entry_policy(request)).await;
            print(&answer.map_err(refused)?, globals)
        }
    }
}

fn refused(status: Status) -> Failure {
    match status.code() {
        Code::Unimplemented => Failure::failed(
            "this server keeps no policies",
            "SPIRE's server and older ones of ours do not; entries work without",
        ),
        Code::FailedPrecondition => Failure::failed(
            format!("{SERVER}: {}", status.message()),
            "landfast entry policy get ID shows it; nothing was changed",
        ),
        Code::NotFound => Failure::failed(
            format!("{SERVER}: {}", status.message()),
            "landfast entry list shows what there is",
        ),
        _ => Failure::status(SERVER, &status),
    }
}

fn print(policy: &api::EntryPolicy, globals: &Globals) -> Result<(), Failure> {
    if globals.json() {
        return output::print_json(&json!({
            "entry_id": policy.entry_id, "description": policy.description, "revision": policy.revision,
        }));
    }
    let or = |text: String, none: &str| if text.is_empty() { none.to_owned() } else { text };
    let revision = Some(policy.revision).filter(|revision| *revision != 0);
    output::print(&output::facts(&[
        ("entry", policy.entry_id.clone()),
        ("description", or(policy.description.clone(), "none")),
        (
            "revision",
            revision.map_or_else(|| "never set".to_owned(), |revision| revision.to_string()),
        ),
    ]))
}

/// By entry ID. Empty when the server has none, as SPIRE's.
pub(super) type Policies = HashMap<String, api::EntryPolicy>;

/// Of at most [`AT_ONCE`] entries.
pub(super) async fn of(
    channel: &Channel,
    entry_ids: impl IntoIterator<Item = String>,
) -> Result<Policies, Failure> {
    let mut client = EntryPoliciesClient::new(channel.clone());
    let entry_ids: Vec<String> = entry_ids.into_iter().collect();
    let mut policies = Vec::new();
    let request = api::GetEntryPoliciesRequest {
        entry_ids: entry_ids.clone(),
    };
    match connect::answer(client.get_entry_policies(request)).await {
        Ok(answer) => policies = answer.policies,
        Err(status) if status.code() == Code::Unimplemented => {}
        // One was deleted since it was listed: the others are asked for one by one.
        Err(status) if status.code() == Code::NotFound => {
            for id in entry_ids {
                let request = api::GetEntryPoliciesRequest { entry_ids: vec![id] };
                match connect::answer(client.get_entry_policies(request)).await {
                    Ok(answer) => policies.extend(answer.policies),
                    Err(status) if status.code() == Code::NotFound => {}
                    Err(status) => return Err(Failure::status(SERVER, &status)),
                }
            }
        }
        Err(status) => return Err(Failure::status(SERVER, &status)),
    }
    let by_id = policies
        .into_iter()
        .map(|policy| (policy.entry_id.clone(), policy));
    Ok(by_id.collect())
}

/// As many as a server answers at once.
pub(super) const AT_ONCE: i32 = 500;

#[cfg(test)]
mod tests {
    use hyper_util::rt::TokioIo;
    use landfast_proto::landfast::entry::v1::entry_policies_server::{EntryPolicies, EntryPoliciesServer};
    use tonic::service::Routes;
    use tonic::transport::{Endpoint, Server};
    use tonic::{Request, Response};

    use super::*;

    /// Has a policy for every entry but one.
    struct Fake;

    #[tonic::async_trait]
    impl EntryPolicies for Fake {
        async fn get_entry_policies(
            &self,
            request: Request<api::GetEntryPoliciesRequest>,
        ) -> Result<Response<api::GetEntryPoliciesResponse>, Status> {
            let ids = request.into_inner().entry_ids;
            if ids.iter().any(|id| id == "gone") {
                return Err(Status::not_found("no entry gone"));
            }
            let policy = |entry_id: String| api::EntryPolicy {
                entry_id,
                revision: 1,
                ..Default::default()
            };
            let policies = ids.into_iter().map(policy).collect();
            Ok(Response::new(api::GetEntryPoliciesResponse { policies }))
        }

        async fn set_entry_policy(
            &self,
            _: Request<api::SetEntryPolicyRequest>,
        ) -> Result<Response<api::EntryPolicy>, Status> {
            Err(Status::failed_precondition("at revision 3"))
        }
    }

    /// What a server with these services answers for these entries.
    async fn asked(routes: Routes, ids: &[&str]) -> Policies {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let incoming = tokio_stream::iter([Ok::<_, std::io::Error>(far)]);
        let served = Server::builder().add_routes(routes).serve_with_incoming(incoming);
        let near = std::sync::Mutex::new(Some(near));
        let connector = tower::service_fn(move |_: http::Uri| {
            let near = near.lock().unwrap().take().unwrap();
            async move { Ok::<_, std::io::Error>(TokioIo::new(near)) }
        });
        let ask = async {
            let endpoint = Endpoint::from_static("http://localhost");
            let channel = endpoint.connect_with_connector(connector).await.unwrap();
            of(&channel, ids.iter().map(|id| (*id).to_owned())).await.unwrap()
        };
        let (served, policies) = tokio::join!(served, ask);
        served.unwrap();
        policies
    }

    #[tokio::test]
    async fn a_server_without_policies_is_no_failure() {
        assert_eq!(asked(Routes::default(), &["a"]).await, Policies::new());
    }

    #[tokio::test]
    async fn an_entry_that_goes_while_it_is_listed_takes_no_other_policy_with_it() {
        let routes = || Routes::new(EntryPoliciesServer::new(Fake));
        assert_eq!(asked(routes(), &["a", "b"]).await.len(), 2, "the control");
        let policies = asked(routes(), &["a", "gone", "b"]).await;
        let mut ids: Vec<_> = policies.keys().map(String::as_str).collect();
        ids.sort_unstable();
        assert_eq!(ids, ["a", "b"]);
    }

    #[test]
    fn who_is_refused_is_told_what_to_look_at() {
        let old = refused(Status::unimplemented("unknown service"));
        assert!(old.message.contains("keeps no policies"), "{old:?}");
        let stale = refused(Status::failed_precondition("at revision 3"));
        assert!(stale.hint.contains("policy get"), "{stale:?}");
    }
}
