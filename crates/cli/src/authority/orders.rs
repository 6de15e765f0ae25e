//! What is ordered of authorities, and who loses what by it.

use crate::connect::Channel;
use landfast_proto::landfast::reserve::v1::ListDebtsRequest;
use landfast_proto::spire::api::server::localauthority::v1 as api;
use landfast_proto::spire::api::server::localauthority::v1::local_authority_client::LocalAuthorityClient;
use serde_json::json;

use super::{Kind, Which, Whose};
use crate::cli::Globals;
use crate::failure::{Failure, SERVER};
use crate::{connect, debts, output};

pub(super) type Client = LocalAuthorityClient<Channel>;
pub(super) type Done = Result<Option<api::AuthorityState>, Failure>;

pub(super) async fn prepare(client: &mut Client, kind: Kind) -> Done {
    Ok(match kind {
        Kind::X509 => {
            let rpc = client.prepare_x509_authority(api::PrepareX509AuthorityRequest {});
            connect::call(SERVER, rpc).await?.prepared_authority
        }
        Kind::Jwt => {
            let rpc = client.prepare_jwt_authority(api::PrepareJwtAuthorityRequest {});
            connect::call(SERVER, rpc).await?.prepared_authority
        }
        Kind::Wit => {
            let rpc = client.prepare_wit_authority(api::PrepareWitAuthorityRequest {});
            connect::call(SERVER, rpc).await?.prepared_authority
        }
    })
}

pub(super) async fn activate(client: &mut Client, kind: Kind, authority_id: String, unheard: bool) -> Done {
    Ok(match kind {
        Kind::X509 => {
            let mut request = tonic::Request::new(api::ActivateX509AuthorityRequest { authority_id });
            if unheard {
                let yes = tonic::metadata::MetadataValue::from_static("true");
                request
                    .metadata_mut()
                    .insert(landfast_proto::ACTIVATE_UNHEARD, yes);
            }
            let rpc = client.activate_x509_authority(request);
            connect::call(SERVER, rpc).await?.activated_authority
        }
        Kind::Jwt => {
            let rpc = client.activate_jwt_authority(api::ActivateJwtAuthorityRequest { authority_id });
            connect::call(SERVER, rpc).await?.activated_authority
        }
        Kind::Wit => {
            let rpc = client.activate_wit_authority(api::ActivateWitAuthorityRequest { authority_id });
            connect::call(SERVER, rpc).await?.activated_authority
        }
    })
}

pub(super) async fn taint(client: &mut Client, kind: Kind, authority_id: String) -> Done {
    Ok(match kind {
        Kind::X509 => {
            let rpc = client.taint_x509_authority(api::TaintX509AuthorityRequest { authority_id });
            connect::call(SERVER, rpc).await?.tainted_authority
        }
        Kind::Jwt => {
            let rpc = client.taint_jwt_authority(api::TaintJwtAuthorityRequest { authority_id });
            connect::call(SERVER, rpc).await?.tainted_authority
        }
        Kind::Wit => {
            let rpc = client.taint_wit_authority(api::TaintWitAuthorityRequest { authority_id });
            connect::call(SERVER, rpc).await?.tainted_authority
        }
    })
}

pub(super) async fn revoke(client: &mut Client, kind: Kind, authority_id: String) -> Done {
    Ok(match kind {
        Kind::X509 => {
            let rpc = client.revoke_x509_authority(api::RevokeX509AuthorityRequest { authority_id });
            connect::call(SERVER, rpc).await?.revoked_authority
        }
        Kind::Jwt => {
            let rpc = client.revoke_jwt_authority(api::RevokeJwtAuthorityRequest { authority_id });
            connect::call(SERVER, rpc).await?.revoked_authority
        }
        Kind::Wit => {
            let rpc = client.revoke_wit_authority(api::RevokeWitAuthorityRequest { authority_id });
            connect::call(SERVER, rpc).await?.revoked_authority
        }
    })
}

/// Of a root above this server's authorities.
pub(super) async fn above(
    client: &mut Client,
    verb: &str,
    which: Which,
    globals: &Globals,
) -> Result<(), Failure> {
    if which.kind == Kind::Jwt {
        return Err(Failure::usage(
            "--upstream goes with x509: JWT authorities stand under nothing",
            "landfast authority taint x509 ID --upstream",
        ));
    }
    let subject_key_id = which.id;
    let done = match verb {
        "tainted" => {
            let rpc = client
                .taint_x509_upstream_authority(api::TaintX509UpstreamAuthorityRequest { subject_key_id });
            connect::call(SERVER, rpc)
                .await?
                .upstream_authority_subject_key_id
        }
        _ => {
            let rpc = client
                .revoke_x509_upstream_authority(api::RevokeX509UpstreamAuthorityRequest { subject_key_id });
            connect::call(SERVER, rpc)
                .await?
                .upstream_authority_subject_key_id
        }
    };
    if globals.json() {
        return output::print_json(&json!({"kind": "x509", "upstream": done, "done": verb}));
    }
    output::print(&format!("{verb}: upstream authority {done}"))?;
    if verb == "tainted" {
        output::complain(&format!(
            "next: when nodes have replaced what stands under it: landfast authority revoke x509 {done} --upstream"
        ));
    }
    Ok(())
}

/// Says what nodes that are cut off lose; `false` when that was all that was asked for.
pub(super) async fn lost(channel: &Channel, whose: &Whose, globals: &Globals) -> Result<bool, Failure> {
    let Whose {
        which: Which { kind, id },
        upstream,
        dry_run,
    } = whose;
    let mut signers = vec![id.clone()];
    if *upstream {
        let request = api::GetX509AuthorityStateRequest {};
        let mut client = LocalAuthorityClient::new(channel.clone());
        let known = connect::call(SERVER, client.get_x509_authority_state(request)).await?;
        let known = [known.active, known.prepared, known.old].into_iter().flatten();
        signers = known
            .filter(|state| state.upstream_authority_subject_key_id == *id)
            .map(|state| state.authority_id)
            .collect();
    }
    if *kind != Kind::X509 || signers.is_empty() {
        // Tokens are asked for anew while the node is online, and nothing says which it has ahead.
        return Ok(!dry_run.dry_run);
    }
    let which = ListDebtsRequest {
        authority_ids: signers,
        ..ListDebtsRequest::default()
    };
    debts::warn(channel, which, *dry_run, globals.json()).await
}
