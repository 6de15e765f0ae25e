//! The table: every method of every service, in the order of their paths. What has no row is refused to everybody.

use super::Class::{self, Admin, Agent, Any, Downstream, Local};
use super::{SHOW_STEPS, SUBSCRIBE};

/// Every method there is, with everybody who may call it.
pub(crate) const TABLE: &[(&str, &[Class])] = &[
    ("/grpc.health.v1.Health/Check", &[Local]),
    ("/grpc.health.v1.Health/List", &[Local]),
    ("/grpc.health.v1.Health/Watch", &[Local]),
    ("/landfast.chain.v1.Chain/GetSteps", &[Any]),
    ("/landfast.chain.v1.Chain/ImportStep", &[Local]),
    ("/landfast.chain.v1.Chain/PrepareStep", &[Local]),
    (SHOW_STEPS, &[Agent]),
    (
        "/landfast.entry.v1.EntryPolicies/GetEntryPolicies",
        &[Local, Admin],
    ),
    ("/landfast.entry.v1.EntryPolicies/SetEntryPolicy", &[Local, Admin]),
    ("/landfast.info.v1.Info/GetServer", &[Local, Admin]),
    ("/landfast.info.v1.Info/ListNodes", &[Local, Admin]),
    ("/landfast.reserve.v1.Debts/ListDebts", &[Local, Admin]),
    ("/landfast.reserve.v1.Reserve/NewRungs", &[Agent]),
    ("/landfast.reserve.v1.Reserve/NewToken", &[Agent]),
    ("/landfast.quarantine.v1.Quarantine/EndQuarantine", &[Local]),
    ("/landfast.quarantine.v1.Quarantine/GetQuarantine", &[Local]),
    ("/landfast.recovery.v1.Recovery/Decide", &[Local]),
    ("/landfast.recovery.v1.Recovery/ListRequests", &[Local, Admin]),
    ("/landfast.recovery.v1.Recovery/RegisterDeviceKey", &[Agent]),
    (SUBSCRIBE, &[Agent]),
    ("/spire.api.server.agent.v1.Agent/AttestAgent", &[Any]),
    ("/spire.api.server.agent.v1.Agent/BanAgent", &[Local, Admin]),
    ("/spire.api.server.agent.v1.Agent/CountAgents", &[Local, Admin]),
    (
        "/spire.api.server.agent.v1.Agent/CreateJoinToken",
        &[Local, Admin],
    ),
    ("/spire.api.server.agent.v1.Agent/DeleteAgent", &[Local, Admin]),
    ("/spire.api.server.agent.v1.Agent/GetAgent", &[Local, Admin]),
    ("/spire.api.server.agent.v1.Agent/ListAgents", &[Local, Admin]),
    ("/spire.api.server.agent.v1.Agent/PostStatus", &[Agent]),
    ("/spire.api.server.agent.v1.Agent/RenewAgent", &[Agent]),
    ("/spire.api.server.bundle.v1.Bundle/AppendBundle", &[Local, Admin]),
    (
        "/spire.api.server.bundle.v1.Bundle/BatchCreateFederatedBundle",
        &[Local, Admin],
    ),
    (
        "/spire.api.server.bundle.v1.Bundle/BatchDeleteFederatedBundle",
        &[Local, Admin],
    ),
    (
        "/spire.api.server.bundle.v1.Bundle/BatchSetFederatedBundle",
        &[Local, Admin],
    ),
    (
        "/spire.api.server.bundle.v1.Bundle/BatchUpdateFederatedBundle",
        &[Local, Admin],
    ),
    ("/spire.api.server.bundle.v1.Bundle/CountBundles", &[Local, Admin]),
    ("/spire.api.server.bundle.v1.Bundle/GetBundle", &[Any]),
    (
        "/spire.api.server.bundle.v1.Bundle/GetFederatedBundle",
        &[Local, Admin, Agent],
    ),
    (
        "/spire.api.server.bundle.v1.Bundle/ListFederatedBundles",
        &[Local, Admin],
    ),
    (
        "/spire.api.server.bundle.v1.Bundle/PublishJWTAuthority",
        &[Downstream],
    ),
    (
        "/spire.api.server.bundle.v1.Bundle/PublishWITAuthority",
        &[Downstream],
    ),
    ("/spire.api.server.debug.v1.Debug/GetInfo", &[Local]),
    (
        "/spire.api.server.entry.v1.Entry/BatchCreateEntry",
        &[Local, Admin],
    ),
    (
        "/spire.api.server.entry.v1.Entry/BatchDeleteEntry",
        &[Local, Admin],
    ),
    (
        "/spire.api.server.entry.v1.Entry/BatchUpdateEntry",
        &[Local, Admin],
    ),
    ("/spire.api.server.entry.v1.Entry/CountEntries", &[Local, Admin]),
    ("/spire.api.server.entry.v1.Entry/GetAuthorizedEntries", &[Agent]),
    ("/spire.api.server.entry.v1.Entry/GetEntry", &[Local, Admin]),
    ("/spire.api.server.entry.v1.Entry/ListEntries", &[Local, Admin]),
    ("/spire.api.server.entry.v1.Entry/SyncAuthorizedEntries", &[Agent]),
    (
        "/spire.api.server.localauthority.v1.LocalAuthority/ActivateJWTAuthority",
        &[Local, Admin],
    ),
    (
        "/spire.api.server.localauthority.v1.LocalAuthority/ActivateWITAuthority",
        &[Local, Admin],
    ),
    (
        "/spire.api.server.localauthority.v1.LocalAuthority/ActivateX509Authority",
        &[Local, Admin],
    ),
    (
        "/spire.api.server.localauthority.v1.LocalAuthority/GetJWTAuthorityState",
        &[Local, Admin],
    ),
    (
        "/spire.api.server.localauthority.v1.LocalAuthority/GetWITAuthorityState",
        &[Local, Admin],
    ),
    (
        "/spire.api.server.localauthority.v1.LocalAuthority/GetX509AuthorityState",
        &[Local, Admin],
    ),
    (
        "/spire.api.server.localauthority.v1.LocalAuthority/PrepareJWTAuthority",
        &[Local, Admin],
    ),
    (
        "/spire.api.server.localauthority.v1.LocalAuthority/PrepareWITAuthority",
        &[Local, Admin],
    ),
    (
        "/spire.api.server.localauthority.v1.LocalAuthority/PrepareX509Authority",
        &[Local, Admin],
    ),
    (
        "/spire.api.server.localauthority.v1.LocalAuthority/RevokeJWTAuthority",
        &[Local, Admin],
    ),
    (
        "/spire.api.server.localauthority.v1.LocalAuthority/RevokeWITAuthority",
        &[Local, Admin],
    ),
    (
        "/spire.api.server.localauthority.v1.LocalAuthority/RevokeX509Authority",
        &[Local, Admin],
    ),
    (
        "/spire.api.server.localauthority.v1.LocalAuthority/RevokeX509UpstreamAuthority",
        &[Local, Admin],
    ),
    (
        "/spire.api.server.localauthority.v1.LocalAuthority/TaintJWTAuthority",
        &[Local, Admin],
    ),
    (
        "/spire.api.server.localauthority.v1.LocalAuthority/TaintWITAuthority",
        &[Local, Admin],
    ),
    (
        "/spire.api.server.localauthority.v1.LocalAuthority/TaintX509Authority",
        &[Local, Admin],
    ),
    (
        "/spire.api.server.localauthority.v1.LocalAuthority/TaintX509UpstreamAuthority",
        &[Local, Admin],
    ),
    ("/spire.api.server.logger.v1.Logger/GetLogger", &[Local]),
    ("/spire.api.server.logger.v1.Logger/ResetLogLevel", &[Local]),
    ("/spire.api.server.logger.v1.Logger/SetLogLevel", &[Local]),
    ("/spire.api.server.svid.v1.SVID/BatchNewWITSVID", &[Agent]),
    ("/spire.api.server.svid.v1.SVID/BatchNewX509SVID", &[Agent]),
    ("/spire.api.server.svid.v1.SVID/MintJWTSVID", &[Local, Admin]),
    ("/spire.api.server.svid.v1.SVID/MintWITSVID", &[Local, Admin]),
    ("/spire.api.server.svid.v1.SVID/MintX509SVID", &[Local, Admin]),
    (
        "/spire.api.server.svid.v1.SVID/NewDownstreamX509CA",
        &[Downstream],
    ),
    ("/spire.api.server.svid.v1.SVID/NewJWTSVID", &[Agent]),
    (
        "/spire.api.server.trustdomain.v1.TrustDomain/BatchCreateFederationRelationship",
        &[Local, Admin],
    ),
    (
        "/spire.api.server.trustdomain.v1.TrustDomain/BatchDeleteFederationRelationship",
        &[Local, Admin],
    ),
    (
        "/spire.api.server.trustdomain.v1.TrustDomain/BatchUpdateFederationRelationship",
        &[Local, Admin],
    ),
    (
        "/spire.api.server.trustdomain.v1.TrustDomain/GetFederationRelationship",
        &[Local, Admin],
    ),
    (
        "/spire.api.server.trustdomain.v1.TrustDomain/ListFederationRelationships",
        &[Local, Admin],
    ),
    (
        "/spire.api.server.trustdomain.v1.TrustDomain/RefreshBundle",
        &[Local, Admin],
    ),
];
