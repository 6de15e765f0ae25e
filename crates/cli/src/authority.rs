//! `landfast authority`: the keys that the server signs with, and the rotation of one that may have been stolen.

mod orders;

use crate::connect::Channel;
use clap::{Subcommand, ValueEnum};
use landfast_identity::Certificate;
use landfast_proto::spire::api::server::bundle::v1::{GetBundleRequest, bundle_client::BundleClient};
use landfast_proto::spire::api::server::localauthority::v1 as api;
use landfast_proto::spire::api::server::localauthority::v1::local_authority_client::LocalAuthorityClient;
use landfast_proto::spire::api::types;
use serde_json::{Value, json};

use crate::cli::Globals;
use crate::debts::DryRun;
use crate::failure::{Failure, SERVER};
use crate::{connect, output};
use orders::{above, activate, lost, prepare, revoke, taint};

#[derive(Subcommand, Debug)]
pub(crate) enum AuthorityCommand {
    /// The authorities: which sign, which are next, which signed before [server].
    Show,
    /// Make the next authority, in place of one that is prepared already [server].
    Prepare {
        /// Of X509-SVIDs, JWT-SVIDs or WIT-SVIDs.
        kind: Kind,
    },
    /// Sign with a prepared authority from now on [server].
    Activate(Next),
    /// Mark an old authority: agents replace what it signed; it still verifies [server].
    Taint(Whose),
    /// Refuse from now on whatever a tainted authority signed [server].
    Revoke(Whose),
}

#[derive(clap::Args, Debug)]
pub(crate) struct Next {
    #[command(flatten)]
    which: Which,
    /// Also when there are nodes that do not know it yet: cut off, they will not accept what it signs (x509 only).
    #[arg(long)]
    unheard: bool,
}

#[derive(clap::Args, Debug)]
pub(crate) struct Whose {
    #[command(flatten)]
    which: Which,
    /// It is a root above this server's authorities (x509 only): its ID stands under UPSTREAM in `landfast authority show`.
    #[arg(long)]
    upstream: bool,
    #[command(flatten)]
    dry_run: DryRun,
}

#[derive(clap::Args, Debug)]
pub(crate) struct Which {
    /// Of X509-SVIDs, JWT-SVIDs or WIT-SVIDs.
    kind: Kind,
    /// The authority's ID, as `landfast authority show` prints it.
    id: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Kind {
    /// X509-SVIDs.
    X509,
    /// JWT-SVIDs.
    Jwt,
    /// WIT-SVIDs, where the server issues them.
    Wit,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::X509 => "x509",
            Self::Jwt => "jwt",
            Self::Wit => "wit",
        }
    }
}

pub(crate) async fn run(command: AuthorityCommand, globals: &Globals) -> Result<(), Failure> {
    let channel = connect::server(globals).await?;
    let mut client = LocalAuthorityClient::new(channel.clone());
    if let AuthorityCommand::Taint(whose) | AuthorityCommand::Revoke(whose) = &command
        && !lost(&channel, whose, globals).await?
    {
        return Ok(());
    }
    let (kind, verb, done, next) = match command {
        AuthorityCommand::Show => return show(channel, globals).await,
        AuthorityCommand::Prepare { kind } => {
            let done = prepare(&mut client, kind).await?;
            let then = "when every node has synchronised (seconds, while it is connected): landfast authority activate";
            (kind, "prepared", done, then)
        }
        AuthorityCommand::Activate(Next {
            which: Which { kind, id },
            unheard,
        }) => {
            let done = activate(&mut client, kind, id, unheard).await?;
            (kind, "activated", done, "")
        }
        AuthorityCommand::Taint(Whose {
            which,
            upstream: true,
            ..
        }) => {
            return above(&mut client, "tainted", which, globals).await;
        }
        AuthorityCommand::Revoke(Whose {
            which,
            upstream: true,
            ..
        }) => {
            return above(&mut client, "revoked", which, globals).await;
        }
        AuthorityCommand::Taint(Whose {
            which: Which { kind, id },
            ..
        }) => {
            let done = taint(&mut client, kind, id).await?;
            let then = "when nodes have replaced what it signed (agents begin at their next synchronisation): landfast authority revoke";
            (kind, "tainted", done, then)
        }
        AuthorityCommand::Revoke(Whose {
            which: Which { kind, id },
            ..
        }) => {
            let done = revoke(&mut client, kind, id).await?;
            (kind, "revoked", done, "")
        }
    };
    let state = done.unwrap_or_default();
    if globals.json() {
        let mut shown = to_json(kind, verb, &state, verb == "tainted" || verb == "revoked");
        shown["done"] = verb.into();
        return output::print_json(&shown);
    }
    output::print(&format!(
        "{verb}: {} authority {}",
        kind.word(),
        state.authority_id
    ))?;
    if !next.is_empty() {
        output::complain(&format!("next: {next} {} {}", kind.word(), state.authority_id));
    }
    Ok(())
}

/// One authority as shown.
struct Row {
    kind: Kind,
    slot: &'static str,
    state: api::AuthorityState,
    tainted: bool,
}

