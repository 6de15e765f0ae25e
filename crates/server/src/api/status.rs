//! What a caller is told. Invariant: a caller learns what it did wrong, never how we work inside; the log has the chain.

use bytes::Bytes;
use landfast_daemon::error_chain;
use landfast_proto::QUARANTINE;
use landfast_proto::landfast::recovery::v1 as recovery;
use landfast_proto::spire::api::types;
use prost::Message;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use crate::authority::{AppendError, AuthorityError};
use crate::issuance::IssueError;
use crate::people::PeopleError;
use crate::registry::{RegistryError, TokenError};

/// `google.rpc.Status`, as far as it is needed to carry a detail.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

/// "authorization denied", with the reason that agents act on.
pub(crate) fn permission_denied(
    method: &str,
    reason: Option<types::permission_denied_details::Reason>,
) -> Status {
    let message = format!("authorization denied for method {method}");
    match reason {
        Some(reason) => with_reason(message, reason),
        None => Status::permission_denied(message),
    }
}

/// PermissionDenied with `spire.api.types.PermissionDeniedDetails`.
pub(crate) fn with_reason(message: String, reason: types::permission_denied_details::Reason) -> Status {
    let details = types::PermissionDeniedDetails {
        reason: reason.into(),
    };
    let status = RpcStatus {
        code: Code::PermissionDenied.into(),
        message: message.clone(),
        details: vec![prost_types::Any {
            type_url: "type.googleapis.com/spire.api.types.PermissionDeniedDetails".to_owned(),
            value: details.encode_to_vec(),
        }],
    };
    Status::with_details(
        Code::PermissionDenied,
        message,
        Bytes::from(status.encode_to_vec()),
    )
}

/// FailedPrecondition with `landfast.recovery.v1.Refusal`.
pub(crate) fn with_refusal(message: String, reason: recovery::refusal::Reason) -> Status {
    let refusal = recovery::Refusal {
        reason: reason.into(),
    };
    let status = RpcStatus {
        code: Code::FailedPrecondition.into(),
        message: message.clone(),
        details: vec![prost_types::Any {
            type_url: "type.googleapis.com/landfast.recovery.v1.Refusal".to_owned(),
            value: refusal.encode_to_vec(),
        }],
    };
    let details = Bytes::from(status.encode_to_vec());
    Status::with_details(Code::FailedPrecondition, message, details)
}

/// A fault of ours.
pub(crate) fn internal(what: &str) -> Status {
    tracing::error!(
        what,
        "a request failed by a fault of this program; please report it"
    );
    Status::internal("internal error; the server's log says more")
}

/// The registry refused.
pub(crate) fn registry(error: &RegistryError) -> Status {
    let text = error.to_string();
    match error {
        RegistryError::Invalid { source } => Status::invalid_argument(source.to_string()),
        RegistryError::BadBundle { source } => Status::invalid_argument(source.to_string()),
        RegistryError::Reserve { source } => Status::invalid_argument(source.to_string()),
        RegistryError::NoSuchEntry { .. }
        | RegistryError::NoSuchBundle { .. }
        | RegistryError::NoSuchRelationship { .. } => Status::not_found(text),
        RegistryError::NoSuchAgent { .. } => Status::not_found("agent not found"),
        RegistryError::EntryIdTaken { .. }
        | RegistryError::Similar { .. }
        | RegistryError::BundleExists { .. }
        | RegistryError::RelationshipExists { .. }
        | RegistryError::TokenExists => Status::already_exists(text),
        RegistryError::NoFederatedBundle { .. }
        | RegistryError::OwnTrustDomain { .. }
        | RegistryError::BadToken { .. } => Status::invalid_argument(text),
        RegistryError::BundleInUse { .. }
        | RegistryError::PolicyChanged { .. }
        | RegistryError::OlderBundle { .. }
        | RegistryError::OtherBundle { .. } => Status::failed_precondition(text),
        RegistryError::People { source } => people(source),
        RegistryError::IsLogin { .. }
        | RegistryError::LoginBelow { .. }
        | RegistryError::NoSponsor { .. } => Status::failed_precondition(text),
        RegistryError::TooManyRelationships => Status::resource_exhausted(text),
        RegistryError::Banned => with_reason(
            "failed to attest: agent is banned".to_owned(),
            types::permission_denied_details::Reason::AgentBanned,
        ),
        RegistryError::TokenRevoked => Status::invalid_argument(format!("failed to attest: {text}")),
        RegistryError::Storage { source } => storage(source),
        RegistryError::NoClock => Status::unavailable(text),
        other => internal(&error_chain(other)),
    }
}

/// The register of persons refused.
fn people(error: &PeopleError) -> Status {
    let text = error.to_string();
    match error {
        PeopleError::NoSuchPerson { .. } | PeopleError::NoSuchProposal { .. } => Status::not_found(text),
        PeopleError::LoginTaken { .. } => Status::already_exists(text),
        PeopleError::MayNotConfirm => Status::permission_denied(text),
        PeopleError::TooManyPersons | PeopleError::TooManyProposals | PeopleError::TooMuchOfOne => {
            Status::resource_exhausted(text)
        }
        PeopleError::SamePerson { .. }
        | PeopleError::Forgotten { .. }
        | PeopleError::Nothing
        | PeopleError::FirstAdministers => Status::failed_precondition(text),
        PeopleError::Name { .. }
        | PeopleError::RootLogin
        | PeopleError::BadLogin { .. }
        | PeopleError::ForeignRole { .. } => Status::invalid_argument(text),
        PeopleError::Random => internal(&text),
    }
}

