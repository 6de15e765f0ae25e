//! `landfast whoami`: whom the server takes the caller for.

use landfast_proto::landfast::people::v1::{
    self as pb, people_client::PeopleClient, who_am_i_response::Standing,
};
use serde_json::json;

use crate::cli::Globals;
use crate::failure::{Failure, SERVER};
use crate::person::{login, role};
use crate::{connect, output};

pub(crate) async fn run(globals: &Globals) -> Result<(), Failure> {
    let mut client = PeopleClient::new(connect::server(globals).await?);
    let who = connect::call(SERVER, client.who_am_i(pb::WhoAmIRequest {})).await?;
    let roles: Vec<String> = who.roles.iter().map(role).collect();
    let known = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    if globals.json() {
        return output::print_json(&json!({
            "trust_domain": who.trust_domain,
            "actor": who.actor,
            "standing": standing(who.standing()),
            "login": who.login.as_ref().map(login),
            "login_ends_at": output::time_json(who.login_ends_at),
            "person": known(&who.person),
            "name": known(&who.name),
            "roles": roles,
            "may": may(who.standing(), &roles),
            "notice": known(&who.notice),
        }));
    }
    let none = |text: Option<String>| text.unwrap_or_else(|| "none".to_owned());
    let mut facts = vec![
        ("trust domain", who.trust_domain.clone()),
        ("recorded as", who.actor.clone()),
        ("standing", standing(who.standing()).to_owned()),
        ("login", none(who.login.as_ref().map(login))),
        ("until", output::when(who.login_ends_at, "as long as it is given")),
        ("person", none(known(&who.person))),
        ("name", none(known(&who.name))),
        ("may", output::lines(may(who.standing(), &roles), "nothing")),
    ];
    facts.extend(known(&who.notice).map(|notice| ("note", notice)));
    output::print(&output::facts(&facts))
}

fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Administrator => "administrator",
        Standing::Root => "root",
        Standing::Person => "person",
        Standing::Nobody => "nobody",
        Standing::Unspecified => "unknown",
    }
}

fn may(standing: Standing, roles: &[String]) -> Vec<String> {
    let everything = |verbs: &[&str]| verbs.iter().map(|verb| format!("{verb} everything")).collect();
    match standing {
        Standing::Administrator => everything(&["read", "approve", "enrol", "revoke", "administer"]),
        Standing::Root => everything(&["read", "enrol", "revoke", "administer"]),
        Standing::Person => roles.to_vec(),
        Standing::Nobody | Standing::Unspecified => Vec::new(),
    }
}
