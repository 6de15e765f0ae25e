//! The table: every method of every service, in the order of their paths. What has no row is refused to everybody.
//!
//! The last column is what an operator has to have the right to, once there are persons. What it says of `Each`, a handler has to ask for each
//! thing that the request is about.

use super::Class::{self, Admin, Agent, Any, Downstream, Local};
use super::Right::{self, Each, Nobodys, Whole};
use super::operators::CONFIRM;
use super::{PUBLISH_JWT, REGISTER_KEY, SHOW_STEPS, SUBSCRIBE};
use crate::people::Verb::{Administer, Approve, Enrol, Read, Revoke};

/// Every method there is, with everybody who may call it, and what an operator needs for it.
pub(crate) const TABLE: &[(&str, &[Class], Right)] = &[
    ("/grpc.health.v1.Health/Check", &[Local], Nobodys),
    ("/grpc.health.v1.Health/List", &[Local], Nobodys),
    ("/grpc.health.v1.Health/Watch", &[Local], Nobodys),
    ("/landfast.chain.v1.Chain/GetSteps", &[Any], Nobodys),
    ("/landfast.chain.v1.Chain/ImportStep", &[Local], Whole(Administer)),
    (
        "/landfast.chain.v1.Chain/PrepareStep",
        &[Local],
        Whole(Administer),
    ),
    (SHOW_STEPS, &[Agent], Nobodys),
    (
        "/landfast.entry.v1.EntryPolicies/GetEntryPolicies",
        &[Local, Admin],
        Whole(Read),
    ),
    (
        "/landfast.entry.v1.EntryPolicies/SetEntryPolicy",
        &[Local, Admin],
        Each(Enrol),
    ),
    ("/landfast.info.v1.Info/GetServer", &[Local, Admin], Whole(Read)),
    ("/landfast.info.v1.Info/ListNodes", &[Local, Admin], Whole(Read)),
    ("/landfast.ledger.v1.Ledger/ForwardJournal", &[Agent], Nobodys),
    ("/landfast.ledger.v1.Ledger/GetCheckpoint", &[Agent], Nobodys),
    (
        "/landfast.reserve.v1.Debts/ListDebts",
        &[Local, Admin],
        Whole(Read),
    ),
    ("/landfast.login.v1.Login/Begin", &[Any], Nobodys),
    ("/landfast.login.v1.Login/Finish", &[Any], Nobodys),
    ("/landfast.reserve.v1.Reserve/NewRungs", &[Agent], Nobodys),
    ("/landfast.reserve.v1.Reserve/NewToken", &[Agent], Nobodys),
    ("/landfast.people.v1.People/WhoAmI", &[Any], Nobodys),
    (
        "/landfast.people.v1.People/ListPersons",
        &[Local, Admin],
        Whole(Read),
    ),
    (
        "/landfast.people.v1.People/Grant",
        &[Local, Admin],
        Whole(Administer),
    ),
    (
        "/landfast.people.v1.People/Withdraw",
        &[Local, Admin],
        Whole(Administer),
    ),
    (
        "/landfast.people.v1.People/Rename",
        &[Local, Admin],
        Whole(Administer),
    ),
    (
        "/landfast.people.v1.People/Forget",
        &[Local, Admin],
        Whole(Administer),
    ),
    (
        "/landfast.people.v1.People/ListProposals",
        &[Local, Admin],
        Whole(Read),
    ),
    (CONFIRM, &[Local, Admin], Each(Read)),
    (
        "/landfast.people.v1.People/RejectProposal",
        &[Local, Admin],
        Whole(Administer),
    ),
    (
        "/landfast.selftest.v1.SelfTest/Report",
        &[Local, Admin],
        Whole(Administer),
    ),
    (
        "/landfast.quarantine.v1.Quarantine/EndQuarantine",
        &[Local],
        Whole(Administer),
    ),
    (
        "/landfast.quarantine.v1.Quarantine/GetQuarantine",
        &[Local],
        Whole(Read),
    ),
    (
        "/landfast.recovery.v1.Recovery/Decide",
        &[Local, Admin],
        Each(Approve),
    ),
    (
        "/landfast.recovery.v1.Recovery/ListRequests",
        &[Local, Admin],
        Each(Read),
    ),
    (REGISTER_KEY, &[Agent], Nobodys),
    (SUBSCRIBE, &[Agent], Nobodys),
    ("/spire.api.server.agent.v1.Agent/AttestAgent", &[Any], Nobodys),
    (
        "/spire.api.server.agent.v1.Agent/BanAgent",
        &[Local, Admin],
        Each(Revoke),
    ),
    (
        "/spire.api.server.agent.v1.Agent/CountAgents",
        &[Local, Admin],
        Whole(Read),
    ),
    (
        "/spire.api.server.agent.v1.Agent/CreateJoinToken",
        &[Local, Admin],
        Each(Enrol),
    ),
    (
        "/spire.api.server.agent.v1.Agent/DeleteAgent",
        &[Local, Admin],
        Each(Revoke),
    ),
    (
        "/spire.api.server.agent.v1.Agent/GetAgent",
        &[Local, Admin],
        Whole(Read),
    ),
    (
        "/spire.api.server.agent.v1.Agent/ListAgents",
        &[Local, Admin],
        Whole(Read),
    ),
    ("/spire.api.server.agent.v1.Agent/PostStatus", &[Agent], Nobodys),
    ("/spire.api.server.agent.v1.Agent/RenewAgent", &[Agent], Nobodys),
    (
        "/spire.api.server.bundle.v1.Bundle/AppendBundle",
        &[Local, Admin],
        Whole(Administer),
    ),
    (
        "/spire.api.server.bundle.v1.Bundle/BatchCreateFederatedBundle",
        &[Local, Admin],
        Whole(Administer),
    ),
    (
        "/spire.api.server.bundle.v1.Bundle/BatchDeleteFederatedBundle",
        &[Local, Admin],
        Whole(Administer),
    ),
    (
        "/spire.api.server.bundle.v1.Bundle/BatchSetFederatedBundle",
        &[Local, Admin],
        Whole(Administer),
    ),
    (
        "/spire.api.server.bundle.v1.Bundle/BatchUpdateFederatedBundle",
        &[Local, Admin],
        Whole(Administer),
    ),
    (
        "/spire.api.server.bundle.v1.Bundle/CountBundles",
        &[Local, Admin],
        Whole(Read),
    ),
    ("/spire.api.server.bundle.v1.Bundle/GetBundle", &[Any], Nobodys),
    (
        "/spire.api.server.bundle.v1.Bundle/GetFederatedBundle",
        &[Local, Admin, Agent],
        Whole(Read),
    ),
    (
        "/spire.api.server.bundle.v1.Bundle/ListFederatedBundles",
        &[Local, Admin],
        Whole(Read),
    ),
    (PUBLISH_JWT, &[Downstream], Nobodys),
    (
        "/spire.api.server.bundle.v1.Bundle/PublishWITAuthority",
        &[Downstream],
        Nobodys,
    ),
    ("/spire.api.server.debug.v1.Debug/GetInfo", &[Local], Whole(Read)),
    (
        "/spire.api.server.entry.v1.Entry/BatchCreateEntry",
        &[Local, Admin],
        Each(Enrol),
    ),
    (
        "/spire.api.server.entry.v1.Entry/BatchDeleteEntry",
        &[Local, Admin],
        Each(Revoke),
    ),
    (
        "/spire.api.server.entry.v1.Entry/BatchUpdateEntry",
        &[Local, Admin],
        Each(Enrol),
    ),
    (
        "/spire.api.server.entry.v1.Entry/CountEntries",
        &[Local, Admin],
        Whole(Read),
    ),
    (
        "/spire.api.server.entry.v1.Entry/GetAuthorizedEntries",
        &[Agent],
        Nobodys,
    ),
    (
        "/spire.api.server.entry.v1.Entry/GetEntry",
        &[Local, Admin],
        Whole(Read),
    ),
    (
        "/spire.api.server.entry.v1.Entry/ListEntries",
        &[Local, Admin],
        Whole(Read),
    ),
    (
        "/spire.api.server.entry.v1.Entry/SyncAuthorizedEntries",
        &[Agent],
        Nobodys,
    ),
    (
        "/spire.api.server.localauthority.v1.LocalAuthority/ActivateJWTAuthority",
        &[Local, Admin],
        Whole(Administer),
    ),
    (
        "/spire.api.server.localauthority.v1.LocalAuthority/ActivateWITAuthority",
        &[Local, Admin],
        Whole(Administer),
    ),
    (
        "/spire.api.server.localauthority.v1.LocalAuthority/ActivateX509Authority",
        &[Local, Admin],
        Whole(Administer),
    ),
    (
        "/spire.api.server.localauthority.v1.LocalAuthority/GetJWTAuthorityState",
        &[Local, Admin],
        Whole(Read),
    ),
    (
        "/spire.api.server.localauthority.v1.LocalAuthority/GetWITAuthorityState",
        &[Local, Admin],
        Whole(Read),
    ),
    (
        "/spire.api.server.localauthority.v1.LocalAuthority/GetX509AuthorityState",
        &[Local, Admin],
        Whole(Read),
    ),
    (
        "/spire.api.server.localauthority.v1.LocalAuthority/PrepareJWTAuthority",
        &[Local, Admin],
        Whole(Administer),
    ),
    (
        "/spire.api.server.localauthority.v1.LocalAuthority/PrepareWITAuthority",
        &[Local, Admin],
        Whole(Administer),
    ),
    (
        "/spire.api.server.localauthority.v1.LocalAuthority/PrepareX509Authority",
        &[Local, Admin],
        Whole(Administer),
    ),
    (
        "/spire.api.server.localauthority.v1.LocalAuthority/RevokeJWTAuthority",
        &[Local, Admin],
        Whole(Administer),
    ),
    (
        "/spire.api.server.localauthority.v1.LocalAuthority/RevokeWITAuthority",
        &[Local, Admin],
        Whole(Administer),
    ),
    (
        "/spire.api.server.localauthority.v1.LocalAuthority/RevokeX509Authority",
        &[Local, Admin],
        Whole(Administer),
    ),
    (
        "/spire.api.server.localauthority.v1.LocalAuthority/RevokeX509UpstreamAuthority",
        &[Local, Admin],
        Whole(Administer),
    ),
    (
        "/spire.api.server.localauthority.v1.LocalAuthority/TaintJWTAuthority",
        &[Local, Admin],
        Whole(Administer),
    ),
    (
        "/spire.api.server.localauthority.v1.LocalAuthority/TaintWITAuthority",
        &[Local, Admin],
        Whole(Administer),
    ),
    (
        "/spire.api.server.localauthority.v1.LocalAuthority/TaintX509Authority",
        &[Local, Admin],
        Whole(Administer),
    ),
    (
        "/spire.api.server.localauthority.v1.LocalAuthority/TaintX509UpstreamAuthority",
        &[Local, Admin],
        Whole(Administer),
    ),
    (
        "/spire.api.server.logger.v1.Logger/GetLogger",
        &[Local],
        Whole(Read),
    ),
    (
        "/spire.api.server.logger.v1.Logger/ResetLogLevel",
        &[Local],
        Whole(Administer),
    ),
    (
        "/spire.api.server.logger.v1.Logger/SetLogLevel",
        &[Local],
        Whole(Administer),
    ),
    (
        "/spire.api.server.svid.v1.SVID/BatchNewWITSVID",
        &[Agent],
        Nobodys,
    ),
    (
        "/spire.api.server.svid.v1.SVID/BatchNewX509SVID",
        &[Agent],
        Nobodys,
    ),
    (
        "/spire.api.server.svid.v1.SVID/MintJWTSVID",
        &[Local, Admin],
        Whole(Administer),
    ),
    (
        "/spire.api.server.svid.v1.SVID/MintWITSVID",
        &[Local, Admin],
        Whole(Administer),
    ),
    (
        "/spire.api.server.svid.v1.SVID/MintX509SVID",
        &[Local, Admin],
        Whole(Administer),
    ),
    (
        "/spire.api.server.svid.v1.SVID/NewDownstreamX509CA",
        &[Downstream],
        Nobodys,
    ),
    ("/spire.api.server.svid.v1.SVID/NewJWTSVID", &[Agent], Nobodys),
    (
        "/spire.api.server.trustdomain.v1.TrustDomain/BatchCreateFederationRelationship",
        &[Local, Admin],
        Whole(Administer),
    ),
    (
        "/spire.api.server.trustdomain.v1.TrustDomain/BatchDeleteFederationRelationship",
        &[Local, Admin],
        Whole(Administer),
    ),
    (
        "/spire.api.server.trustdomain.v1.TrustDomain/BatchUpdateFederationRelationship",
        &[Local, Admin],
        Whole(Administer),
    ),
    (
        "/spire.api.server.trustdomain.v1.TrustDomain/GetFederationRelationship",
        &[Local, Admin],
        Whole(Read),
    ),
    (
        "/spire.api.server.trustdomain.v1.TrustDomain/ListFederationRelationships",
        &[Local, Admin],
        Whole(Read),
    ),
    (
        "/spire.api.server.trustdomain.v1.TrustDomain/RefreshBundle",
        &[Local, Admin],
        Whole(Administer),
    ),
];