/// The datastore failed.
pub(crate) fn storage(error: &crate::datastore::DatastoreError) -> Status {
    match error {
        crate::datastore::DatastoreError::Full => full("server"),
        crate::datastore::DatastoreError::NoSpace { .. } => full("server's database"),
        other => {
            tracing::error!(error = error_chain(other), "the datastore failed");
            Status::unavailable("the datastore of the server failed; its log says more")
        }
    }
}

/// What this server knows may be old: another one may know better.
pub(crate) fn stale(error: &crate::datastore::DatastoreError) -> Status {
    if matches!(error, crate::datastore::DatastoreError::Quarantine { .. }) {
        return quarantined();
    }
    tracing::debug!(error = error_chain(error), "an agent was sent away");
    Status::unavailable(
        "this server cannot read its database, and what it knows may be old: ask another, or again later",
    )
}

/// What this server knows may be old, and nobody knows better yet. Not why: that is for its operators.
pub(crate) fn quarantined() -> Status {
    metrics::counter!("landfast_server_quarantine_refused_total").increment(1);
    let mut refused = Status::unavailable(
        "this server is in quarantine, for it may have forgotten bans and deletions: nothing is signed or told until an operator has looked \
         (landfast quarantine show); what is held stays valid",
    );
    // By this word nodes know that it wants to be shown what they have walked.
    let word = MetadataValue::from_static("1");
    refused.metadata_mut().insert(QUARANTINE, word);
    refused
}

/// The disk is full: a code of its own, so that clients wait instead of trying at once.
fn full(whose: &str) -> Status {
    Status::resource_exhausted(format!(
        "the disk of the {whose} is full: nothing can be recorded, so nothing is changed or issued; make room there"
    ))
}

/// The authorities cannot be read or changed.
pub(crate) fn authority(error: &AuthorityError) -> Status {
    match error {
        AuthorityError::Storage { source } => storage(source),
        AuthorityError::NoClock => Status::unavailable(error.to_string()),
        AuthorityError::Upstream(_) => {
            let error = error_chain(error);
            tracing::error!(error, "no X.509 authority can be had");
            Status::unavailable(error)
        }
        other => internal(&error_chain(other)),
    }
}

/// Nothing was appended.
pub(crate) fn append(error: &AppendError, what: &str) -> Status {
    let text = format!("{what}: {error}");
    match error {
        AppendError::KeyIdTaken { .. } => Status::already_exists(text),
        AppendError::Revoked { .. } => Status::failed_precondition(text),
        AppendError::Full | AppendError::Share => Status::resource_exhausted(text),
        AppendError::Busy => Status::aborted(text),
        AppendError::Failed { source } => authority(source),
    }
}

/// Nothing was issued.
pub(crate) fn issue(error: &IssueError) -> Status {
    match error {
        IssueError::StorageFull => full("server"),
        IssueError::Quarantine { .. } => quarantined(),
        IssueError::Storage { source } => storage(source),
        IssueError::Ledger { source } => {
            tracing::error!(
                error = error_chain(source),
                "nothing is issued: its record cannot be written"
            );
            Status::unavailable(format!("{error}: look at /ready of the server, or at its log"))
        }
        IssueError::NoAuthority | IssueError::NoClock | IssueError::ClockBehind { .. } => {
            tracing::error!(%error, "nothing can be issued");
            Status::unavailable(error.to_string())
        }
        IssueError::Enough { .. } => Status::resource_exhausted(error.to_string()),
        IssueError::Policy(_) | IssueError::KeyInUse { .. } | IssueError::KeyNotNew { .. } => {
            Status::invalid_argument(error.to_string())
        }
        IssueError::Reserve { source } => Status::failed_precondition(source.to_string()),
        IssueError::OutlivesEntry { .. } => Status::failed_precondition(error.to_string()),
        IssueError::OutlivesAuthority { .. } => Status::unavailable(error.to_string()),
        IssueError::OutOfReserve { .. } => Status::out_of_range(error.to_string()),
        other => internal(&error_chain(other)),
    }
}

/// A join token was not redeemed.
pub(crate) fn token(error: &TokenError) -> Status {
    match error {
        TokenError::Storage { source } => storage(source),
        refused => Status::invalid_argument(format!("failed to attest: {refused}")),
    }
}

/// A status within a batch.
pub(crate) fn item(status: Result<(), &Status>) -> Option<types::Status> {
    Some(match status {
        Ok(()) => types::Status {
            code: Code::Ok.into(),
            message: "OK".to_owned(),
        },
        Err(status) => types::Status {
            code: status.code().into(),
            message: status.message().to_owned(),
        },
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::datastore::DatastoreError;

    #[test]
    fn a_client_is_told_whose_disk_is_full() {
        let source = Arc::new(std::io::Error::other("no space"));
        for (error, whose) in [
            (DatastoreError::Full, "of the server is"),
            (DatastoreError::NoSpace { source }, "of the server's database is"),
        ] {
            for status in [storage(&error), issue(&error.clone().into())] {
                assert_eq!(status.code(), Code::ResourceExhausted);
                assert!(status.message().contains(whose), "{status:?}");
            }
        }
    }
}
