//! Whether who asks about processes counts them as we do.
//!
//! Invariant: a number of another PID namespace is never resolved: there it is another process than here.

use std::io::ErrorKind;

use landfast_uds::PinnedProcess;

/// What the numbers of a process mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Numbers {
    /// The same processes as here.
    Ours,
    /// Those of a PID namespace of its own.
    Another,
    /// That cannot be seen now.
    Unseen,
}

pub(crate) fn of(asker: &PinnedProcess) -> Numbers {
    let status = asker.proc_dir().and_then(|dir| dir.status());
    judge(
        status.ok().map(|status| status.pid_namespaces),
        kernel_has_namespaces,
    )
}

fn judge(namespaces: Option<usize>, kernel_has_namespaces: impl FnOnce() -> bool) -> Numbers {
    match namespaces {
        Some(1) => Numbers::Ours,
        // The kernel does not say.
        Some(0) if !kernel_has_namespaces() => Numbers::Ours,
        None | Some(0) => Numbers::Unseen,
        Some(_) => Numbers::Another,
    }
}

fn kernel_has_namespaces() -> bool {
    let own = std::fs::symlink_metadata("/proc/self/ns/pid");
    !own.is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_of_our_own_namespace_are_believed() {
        let judged = |namespaces| judge(namespaces, || true);
        assert_eq!(judged(Some(1)), Numbers::Ours);
        for other in [2, 3, 33] {
            assert_eq!(judged(Some(other)), Numbers::Another);
        }
        assert_eq!(
            (judged(None), judged(Some(0))),
            (Numbers::Unseen, Numbers::Unseen)
        );
    }

    #[test]
    fn a_kernel_without_namespaces_has_one_count() {
        let judged = |namespaces| judge(namespaces, || false);
        assert_eq!(judged(Some(0)), Numbers::Ours);
        assert_eq!(
            judged(None),
            Numbers::Unseen,
            "a status that cannot be read says nothing of the kernel"
        );
        assert_eq!(judged(Some(2)), Numbers::Another);
        assert!(kernel_has_namespaces());
    }
}
