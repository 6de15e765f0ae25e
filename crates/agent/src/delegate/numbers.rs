//! Whether a delegate counts processes as we do.
//!
//! Invariant: a number of another PID namespace is never resolved: there it is another process than here.

use landfast_workload_api::Caller;
use tonic::Status;

/// For a request that names a process by its number; of any other there is nothing to say.
///
/// # Errors
/// InvalidArgument, when the delegate is in a PID namespace of its own, or that cannot be seen.
pub(super) fn mean_the_same(delegate: &Caller, pid: i32) -> Result<(), Status> {
    if pid == 0 {
        return Ok(());
    }
    let status = delegate.process().proc_dir().and_then(|dir| dir.status());
    judge(status.map_or(0, |status| status.pid_namespaces))
}

fn judge(namespaces: usize) -> Result<(), Status> {
    match namespaces {
        1 => Ok(()),
        _ => Err(Status::invalid_argument(
            "the delegate is in a PID namespace of its own, where numbers mean other processes: name the process by selectors, or run the \
             delegate in the agent's PID namespace",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_of_our_own_namespace_are_believed() {
        assert!(judge(1).is_ok());
        for other in [0, 2, 33] {
            let refused = judge(other).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::InvalidArgument);
            assert!(refused.message().contains("by selectors"), "{refused}");
        }
    }
}
