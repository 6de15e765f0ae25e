//! A change goes on to its end also when who asked for it hangs up. Invariant: what is committed has its record, whoever waits for the answer.

use std::future::Future;

use super::operators::{CONFIRM, Right};
use super::{PUBLISH_JWT, REGISTER_KEY};
use crate::people::Verb;

/// Whether this method changes something that is recorded: whose verb says so, and those of which none does.
pub(super) fn is_change(method: &str, right: Right) -> bool {
    ALSO.contains(&method) || right.verb().is_some_and(|verb| verb != Verb::Read)
}

/// The same, and dropping it does not stop it. Of a server that ends it ends with the rest.
pub(crate) async fn to_the_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    #[expect(
        clippy::disallowed_methods,
        reason = "its owner waits for it, or has gone; it is bounded by the time and the number of its requests"
    )]
    let running = tokio::spawn(work);
    match running.await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only the end of the runtime stops it.
            Err(_stopped) => std::future::pending().await,
        },
    }
}

/// Who reads may call the first, and what he confirms takes effect; machines call the others. (`AttestAgent` answers while it goes on, and sees to its end itself.)
const ALSO: [&str; 3] = [CONFIRM, PUBLISH_JWT, REGISTER_KEY];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tokio::sync::oneshot;

    use super::*;
    use crate::authz::TABLE;

    #[tokio::test]
    async fn who_hangs_up_does_not_stop_what_is_being_changed() {
        let (go, begun) = oneshot::channel::<()>();
        let (done, ended) = oneshot::channel();
        let mut change = Box::pin(to_the_end(async move {
            begun.await.unwrap();
            done.send("recorded").unwrap();
        }));
        let waits = tokio::time::timeout(std::time::Duration::from_millis(10), &mut change).await;
        assert!(waits.is_err(), "it waits for the disk");
        drop(change);
        go.send(()).unwrap();
        assert_eq!(ended.await, Ok("recorded"));
    }

    /// A method that is new stands here, or changes nothing that is recorded: whoever adds one says which.
    #[test]
    fn each_method_that_changes_something_goes_on_to_its_end() {
        let changing = TABLE
            .iter()
            .filter(|(method, _, right)| is_change(method, *right));
        let changing: BTreeSet<_> = changing
            .map(|(method, ..)| method.trim_start_matches('/'))
            .collect();
        assert_eq!(changing, BTreeSet::from(CHANGING));
        let read = Right::Whole(Verb::Read);
        assert!(!is_change("/x", read) && !is_change("/x", Right::Nobodys));
    }

    const CHANGING: [&str; 48] = [
        "landfast.chain.v1.Chain/ImportStep",
        "landfast.chain.v1.Chain/PrepareStep",
        "landfast.entry.v1.EntryPolicies/SetEntryPolicy",
        "landfast.people.v1.People/ConfirmProposal",
        "landfast.people.v1.People/Forget",
        "landfast.people.v1.People/Grant",
        "landfast.people.v1.People/RejectProposal",
        "landfast.people.v1.People/Rename",
        "landfast.people.v1.People/Withdraw",
        "landfast.quarantine.v1.Quarantine/EndQuarantine",
        "landfast.recovery.v1.Recovery/Decide",
        "landfast.recovery.v1.Recovery/RegisterDeviceKey",
        "landfast.selftest.v1.SelfTest/Report",
        "spire.api.server.agent.v1.Agent/BanAgent",
        "spire.api.server.agent.v1.Agent/CreateJoinToken",
        "spire.api.server.agent.v1.Agent/DeleteAgent",
        "spire.api.server.bundle.v1.Bundle/AppendBundle",
        "spire.api.server.bundle.v1.Bundle/BatchCreateFederatedBundle",
        "spire.api.server.bundle.v1.Bundle/BatchDeleteFederatedBundle",
        "spire.api.server.bundle.v1.Bundle/BatchSetFederatedBundle",
        "spire.api.server.bundle.v1.Bundle/BatchUpdateFederatedBundle",
        "spire.api.server.bundle.v1.Bundle/PublishJWTAuthority",
        "spire.api.server.entry.v1.Entry/BatchCreateEntry",
        "spire.api.server.entry.v1.Entry/BatchDeleteEntry",
        "spire.api.server.entry.v1.Entry/BatchUpdateEntry",
        "spire.api.server.localauthority.v1.LocalAuthority/ActivateJWTAuthority",
        "spire.api.server.localauthority.v1.LocalAuthority/ActivateWITAuthority",
        "spire.api.server.localauthority.v1.LocalAuthority/ActivateX509Authority",
        "spire.api.server.localauthority.v1.LocalAuthority/PrepareJWTAuthority",
        "spire.api.server.localauthority.v1.LocalAuthority/PrepareWITAuthority",
        "spire.api.server.localauthority.v1.LocalAuthority/PrepareX509Authority",
        "spire.api.server.localauthority.v1.LocalAuthority/RevokeJWTAuthority",
        "spire.api.server.localauthority.v1.LocalAuthority/RevokeWITAuthority",
        "spire.api.server.localauthority.v1.LocalAuthority/RevokeX509Authority",
        "spire.api.server.localauthority.v1.LocalAuthority/RevokeX509UpstreamAuthority",
        "spire.api.server.localauthority.v1.LocalAuthority/TaintJWTAuthority",
        "spire.api.server.localauthority.v1.LocalAuthority/TaintWITAuthority",
        "spire.api.server.localauthority.v1.LocalAuthority/TaintX509Authority",
        "spire.api.server.localauthority.v1.LocalAuthority/TaintX509UpstreamAuthority",
        "spire.api.server.logger.v1.Logger/ResetLogLevel",
        "spire.api.server.logger.v1.Logger/SetLogLevel",
        "spire.api.server.svid.v1.SVID/MintJWTSVID",
        "spire.api.server.svid.v1.SVID/MintWITSVID",
        "spire.api.server.svid.v1.SVID/MintX509SVID",
        "spire.api.server.trustdomain.v1.TrustDomain/BatchCreateFederationRelationship",
        "spire.api.server.trustdomain.v1.TrustDomain/BatchDeleteFederationRelationship",
        "spire.api.server.trustdomain.v1.TrustDomain/BatchUpdateFederationRelationship",
        "spire.api.server.trustdomain.v1.TrustDomain/RefreshBundle",
    ];
}
