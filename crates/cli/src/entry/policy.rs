//! `landfast entry policy`.

use std::collections::HashMap;
use std::time::Duration;

use crate::connect::Channel;
use clap::Subcommand;
use landfast_proto::landfast::entry::v1::entry_policies_client::EntryPoliciesClient;
use landfast_proto::landfast::entry::v1::{self as api, JwtOffline};
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::cli::Globals;
use crate::failure::{Failure, SERVER};
use crate::{connect, output, wire};

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
        /// For how long a node that is cut off shall have X509-SVIDs ahead, such as 72h; 0s for none.
        #[arg(long, value_parser = reserve, value_name = "DURATION")]
        offline_reserve: Option<Duration>,
        /// Whether the entry never has anything ahead, whatever else is asked for.
        #[arg(long, action = clap::ArgAction::Set, value_name = "true|false")]
        privileged: Option<bool>,
        /// Whether the entry is issued also while the server's ledger cannot be written: the gap is recorded afterwards.
        #[arg(long, action = clap::ArgAction::Set, value_name = "true|false")]
        availability_first: Option<bool>,
        /// Have a token for this audience ahead, that lives so long, such as historian=8h; again for each audience. Those that are not given are no more.
        #[arg(long, value_parser = token, value_name = "AUDIENCE=DURATION")]
        jwt_offline: Vec<JwtOffline>,
        /// Have no tokens ahead.
        #[arg(long, conflicts_with = "jwt_offline")]
        no_jwt_offline: bool,
        #[command(flatten)]
        party: Party,
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
            offline_reserve,
            privileged,
            availability_first,
            jwt_offline,
            no_jwt_offline,
            party,
            if_revision,
        } => {
            let mask = api::EntryPolicyMask {
                description: description.is_some(),
                offline_reserve_seconds: offline_reserve.is_some(),
                privileged: privileged.is_some(),
                availability_first: availability_first.is_some(),
                jwt_offline: no_jwt_offline || !jwt_offline.is_empty(),
                third_party: party.third_party || party.no_third_party,
            };
            if mask == api::EntryPolicyMask::default() {
                return Err(Failure::usage(
                    "nothing to change",
                    "give --description, --offline-reserve, --privileged, --availability-first, --jwt-offline or --third-party",
                ));
            }
            let reserve = offline_reserve.unwrap_or_default().as_secs();
            let policy = api::EntryPolicy {
                entry_id: id,
                description: description.unwrap_or_default(),
                offline_reserve_seconds: u32::try_from(reserve).unwrap_or(u32::MAX),
                privileged: privileged.unwrap_or_default(),
                availability_first: availability_first.unwrap_or_default(),
                jwt_offline,
                third_party: party.message(),
                revision: 0,
            };
            let request = api::SetEntryPolicyRequest {
                policy: Some(policy),
                mask: Some(mask),
                if_revision: if_revision.unwrap_or_default(),
            };
            let answer = connect::answer(client.set_entry_policy(request)).await;
            print(&answer.map_err(refused)?, globals)
        }
    }
}

/// Whose the workload is.
#[derive(clap::Args, Debug)]
pub(crate) struct Party {
    /// It is of a supplier: it has to expire, and somebody answers for it.
    #[arg(long, requires = "sponsor", requires = "contract")]
    third_party: bool,
    /// The reference of the person who answers for it (landfast person list). While that is no active person nothing is issued.
    #[arg(long, requires = "third_party", value_name = "PERSON")]
    sponsor: Option<String>,
    /// Under which contract: at most 256 bytes on one line.
    #[arg(long, requires = "third_party", value_name = "TEXT")]
    contract: Option<String>,
    /// It is ours again.
    #[arg(long, conflicts_with = "third_party")]
    no_third_party: bool,
}

impl Party {
    fn message(&self) -> Option<api::ThirdParty> {
        self.third_party.then(|| api::ThirdParty {
            sponsor: self.sponsor.clone().unwrap_or_default(),
            contract: self.contract.clone().unwrap_or_default(),
        })
    }
}

/// Makes the entry that was just made one of a third party.
pub(super) async fn make_third_party(
    channel: Channel,
    entry_id: String,
    (sponsor, contract): (String, String),
) -> Result<api::EntryPolicy, Failure> {
    let request = api::SetEntryPolicyRequest {
        policy: Some(api::EntryPolicy {
            entry_id,
            third_party: Some(api::ThirdParty { sponsor, contract }),
            ..api::EntryPolicy::default()
        }),
        mask: Some(api::EntryPolicyMask {
            third_party: true,
            ..api::EntryPolicyMask::default()
        }),
        if_revision: 0,
    };
    let answer = connect::answer(EntryPoliciesClient::new(channel).set_entry_policy(request)).await;
    answer.map_err(refused)
}

/// As any other duration, and none.
fn reserve(text: &str) -> Result<Duration, String> {
    match text {
        "0" | "0s" => Ok(Duration::ZERO),
        _ => wire::duration(text),
    }
}

