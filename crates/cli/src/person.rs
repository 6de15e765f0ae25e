//! `landfast person`: who operates, by which logins, and what each may do.
//!
//! Invariant: what is granted is what was typed; whether it holds already or waits for a second person is said each time.

mod shown;

use clap::Subcommand;
use landfast_identity::ssh::SshFingerprint;
use landfast_identity::{IdPattern, SpiffeId};
use landfast_proto::landfast::people::v1::{self as pb, login::Kind, people_client::PeopleClient};
use serde_json::{Value, json};

use crate::cli::Globals;
use crate::connect::{self, Channel};
use crate::failure::{Failure, SERVER};
use crate::output;
pub(crate) use shown::{login, role};

#[derive(Subcommand, Debug)]
pub(crate) enum PersonCommand {
    /// All persons, with what each may do [server].
    List,
    /// One person, with who agreed to what [server].
    Show {
        /// The reference, as list shows it.
        person: String,
    },
    /// Add a person [server].
    Add {
        /// What people call the person. It can be erased, and is nowhere else.
        #[arg(long)]
        name: String,
        #[command(flatten)]
        rights: Rights,
    },
    /// Give a person further logins or roles [server].
    Grant {
        /// The reference, as list shows it.
        person: String,
        #[command(flatten)]
        rights: Rights,
    },
    /// Take logins or roles from a person [server].
    Withdraw {
        /// The reference, as list shows it.
        person: String,
        #[command(flatten)]
        rights: Rights,
    },
    /// Call a person by another name [server].
    Rename {
        /// The reference, as list shows it.
        person: String,
        /// What people call the person.
        name: String,
    },
    /// Let a person do what its roles say again [server].
    Activate {
        /// The reference, as list shows it.
        person: String,
    },
    /// Let a person do nothing any more; at once [server].
    Deactivate {
        /// The reference, as list shows it.
        person: String,
    },
    /// Erase the name and the logins, for good. What was recorded of the reference stays [server].
    Forget {
        /// The reference, as list shows it.
        person: String,
    },
    /// What waits for a second person [server].
    Proposals,
    /// Agree to a proposal of another person [server].
    Confirm {
        /// Which, as proposals shows it.
        id: String,
    },
    /// End a proposal [server].
    Reject {
        /// Which, as proposals shows it.
        id: String,
    },
}

/// Logins and roles.
#[derive(clap::Args, Debug)]
pub(crate) struct Rights {
    /// A user of the server's machine, by number: whoever logs in as it, also behind sudo. May be given again.
    #[arg(long = "uid", value_name = "UID")]
    uids: Vec<u32>,
    /// The SPIFFE ID of a certificate that the person shows over mTLS. May be given again.
    #[arg(long = "id", value_name = "SPIFFE-ID")]
    ids: Vec<SpiffeId>,
    /// The fingerprint of an SSH key that the person logs in with from elsewhere: SHA256:… as ssh-keygen -l shows it. May be given again.
    #[arg(long = "ssh-key", value_name = "FINGERPRINT")]
    ssh_keys: Vec<SshFingerprint>,
    /// Who the person is at an OIDC provider that the server knows: its issuer, # and the subject. May be given again.
    #[arg(long = "oidc", value_name = "ISSUER#SUB", value_parser = oidc_in)]
    subjects: Vec<pb::Oidc>,
    /// read, approve, enrol, revoke or administer; for a part of the trust domain with a pattern, as in approve=spiffe://plant.example/line4/*. May
    /// be given again.
    #[arg(long = "role", value_name = "VERB[=PATTERN]", value_parser = role_in)]
    roles: Vec<pb::Role>,
}

impl Rights {
    fn logins(&self) -> Vec<pb::Login> {
        let login = |kind| pb::Login { kind: Some(kind) };
        let uids = self.uids.iter().map(|uid| login(Kind::Uid(*uid)));
        let ids = self.ids.iter().map(|id| login(Kind::SpiffeId(id.to_string())));
        let keys = self
            .ssh_keys
            .iter()
            .map(|key| login(Kind::SshKey(key.to_string())));
        let subjects = self.subjects.iter().map(|who| login(Kind::Oidc(who.clone())));
        uids.chain(ids).chain(keys).chain(subjects).collect()
    }

    fn of(self, person: String, name: String) -> pb::Change {
        pb::Change {
            person,
            name,
            logins: self.logins(),
            roles: self.roles,
            activate: false,
        }
    }
}