async fn show(channel: Channel, globals: &Globals) -> Result<(), Failure> {
    let mut client = LocalAuthorityClient::new(channel.clone());
    let x509 = client.get_x509_authority_state(api::GetX509AuthorityStateRequest {});
    let x509 = connect::call(SERVER, x509).await?;
    let jwt = client.get_jwt_authority_state(api::GetJwtAuthorityStateRequest {});
    let jwt = connect::call(SERVER, jwt).await?;
    let request = GetBundleRequest { output_mask: None };
    let bundle = connect::call(SERVER, BundleClient::new(channel).get_bundle(request)).await?;
    let mut rows = of_kind(
        Kind::X509,
        [x509.active, x509.prepared, x509.old],
        in_bundle_x509(&bundle)?,
    );
    rows.extend(of_kind(
        Kind::Jwt,
        [jwt.active, jwt.prepared, jwt.old],
        in_bundle_jwt(&bundle),
    ));
    if !bundle.wit_authorities.is_empty() {
        let wit = client.get_wit_authority_state(api::GetWitAuthorityStateRequest {});
        // A SPIRE server that issues them does not tell: then what the bundle says is shown.
        let wit = wit.await.map(tonic::Response::into_inner).unwrap_or_default();
        let slots = [wit.active, wit.prepared, wit.old];
        rows.extend(of_kind(Kind::Wit, slots, in_bundle_wit(&bundle)));
    }
    if globals.json() {
        let shown = rows
            .iter()
            .map(|row| to_json(row.kind, row.slot, &row.state, row.tainted));
        return output::print_json(&Value::Array(shown.collect()));
    }
    let rows = rows.iter().map(|row| {
        let slot = if row.tainted {
            format!("{}, tainted", row.slot)
        } else {
            row.slot.to_owned()
        };
        vec![
            row.kind.word().to_owned(),
            slot,
            row.state.authority_id.clone(),
            output::when(row.state.expires_at, "-"),
            match row.state.upstream_authority_subject_key_id.as_str() {
                "" => "-".to_owned(),
                id => id.to_owned(),
            },
        ]
    });
    output::print(&output::table(
        &["KIND", "STANDING", "AUTHORITY", "UNTIL", "UPSTREAM"],
        rows,
    ))
}

/// What the server says of its slots, and then the other old ones that still verify.
fn of_kind(
    kind: Kind,
    slots: [Option<api::AuthorityState>; 3],
    verifying: Vec<(api::AuthorityState, bool)>,
) -> Vec<Row> {
    let mut rows: Vec<Row> = slots
        .into_iter()
        .zip(["active", "prepared", "old"])
        .filter_map(|(state, slot)| {
            let state = state?;
            let tainted = verifying
                .iter()
                .any(|(known, tainted)| *tainted && known.authority_id == state.authority_id);
            Some(Row {
                kind,
                slot,
                state,
                tainted,
            })
        })
        .collect();
    // Below another authority its roots are what verifies, beside what this server signed itself before.
    let below = |row: &Row| !row.state.upstream_authority_subject_key_id.is_empty();
    let slot = if rows.iter().any(below) { "root" } else { "old" };
    for (state, tainted) in verifying {
        if rows
            .iter()
            .all(|row| row.state.authority_id != state.authority_id)
        {
            rows.push(Row {
                kind,
                slot,
                state,
                tainted,
            });
        }
    }
    rows
}

fn in_bundle_x509(bundle: &types::Bundle) -> Result<Vec<(api::AuthorityState, bool)>, Failure> {
    let mut found = Vec::with_capacity(bundle.x509_authorities.len());
    for authority in &bundle.x509_authorities {
        let certificate = Certificate::from_der(&authority.asn1).map_err(|error| {
            Failure::failed(
                format!(
                    "the server's bundle cannot be used: {}",
                    landfast_daemon::error_chain(&error)
                ),
                "the server's version may not fit this one",
            )
        })?;
        let id = certificate.subject_key_id().unwrap_or_default();
        let state = api::AuthorityState {
            authority_id: id.iter().map(|byte| format!("{byte:02x}")).collect(),
            expires_at: certificate.not_after().as_secs(),
            upstream_authority_subject_key_id: String::new(),
        };
        found.push((state, authority.tainted));
    }
    Ok(found)
}

fn in_bundle_jwt(bundle: &types::Bundle) -> Vec<(api::AuthorityState, bool)> {
    let state = |key: &types::JwtKey| api::AuthorityState {
        authority_id: key.key_id.clone(),
        expires_at: key.expires_at,
        upstream_authority_subject_key_id: String::new(),
    };
    bundle
        .jwt_authorities
        .iter()
        .map(|key| (state(key), key.tainted))
        .collect()
}

fn in_bundle_wit(bundle: &types::Bundle) -> Vec<(api::AuthorityState, bool)> {
    let state = |key: &types::WitKey| api::AuthorityState {
        authority_id: key.key_id.clone(),
        expires_at: key.expires_at,
        upstream_authority_subject_key_id: String::new(),
    };
    bundle
        .wit_authorities
        .iter()
        .map(|key| (state(key), key.tainted))
        .collect()
}

fn to_json(kind: Kind, standing: &str, state: &api::AuthorityState, tainted: bool) -> Value {
    json!({
        "kind": kind.word(),
        "standing": standing,
        "id": state.authority_id,
        "expires_at": output::time_json(state.expires_at),
        "upstream": state.upstream_authority_subject_key_id,
        "tainted": tainted,
    })
}