fn token(text: &str) -> Result<JwtOffline, String> {
    let expected = || "an audience and how long the token lives, such as historian=8h".to_owned();
    // An audience may be a URL with a query.
    let (audience, life) = text.rsplit_once('=').ok_or_else(expected)?;
    let life = wire::duration(life)?.as_secs();
    match audience {
        "" => Err(expected()),
        audience => Ok(JwtOffline {
            audience: audience.to_owned(),
            seconds: u32::try_from(life).map_err(|_too_long| expected())?,
        }),
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
        let mut shown = json(policy);
        shown["entry_id"] = policy.entry_id.as_str().into();
        return output::print_json(&shown);
    }
    let or = |text: String, none: &str| if text.is_empty() { none.to_owned() } else { text };
    let revision = Some(policy.revision).filter(|revision| *revision != 0);
    let mut facts = vec![
        ("entry", policy.entry_id.clone()),
        ("description", or(policy.description.clone(), "none")),
    ];
    let ahead = ahead(policy);
    match ahead.is_empty() {
        true => facts.push(("offline reserve", "none".to_owned())),
        false => facts.extend(ahead),
    }
    facts.extend(unrecorded(policy));
    facts.push((
        "revision",
        revision.map_or_else(|| "never set".to_owned(), |revision| revision.to_string()),
    ));
    output::print(&output::facts(&facts))
}

/// What the entry may have ahead, or that it may not.
pub(super) fn ahead(policy: &api::EntryPolicy) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    if let Some(party) = &policy.third_party {
        facts.push((
            "third party",
            format!("sponsor {}, contract {}", party.sponsor, party.contract),
        ));
    }
    if policy.privileged {
        facts.push(("privileged", "yes: nothing is had ahead".to_owned()));
    }
    if policy.offline_reserve_seconds > 0 {
        facts.push(("offline reserve", span(policy.offline_reserve_seconds)));
    }
    if !policy.jwt_offline.is_empty() {
        let tokens = policy.jwt_offline.iter();
        let tokens = tokens.map(|token| format!("{} for {}", token.audience, span(token.seconds)));
        facts.push(("offline tokens", output::lines(tokens, "none")));
    }
    facts
}

/// What the server does for the entry while it cannot record it.
pub(super) fn unrecorded(policy: &api::EntryPolicy) -> Option<(&'static str, String)> {
    let what = "goes on, and the gap is recorded afterwards".to_owned();
    policy.availability_first.then_some(("without ledger", what))
}

pub(super) fn json(policy: &api::EntryPolicy) -> Value {
    let tokens = policy.jwt_offline.iter();
    let tokens = tokens.map(|token| json!({"audience": token.audience, "seconds": token.seconds}));
    json!({
        "description": policy.description, "revision": policy.revision,
        "offline_reserve_seconds": policy.offline_reserve_seconds, "privileged": policy.privileged,
        "availability_first": policy.availability_first,
        "jwt_offline": tokens.collect::<Vec<_>>(),
        "third_party": policy.third_party.as_ref().map(|party| json!({"sponsor": party.sponsor, "contract": party.contract})),
    })
}

/// In the largest unit that says it exactly.
fn span(seconds: u32) -> String {
    let units = [(86_400, "d"), (3600, "h"), (60, "m")];
    // Three days are said as they are asked for: 72h.
    let fits =
        |(unit, _): &&(u32, &str)| seconds.is_multiple_of(*unit) && (*unit < 86_400 || seconds / unit > 3);
    let (unit, name) = units.iter().find(fits).unwrap_or(&(1, "s"));
    format!("{}{name}", seconds / unit)
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
            let channel = Channel::new(channel, connect::WithReason::default());
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
    fn what_is_had_ahead_is_said_as_it_is_asked_for() {
        assert_eq!(reserve("0s"), Ok(Duration::ZERO));
        assert_eq!(reserve("72h"), Ok(Duration::from_secs(259_200)));
        assert!(reserve("0.5s").is_err() && reserve("-1h").is_err());
        let parsed = token("https://h.example/?a=b=8h").unwrap();
        assert_eq!(
            (parsed.audience.as_str(), parsed.seconds),
            ("https://h.example/?a=b", 28_800)
        );
        for bad in [
            "historian",
            "=8h",
            "historian=",
            "historian=0s",
            "historian=200000d",
        ] {
            assert!(token(bad).is_err(), "{bad}");
        }
        let spans = [259_200, 28_800, 604_800, 5400, 61].map(span);
        assert_eq!(spans, ["72h", "8h", "7d", "90m", "61s"]);
    }

    #[test]
    fn who_is_refused_is_told_what_to_look_at() {
        let old = refused(Status::unimplemented("unknown service"));
        assert!(old.message.contains("keeps no policies"), "{old:?}");
        let stale = refused(Status::failed_precondition("at revision 3"));
        assert!(stale.hint.contains("policy get"), "{stale:?}");
    }
}
