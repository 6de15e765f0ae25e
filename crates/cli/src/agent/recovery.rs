//! `landfast agent pending`, `approve`, `deny`: what a person says about nodes that come back.
//!
//! Invariant: what is decided is what was shown: a request is named by the key that it is about, and one that came since is another.

use crate::connect::Channel;
use landfast_identity::SpiffeId;
use landfast_proto::landfast::recovery::v1::{
    self as api,
    recovery_client::RecoveryClient,
    request::{Kind, State},
};
use serde_json::{Value, json};

use crate::cli::Globals;
use crate::failure::{Failure, SERVER};
use crate::{connect, output};

/// Which request.
#[derive(clap::Args, Debug)]
pub(crate) struct Named {
    /// The node's SPIFFE ID.
    id: SpiffeId,
    /// Which of its requests, as `landfast agent pending` shows it; needed when there are several.
    #[arg(long, value_name = "REQUEST")]
    request: Option<String>,
}

pub(super) async fn pending(globals: &Globals) -> Result<(), Failure> {
    let requests = all(&mut client(globals).await?).await?;
    if globals.json() {
        return output::print_json(&Value::from_iter(requests.iter().map(to_json)));
    }
    let rows = requests.iter().map(|request| {
        vec![
            request.agent_id.clone(),
            kind(request.kind()).to_owned(),
            name(request),
            state(request.state()).to_owned(),
            request.address.clone(),
            output::when(request.asked_at, "-"),
            output::when(request.heard_at, "not known"),
            request.why.clone(),
        ]
    });
    let columns = &[
        "NODE",
        "WANTS",
        "REQUEST",
        "STATE",
        "FROM",
        "ASKED AT",
        "LAST HEARD",
        "WHY",
    ];
    output::print(&output::table(columns, rows))
}

pub(super) async fn decide(named: Named, approve: bool, globals: &Globals) -> Result<(), Failure> {
    let mut client = client(globals).await?;
    let requests = all(&mut client).await?;
    let request = choose(&requests, &named)?;
    let order = api::DecideRequest {
        agent_id: request.agent_id.clone(),
        key: request.key.clone(),
        approve,
    };
    let decided = connect::call(SERVER, client.decide(order)).await?;
    if decided.person.is_empty() {
        output::complain(NOBODY);
    }
    let (id, what) = (&request.agent_id, outcome(request.kind(), approve));
    if globals.json() {
        return output::print_json(&json!({
            "id": id, "request": name(request), "kind": kind(request.kind()), "approved": approve,
            "person": Some(&decided.person).filter(|person| !person.is_empty()),
        }));
    }
    output::print(&format!(
        "{id}, request {} from {}: {what}",
        name(request),
        request.address
    ))
}

fn choose<'a>(requests: &'a [api::Request], named: &Named) -> Result<&'a api::Request, Failure> {
    let look = "landfast agent pending shows what there is";
    let of_node: Vec<_> = requests
        .iter()
        .filter(|request| request.agent_id == named.id.as_str())
        .collect();
    let wanted = |request: &&&api::Request| {
        named
            .request
            .as_ref()
            .is_none_or(|wanted| *wanted == name(request))
    };
    let found: Vec<_> = of_node.iter().filter(wanted).collect();
    match (&found[..], &named.request) {
        ([one], _) => Ok(one),
        ([], Some(request)) => Err(Failure::failed(
            format!("{} has no request {request}", named.id),
            look,
        )),
        ([], None) => Err(Failure::failed(
            format!("nothing of {} waits for a person", named.id),
            look,
        )),
        (several, _) => Err(Failure::usage(
            format!("{} requests of {} wait for a person", several.len(), named.id),
            "say which with --request; landfast agent pending shows them, with the addresses they came from",
        )),
    }
}

fn outcome(kind: Kind, approve: bool) -> &'static str {
    match (kind, approve) {
        (Kind::Registration, true) => "its device key is taken, in the place of any other",
        (Kind::Registration, false) => "its device key is refused; one that it has stays",
        (Kind::Conflict, true) => {
            "this is the node: it alone comes back, and makes another device key; the other one stays out"
        }
        (Kind::Conflict, false) => {
            "neither comes back by this device key, it is forgotten; valid SVIDs go on (landfast agent ban ends them)"
        }
        (_, true) => "it comes back when it asks again, within a minute or so",
        (_, false) => {
            "it stays out; landfast agent approve lets it in after all, landfast agent ban shuts it out for good"
        }
    }
}

async fn all(client: &mut RecoveryClient<Channel>) -> Result<Vec<api::Request>, Failure> {
    let (mut requests, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = api::ListRequestsRequest {
            page_size: 0,
            page_token,
        };
        let page = connect::call(SERVER, client.list_requests(request)).await?;
        requests.extend(page.requests);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(requests);
        }
    }
}

async fn client(globals: &Globals) -> Result<RecoveryClient<Channel>, Failure> {
    Ok(RecoveryClient::new(connect::server(globals).await?))
}

/// Half of the hash: more than can be forged, and a person can compare it.
fn name(request: &api::Request) -> String {
    request
        .key
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Recovery => "to come back",
        Kind::Conflict => "one of two",
        Kind::Registration => "a device key",
        Kind::Unspecified => "unknown",
    }
}

fn state(state: State) -> &'static str {
    match state {
        State::Waiting => "waiting",
        State::Approved => "approved",
        State::Denied => "denied",
        State::Accepted => "let in before",
        State::Unspecified => "unknown",
    }
}

fn to_json(request: &api::Request) -> Value {
    let kind = match request.kind() {
        Kind::Recovery => "recovery",
        Kind::Conflict => "conflict",
        Kind::Registration => "registration",
        Kind::Unspecified => "unknown",
    };
    json!({
        "agent_id": request.agent_id, "kind": kind, "request": name(request), "state": state(request.state()),
        "counter": request.counter, "address": request.address, "why": request.why,
        "asked_at": output::time_json(request.asked_at), "heard_at": output::time_json(request.heard_at),
    })
}

const NOBODY: &str = "warning: this was decided by nobody in particular: the server knows no persons. landfast person add --name NAME --uid UID --role administer \
    --role approve makes the first one; from then on each decision names who made it";

#[cfg(test)]
mod tests {
    use super::*;

    fn request(id: &str, key: u8) -> api::Request {
        api::Request {
            agent_id: id.to_owned(),
            key: vec![key; 32].into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_person_decides_about_one_request_that_was_shown() {
        let (a, b) = (
            "spiffe://a.test/spire/agent/x/a",
            "spiffe://a.test/spire/agent/x/b",
        );
        let requests = [request(a, 1), request(b, 2), request(b, 3)];
        let choose = |id: &str, request: Option<&str>| {
            let named = Named {
                id: SpiffeId::parse(id).unwrap(),
                request: request.map(str::to_owned),
            };
            choose(&requests, &named)
                .map(|request| request.key[0])
                .map_err(|failure| failure.message)
        };
        assert_eq!(choose(a, None), Ok(1));
        assert!(choose(b, None).unwrap_err().contains("2 requests"));
        assert_eq!(choose(b, Some(&"03".repeat(16))), Ok(3));
        assert!(
            choose(b, Some(&"01".repeat(16)))
                .unwrap_err()
                .contains("no request"),
            "of another node"
        );
        assert!(choose(b, Some("03")).is_err(), "a part of a name names nothing");
        assert!(
            choose("spiffe://a.test/spire/agent/x/c", None)
                .unwrap_err()
                .contains("nothing")
        );
    }
}
