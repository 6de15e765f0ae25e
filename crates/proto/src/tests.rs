//! The checked-in code is what the definitions give, and says on the wire what SPIFFE and SPIRE say.

mod lock;

use std::collections::BTreeMap;
use std::path::Path;

use prost::Message as _;
use prost_types::{FileDescriptorSet, field_descriptor_proto::Type};

use crate::generate;

fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entry = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.unwrap();
        (
            entry.file_name().into_string().unwrap(),
            std::fs::read(entry.path()).unwrap(),
        )
    };
    std::fs::read_dir(dir).unwrap().map(entry).collect()
}

#[test]
fn the_checked_in_code_is_what_the_definitions_generate() {
    let fresh = tempfile::tempdir().unwrap();
    generate::generate(fresh.path()).unwrap();
    let fresh = contents(fresh.path());
    let kept = contents(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/generated"));
    assert_eq!(
        kept.keys().collect::<Vec<_>>(),
        fresh.keys().collect::<Vec<_>>(),
        "run `make proto`"
    );
    for (name, bytes) in fresh {
        assert!(kept[&name] == bytes, "{name} is stale: run `make proto`");
    }
}

#[test]
fn every_method_has_its_published_path() {
    let mut paths = Vec::new();
    for file in FileDescriptorSet::decode(crate::DESCRIPTOR_SET).unwrap().file {
        for service in &file.service {
            let dot = if file.package().is_empty() { "" } else { "." };
            let methods = service.method.iter();
            paths.extend(methods.map(|m| format!("/{}{dot}{}/{}", file.package(), service.name(), m.name())));
        }
    }
    paths.sort();
    let mut expected: Vec<String> = PATHS.split_whitespace().map(str::to_owned).collect();
    expected.sort();
    assert_eq!(paths, expected);
    // The generated code carries the paths as literals; the descriptors alone would not show a slip there.
    let generated = contents(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/generated"));
    for path in expected {
        let literal = format!("\"{path}\" => {{");
        assert!(
            generated
                .values()
                .any(|code| String::from_utf8_lossy(code).contains(&literal)),
            "{path}"
        );
    }
}

#[test]
fn byte_fields_share_their_buffer() {
    let buffer = prost::bytes::Bytes::from_static(b"der");
    let svid = crate::workload::X509svid {
        x509_svid: buffer.clone(),
        ..Default::default()
    };
    assert_eq!(svid.x509_svid.as_ptr(), buffer.as_ptr());
}

#[test]
fn field_numbers_and_types_are_those_on_the_wire() {
    let set = FileDescriptorSet::decode(crate::DESCRIPTOR_SET).unwrap();
    for (message, fields) in FIELDS {
        let (package, name) = message.rsplit_once('.').unwrap_or(("", message));
        let file = set.file.iter().filter(|f| f.package() == package);
        let found = file.flat_map(|f| &f.message_type).find(|m| m.name() == name);
        let found = found.unwrap_or_else(|| panic!("no message {message}"));
        let numbers: Vec<_> = found
            .field
            .iter()
            .map(|f| (f.number(), f.name(), f.r#type()))
            .collect();
        assert_eq!(numbers, *fields, "{message}");
    }
}

type Field = (i32, &'static str, Type);

const FIELDS: &[(&str, &[Field])] = &[
    (
        "X509SVID",
        &[
            (1, "spiffe_id", Type::String),
            (2, "x509_svid", Type::Bytes),
            (3, "x509_svid_key", Type::Bytes),
            (4, "bundle", Type::Bytes),
            (5, "hint", Type::String),
        ],
    ),
    (
        "X509SVIDResponse",
        &[
            (1, "svids", Type::Message),
            (2, "crl", Type::Bytes),
            (3, "federated_bundles", Type::Message),
        ],
    ),
    ("WITBundlesResponse", &[(1, "bundles", Type::Message)]),
    (
        "spire.api.types.Bundle",
        &[
            (1, "trust_domain", Type::String),
            (2, "x509_authorities", Type::Message),
            (3, "jwt_authorities", Type::Message),
            (4, "refresh_hint", Type::Int64),
            (5, "sequence_number", Type::Uint64),
            (6, "wit_authorities", Type::Message),
        ],
    ),
    (
        "spire.api.types.PermissionDeniedDetails",
        &[(1, "reason", Type::Enum)],
    ),
    (
        "envoy.service.discovery.v3.DiscoveryRequest",
        &[
            (1, "version_info", Type::String),
            (2, "node", Type::Message),
            (3, "resource_names", Type::String),
            (4, "type_url", Type::String),
            (5, "response_nonce", Type::String),
            (6, "error_detail", Type::Message),
        ],
    ),
    (
        "envoy.service.discovery.v3.DiscoveryResponse",
        &[
            (1, "version_info", Type::String),
            (2, "resources", Type::Message),
            (4, "type_url", Type::String),
            (5, "nonce", Type::String),
        ],
    ),
    (
        "envoy.service.discovery.v3.DeltaDiscoveryRequest",
        &[
            (1, "node", Type::Message),
            (2, "type_url", Type::String),
            (3, "resource_names_subscribe", Type::String),
            (4, "resource_names_unsubscribe", Type::String),
            (5, "initial_resource_versions", Type::Message),
            (6, "response_nonce", Type::String),
            (7, "error_detail", Type::Message),
        ],
    ),
    (
        "envoy.service.discovery.v3.DeltaDiscoveryResponse",
        &[
            (1, "system_version_info", Type::String),
            (2, "resources", Type::Message),
            (4, "type_url", Type::String),
            (5, "nonce", Type::String),
            (6, "removed_resources", Type::String),
        ],
    ),
    (
        "envoy.service.discovery.v3.Resource",
        &[
            (1, "version", Type::String),
            (2, "resource", Type::Message),
            (3, "name", Type::String),
        ],
    ),
    (
        "envoy.extensions.transport_sockets.tls.v3.Secret",
        &[
            (1, "name", Type::String),
            (2, "tls_certificate", Type::Message),
            (4, "validation_context", Type::Message),
        ],
    ),
    (
        "envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext",
        &[
            (1, "trusted_ca", Type::Message),
            (12, "custom_validator_config", Type::Message),
        ],
    ),
    (
        "spiffe.broker.WorkloadReference",
        &[(1, "reference", Type::Message)],
    ),
    ("spiffe.broker.WorkloadPIDReference", &[(1, "pid", Type::Int32)]),
    (
        "spiffe.broker.SubscribeToX509SVIDResponse",
        &[
            (1, "svids", Type::Message),
            (2, "crl", Type::Bytes),
            (3, "federated_bundles", Type::Message),
        ],
    ),
    (
        "spiffe.broker.X509SVID",
        &[
            (1, "spiffe_id", Type::String),
            (2, "x509_svid", Type::Bytes),
            (3, "x509_svid_key", Type::Bytes),
            (4, "bundle", Type::Bytes),
            (5, "hint", Type::String),
        ],
    ),
    (
        "spiffe.broker.SubscribeToX509BundlesResponse",
        &[(1, "crl", Type::Bytes), (2, "bundles", Type::Message)],
    ),
    (
        "spiffe.broker.FetchJWTSVIDRequest",
        &[
            (1, "reference", Type::Message),
            (2, "audience", Type::String),
            (3, "spiffe_id", Type::String),
        ],
    ),
    (
        "spiffe.broker.JWTSVID",
        &[
            (1, "spiffe_id", Type::String),
            (2, "svid", Type::String),
            (3, "hint", Type::String),
        ],
    ),
    (
        "google.rpc.ErrorInfo",
        &[
            (1, "reason", Type::String),
            (2, "domain", Type::String),
            (3, "metadata", Type::Message),
        ],
    ),
    (
        "spire.api.server.entry.v1.SyncAuthorizedEntriesResponse",
        &[
            (1, "entry_revisions", Type::Message),
            (2, "entries", Type::Message),
            (3, "more", Type::Bool),
        ],
    ),
];

const PATHS: &str = "
    /SpiffeWorkloadAPI/FetchX509SVID /SpiffeWorkloadAPI/FetchX509Bundles
    /SpiffeWorkloadAPI/FetchJWTSVID /SpiffeWorkloadAPI/FetchJWTBundles /SpiffeWorkloadAPI/ValidateJWTSVID
    /SpiffeWorkloadAPI/FetchWITSVID /SpiffeWorkloadAPI/FetchWITBundles
    /spire.api.server.agent.v1.Agent/CountAgents /spire.api.server.agent.v1.Agent/ListAgents
    /spire.api.server.agent.v1.Agent/GetAgent /spire.api.server.agent.v1.Agent/DeleteAgent
    /spire.api.server.agent.v1.Agent/BanAgent /spire.api.server.agent.v1.Agent/AttestAgent
    /spire.api.server.agent.v1.Agent/RenewAgent /spire.api.server.agent.v1.Agent/CreateJoinToken
    /spire.api.server.agent.v1.Agent/PostStatus
    /spire.api.server.bundle.v1.Bundle/CountBundles /spire.api.server.bundle.v1.Bundle/GetBundle
    /spire.api.server.bundle.v1.Bundle/AppendBundle /spire.api.server.bundle.v1.Bundle/PublishJWTAuthority
    /spire.api.server.bundle.v1.Bundle/PublishWITAuthority /spire.api.server.bundle.v1.Bundle/ListFederatedBundles
    /spire.api.server.bundle.v1.Bundle/GetFederatedBundle /spire.api.server.bundle.v1.Bundle/BatchCreateFederatedBundle
    /spire.api.server.bundle.v1.Bundle/BatchUpdateFederatedBundle /spire.api.server.bundle.v1.Bundle/BatchSetFederatedBundle
    /spire.api.server.bundle.v1.Bundle/BatchDeleteFederatedBundle
    /spire.api.server.entry.v1.Entry/CountEntries /spire.api.server.entry.v1.Entry/ListEntries
    /spire.api.server.entry.v1.Entry/GetEntry /spire.api.server.entry.v1.Entry/BatchCreateEntry
    /spire.api.server.entry.v1.Entry/BatchUpdateEntry /spire.api.server.entry.v1.Entry/BatchDeleteEntry
    /spire.api.server.entry.v1.Entry/GetAuthorizedEntries /spire.api.server.entry.v1.Entry/SyncAuthorizedEntries
    /spire.api.server.svid.v1.SVID/MintX509SVID /spire.api.server.svid.v1.SVID/MintJWTSVID
    /spire.api.server.svid.v1.SVID/MintWITSVID /spire.api.server.svid.v1.SVID/BatchNewX509SVID
    /spire.api.server.svid.v1.SVID/NewJWTSVID /spire.api.server.svid.v1.SVID/BatchNewWITSVID
    /spire.api.server.svid.v1.SVID/NewDownstreamX509CA
    /spire.api.server.debug.v1.Debug/GetInfo
    /spire.api.server.logger.v1.Logger/GetLogger /spire.api.server.logger.v1.Logger/SetLogLevel
    /spire.api.server.logger.v1.Logger/ResetLogLevel
    /spire.api.server.localauthority.v1.LocalAuthority/GetJWTAuthorityState
    /spire.api.server.localauthority.v1.LocalAuthority/PrepareJWTAuthority
    /spire.api.server.localauthority.v1.LocalAuthority/ActivateJWTAuthority
    /spire.api.server.localauthority.v1.LocalAuthority/TaintJWTAuthority
    /spire.api.server.localauthority.v1.LocalAuthority/RevokeJWTAuthority
    /spire.api.server.localauthority.v1.LocalAuthority/GetX509AuthorityState
    /spire.api.server.localauthority.v1.LocalAuthority/PrepareX509Authority
    /spire.api.server.localauthority.v1.LocalAuthority/ActivateX509Authority
    /spire.api.server.localauthority.v1.LocalAuthority/TaintX509Authority
    /spire.api.server.localauthority.v1.LocalAuthority/RevokeX509Authority
    /spire.api.server.localauthority.v1.LocalAuthority/GetWITAuthorityState
    /spire.api.server.localauthority.v1.LocalAuthority/PrepareWITAuthority
    /spire.api.server.localauthority.v1.LocalAuthority/ActivateWITAuthority
    /spire.api.server.localauthority.v1.LocalAuthority/TaintWITAuthority
    /spire.api.server.localauthority.v1.LocalAuthority/RevokeWITAuthority
    /spire.api.server.localauthority.v1.LocalAuthority/TaintX509UpstreamAuthority
    /spire.api.server.localauthority.v1.LocalAuthority/RevokeX509UpstreamAuthority
    /envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets
    /envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets
    /envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets
    /spiffe.broker.API/SubscribeToX509SVID /spiffe.broker.API/SubscribeToX509Bundles
    /spiffe.broker.API/FetchJWTSVID /spiffe.broker.API/SubscribeToJWTBundles
    /landfast.agent.v1.AgentAdmin/GetStatus /landfast.agent.v1.AgentAdmin/Why
    /landfast.chain.v1.Chain/GetSteps /landfast.chain.v1.Chain/ShowSteps /landfast.chain.v1.Chain/PrepareStep /landfast.chain.v1.Chain/ImportStep
    /landfast.entry.v1.EntryPolicies/GetEntryPolicies /landfast.entry.v1.EntryPolicies/SetEntryPolicy
    /landfast.info.v1.Info/GetServer /landfast.info.v1.Info/ListNodes
    /landfast.ledger.v1.Ledger/GetCheckpoint /landfast.ledger.v1.Ledger/ForwardJournal
    /landfast.reserve.v1.Debts/ListDebts /landfast.reserve.v1.Reserve/NewRungs /landfast.reserve.v1.Reserve/NewToken
    /landfast.quarantine.v1.Quarantine/GetQuarantine /landfast.quarantine.v1.Quarantine/EndQuarantine
    /landfast.selftest.v1.SelfTest/Report
    /landfast.sync.v1.Sync/Subscribe
    /landfast.people.v1.People/WhoAmI /landfast.people.v1.People/ListPersons /landfast.people.v1.People/Grant /landfast.people.v1.People/Withdraw
    /landfast.people.v1.People/Forget /landfast.people.v1.People/ListProposals /landfast.people.v1.People/ConfirmProposal
    /landfast.people.v1.People/RejectProposal /landfast.people.v1.People/Rename
    /landfast.login.v1.Login/Begin /landfast.login.v1.Login/Finish
    /landfast.recovery.v1.Recovery/RegisterDeviceKey /landfast.recovery.v1.Recovery/ListRequests
    /landfast.recovery.v1.Recovery/Decide
    /spire.agent.debug.v1.Debug/GetInfo
    /spire.api.agent.delegatedidentity.v1.DelegatedIdentity/FetchJWTSVIDs
    /spire.api.agent.delegatedidentity.v1.DelegatedIdentity/SubscribeToJWTBundles
    /spire.api.agent.delegatedidentity.v1.DelegatedIdentity/SubscribeToX509Bundles
    /spire.api.agent.delegatedidentity.v1.DelegatedIdentity/SubscribeToX509SVIDs
    /spire.api.agent.logger.v1.Logger/GetLogger
    /spire.api.agent.logger.v1.Logger/ResetLogLevel
    /spire.api.agent.logger.v1.Logger/SetLogLevel
    /spire.api.server.trustdomain.v1.TrustDomain/BatchCreateFederationRelationship
    /spire.api.server.trustdomain.v1.TrustDomain/BatchDeleteFederationRelationship
    /spire.api.server.trustdomain.v1.TrustDomain/BatchUpdateFederationRelationship
    /spire.api.server.trustdomain.v1.TrustDomain/GetFederationRelationship
    /spire.api.server.trustdomain.v1.TrustDomain/ListFederationRelationships
    /spire.api.server.trustdomain.v1.TrustDomain/RefreshBundle
";
