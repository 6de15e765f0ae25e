//! References to workloads (Broker API §3.1): which of them means something on this node.
//!
//! Invariant: what is not a PID of our own PID namespace is never resolved.

use landfast_proto::spiffe::broker::{WorkloadPidReference, WorkloadReference};
use prost::Message as _;
use tonic::Status;

use crate::delegate::numbers::Numbers;
use crate::delegate::refusal::{Reason, workload};

/// The process that is referred to, by its number.
///
/// # Errors
/// InvalidArgument, with the reason of the standard, for everything else.
pub(super) fn pid(reference: Option<WorkloadReference>) -> Result<i32, Status> {
    let Some(any) = reference.and_then(|reference| reference.reference) else {
        return Err(invalid("the request holds no workload reference"));
    };
    match any.type_url.as_str() {
        PID => {}
        // Of the standard as well, but there is no control plane here to ask.
        KUBERNETES => return Err(invalid("this node resolves no references to Kubernetes objects")),
        _ => return Err(invalid("a workload reference of a type that is not known here")),
    }
    match WorkloadPidReference::decode(any.value.as_slice()) {
        Ok(WorkloadPidReference { pid }) if pid > 0 => Ok(pid),
        Ok(WorkloadPidReference { pid }) => {
            Err(workload(Reason::Invalid, "a PID is a positive number", Some(pid)))
        }
        Err(_malformed) => Err(invalid("the workload reference is malformed")),
    }
}

/// Whether the broker counts processes as we do. In a PID namespace of its own its numbers mean other processes here (§3.1.2: local
/// references are local).
///
/// # Errors
/// InvalidArgument, with the reason of the standard, when it does not; Unavailable, when that cannot be seen.
pub(super) fn counts(broker: Numbers) -> Result<(), Status> {
    match broker {
        Numbers::Ours => Ok(()),
        Numbers::Another => Err(invalid(
            "the broker is in a PID namespace of its own, where numbers of processes mean others: run it in the agent's",
        )),
        Numbers::Unseen => Err(Status::unavailable("workload attestation failed")),
    }
}

fn invalid(message: &str) -> Status {
    workload(Reason::Invalid, message, None)
}

const PID: &str = "type.googleapis.com/spiffe.broker.WorkloadPIDReference";
const KUBERNETES: &str = "type.googleapis.com/spiffe.broker.KubernetesObjectReference";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delegate::refusal::tests::info;
    use prost_types::Any;
    use tonic::Code;

    fn of(type_url: &str, value: &[u8]) -> Option<WorkloadReference> {
        let (type_url, value) = (type_url.to_owned(), value.to_owned());
        Some(WorkloadReference {
            reference: Some(Any { type_url, value }),
        })
    }

    #[test]
    fn only_a_positive_number_of_a_process_is_a_reference_here() {
        let numbered = |pid| of(PID, &WorkloadPidReference { pid }.encode_to_vec());
        assert_eq!(pid(numbered(7)).unwrap(), 7);
        assert_eq!(pid(numbered(i32::MAX)).unwrap(), i32::MAX);
        for wrong in [
            None,
            Some(WorkloadReference { reference: None }),
            of("", &[8, 7]),
            of("spiffe.broker.WorkloadPIDReference", &[8, 7]),
            of("type.googleapis.com/example.Theirs", &[8, 7]),
            of(KUBERNETES, &[]),
            of(PID, &[]),
            of(PID, &[8]),
            numbered(0),
            numbered(-1),
            numbered(i32::MIN),
        ] {
            let refused = pid(wrong.clone()).unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{wrong:?}");
            let info = info(&refused).unwrap();
            assert_eq!(
                (info.reason.as_str(), info.domain.as_str()),
                ("WORKLOAD_REFERENCE_INVALID", "spiffe.io"),
                "{wrong:?}"
            );
        }
    }

    #[test]
    fn numbers_of_another_pid_namespace_are_not_believed() {
        assert!(counts(Numbers::Ours).is_ok());
        let refused = counts(Numbers::Another).unwrap_err();
        assert_eq!(info(&refused).unwrap().reason, "WORKLOAD_REFERENCE_INVALID");
        assert_eq!(counts(Numbers::Unseen).unwrap_err().code(), Code::Unavailable);
    }
}
