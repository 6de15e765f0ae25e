//! Why nothing is given of a workload, in words and for a program to read (Broker API §4.8).
//!
//! Invariant: only refusals that concern the workload itself carry a reason; one that concerns the caller has none that could be taken for it.

use landfast_proto::google::rpc::{ErrorInfo, Status as RpcStatus};
use prost::Message as _;
use tonic::{Code, Status};

/// What is wrong with the workload that was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reason {
    /// What names it is none of what can name one here.
    Invalid,
    /// There is none, or not any more.
    NotFound,
    /// It has no identity that this caller may have.
    NotEntitled,
}

impl Reason {
    fn code(self) -> Code {
        match self {
            Self::Invalid => Code::InvalidArgument,
            Self::NotFound => Code::NotFound,
            Self::NotEntitled => Code::PermissionDenied,
        }
    }

    /// As in the table of the standard.
    fn name(self) -> &'static str {
        match self {
            Self::Invalid => "WORKLOAD_REFERENCE_INVALID",
            Self::NotFound => "WORKLOAD_NOT_FOUND",
            Self::NotEntitled => "WORKLOAD_NOT_ENTITLED",
        }
    }
}

/// A refusal with its reason.
pub(crate) fn workload(reason: Reason, message: impl Into<String>, pid: Option<i32>) -> Status {
    let (code, message) = (reason.code(), message.into());
    let info = ErrorInfo {
        reason: reason.name().to_owned(),
        domain: DOMAIN.to_owned(),
        metadata: pid
            .map(|pid| ("pid".to_owned(), pid.to_string()))
            .into_iter()
            .collect(),
    };
    let status = RpcStatus {
        code: code.into(),
        message: message.clone(),
        details: vec![prost_types::Any {
            type_url: "type.googleapis.com/google.rpc.ErrorInfo".to_owned(),
            value: info.encode_to_vec(),
        }],
    };
    Status::with_details(code, message, status.encode_to_vec().into())
}

/// Nothing that this caller may have.
pub(crate) fn not_entitled() -> Status {
    workload(Reason::NotEntitled, "no identity issued", None)
}

const DOMAIN: &str = "spiffe.io";

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What a client reads of a refusal.
    pub(crate) fn info(status: &Status) -> Option<ErrorInfo> {
        if status.details().is_empty() {
            return None;
        }
        let rpc = RpcStatus::decode(status.details()).ok()?;
        assert_eq!(
            (rpc.code, rpc.message.as_str()),
            (status.code() as i32, status.message())
        );
        let any = rpc.details.first()?;
        assert_eq!(any.type_url, "type.googleapis.com/google.rpc.ErrorInfo");
        ErrorInfo::decode(any.value.as_slice()).ok()
    }

    #[test]
    fn each_reason_has_the_code_and_name_of_the_standard() {
        for (reason, code, name) in [
            (
                Reason::Invalid,
                Code::InvalidArgument,
                "WORKLOAD_REFERENCE_INVALID",
            ),
            (Reason::NotFound, Code::NotFound, "WORKLOAD_NOT_FOUND"),
            (
                Reason::NotEntitled,
                Code::PermissionDenied,
                "WORKLOAD_NOT_ENTITLED",
            ),
        ] {
            let status = workload(reason, "why", Some(7));
            let info = info(&status).unwrap();
            assert_eq!(
                (status.code(), info.reason.as_str(), info.domain.as_str()),
                (code, name, "spiffe.io")
            );
            assert_eq!(info.metadata["pid"], "7");
        }
        assert!(info(&not_entitled()).unwrap().metadata.is_empty());
    }
}