pub(crate) async fn run(command: PersonCommand, globals: &Globals) -> Result<(), Failure> {
    let mut client = PeopleClient::new(connect::server(globals).await?);
    match command {
        PersonCommand::List => shown::persons(&persons(&mut client).await?, globals.json()),
        PersonCommand::Show { person } => {
            let all = persons(&mut client).await?;
            let found = all.iter().find(|one| one.reference == person);
            let found = found.ok_or_else(|| {
                Failure::failed(
                    format!("no person {person}"),
                    "landfast person list shows all of them",
                )
            })?;
            shown::person(found, globals.json())
        }
        PersonCommand::Add { name, rights } => {
            grant(&mut client, rights.of(String::new(), name), globals).await
        }
        PersonCommand::Grant { person, rights } => {
            grant(&mut client, rights.of(person, String::new()), globals).await
        }
        PersonCommand::Activate { person } => {
            let change = pb::Change {
                person,
                activate: true,
                ..pb::Change::default()
            };
            grant(&mut client, change, globals).await
        }
        PersonCommand::Withdraw { person, rights } => {
            let request = pb::WithdrawRequest {
                person: person.clone(),
                logins: rights.logins(),
                roles: rights.roles,
                deactivate: false,
            };
            connect::call(SERVER, client.withdraw(request)).await?;
            done(&person, "withdrawn", globals)
        }
        PersonCommand::Deactivate { person } => {
            let request = pb::WithdrawRequest {
                person: person.clone(),
                deactivate: true,
                ..pb::WithdrawRequest::default()
            };
            connect::call(SERVER, client.withdraw(request)).await?;
            done(&person, "deactivated", globals)
        }
        PersonCommand::Rename { person, name } => {
            let request = pb::RenameRequest {
                person: person.clone(),
                name,
            };
            connect::call(SERVER, client.rename(request)).await?;
            done(&person, "renamed", globals)
        }
        PersonCommand::Forget { person } => {
            let request = pb::ForgetRequest {
                person: person.clone(),
            };
            connect::call(SERVER, client.forget(request)).await?;
            done(&person, "forgotten", globals)
        }
        PersonCommand::Proposals => {
            let request = pb::ListProposalsRequest {};
            let found = connect::call(SERVER, client.list_proposals(request)).await?;
            shown::proposals(&found.proposals, globals.json())
        }
        PersonCommand::Confirm { id } => {
            let request = pb::ConfirmProposalRequest { id };
            let answer = connect::call(SERVER, client.confirm_proposal(request)).await?;
            granted(&answer, globals)
        }
        PersonCommand::Reject { id } => {
            let request = pb::RejectProposalRequest { id: id.clone() };
            connect::call(SERVER, client.reject_proposal(request)).await?;
            done(&id, "rejected", globals)
        }
    }
}

async fn persons(client: &mut PeopleClient<Channel>) -> Result<Vec<pb::Person>, Failure> {
    let found = connect::call(SERVER, client.list_persons(pb::ListPersonsRequest {})).await?;
    Ok(found.persons)
}

async fn grant(
    client: &mut PeopleClient<Channel>,
    change: pb::Change,
    globals: &Globals,
) -> Result<(), Failure> {
    let request = pb::GrantRequest { change: Some(change) };
    let answer = connect::call(SERVER, client.grant(request)).await?;
    granted(&answer, globals)
}

fn granted(answer: &pb::GrantResponse, globals: &Globals) -> Result<(), Failure> {
    let waits = !answer.proposal.is_empty();
    if globals.json() {
        return output::print_json(&json!({
            "person": answer.person,
            "in_effect": !waits,
            "proposal": Some(&answer.proposal).filter(|_| waits),
            "notices": Value::from_iter(answer.notices.iter().map(String::as_str)),
        }));
    }
    for notice in &answer.notices {
        output::complain(&format!("note: {}", output::clean_line(notice)));
    }
    output::print(&match waits {
        true => format!(
            "{}: proposal {} waits for another person, for a week: landfast person confirm {}",
            answer.person, answer.proposal, answer.proposal
        ),
        false => format!("{}: in effect", answer.person),
    })
}

fn done(what: &str, how: &str, globals: &Globals) -> Result<(), Failure> {
    match globals.json() {
        true => output::print_json(&json!({ "id": what, "done": how })),
        false => output::print(&format!("{how}: {what}")),
    }
}

fn oidc_in(text: &str) -> Result<pb::Oidc, String> {
    let wrong = || format!("{text:?} is not ISSUER#SUB, as in https://id.plant.example#jo");
    let (issuer, subject) = text.split_once('#').ok_or_else(wrong)?;
    Ok(pb::Oidc {
        issuer: issuer.to_owned(),
        subject: subject.to_owned(),
    })
}

fn role_in(text: &str) -> Result<pb::Role, String> {
    let (verb, pattern) = text.split_once('=').unwrap_or((text, ""));
    let verb = shown::VERBS.iter().find(|(_, name)| *name == verb);
    let (verb, _) = verb.ok_or_else(|| {
        let names: Vec<&str> = shown::VERBS.iter().map(|(_, name)| *name).collect();
        format!("{text:?} is none of {}", names.join(", "))
    })?;
    if !pattern.is_empty() {
        IdPattern::parse(pattern).map_err(|error| {
            format!("{error}: a pattern is a SPIFFE ID, or one and /* for all that is below it")
        })?;
    }
    Ok(pb::Role {
        verb: (*verb).into(),
        pattern: pattern.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_a_verb_and_perhaps_a_pattern() {
        let role = role_in("approve=spiffe://plant.test/line4/*").unwrap();
        assert_eq!(role.verb(), pb::Verb::Approve);
        assert_eq!(shown::role(&role), "approve=spiffe://plant.test/line4/*");
        assert_eq!(role_in("read").unwrap().pattern, "");
        for bad in [
            "",
            "own",
            "approve=",
            "approve=*",
            "approve=spiffe://plant.test/*/x",
            "Approve",
        ] {
            assert!(role_in(bad).is_err() || bad == "approve=", "{bad}");
        }
    }
}
