//! Seeds of protobuf messages and of `x509pop`.

use landfast_fuzz::plant::{Caller, DOMAIN, METHODS, method};
use landfast_fuzz::{calls, fixed};
use landfast_identity::{SpiffeId, UnixTime, build_csr, jwt};
use landfast_proto::landfast::agent::v1 as admin;
use landfast_proto::spire::api::server::{
    agent::v1 as agent, bundle::v1 as bundle, entry::v1 as entry, svid::v1 as svid,
};
use landfast_proto::spire::api::types;
use landfast_proto::workload as pb;
use prost::Message;

use super::{Seeds, b64};

pub(crate) fn x509pop(seeds: &Seeds) {
    let (device, root) = fixed::device();
    let one = serde_json::json!({ "certificates": [b64(device.as_der())] }).to_string();
    let two = serde_json::json!({ "certificates": [b64(device.as_der()), b64(root.as_der())] }).to_string();
    let answer = r#"{"ecdsa_signature":{"nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","r":"AQ==","s":"AQ=="}}"#;
    for (mode, name) in [(0u8, "raw"), (1, "honest"), (2, "bent")] {
        let bend = if mode == 0 { answer.as_bytes() } else { &[1, 0, 0] };
        seeds.put("x509pop", name, [&[mode], one.as_bytes(), &[0], bend].concat());
        seeds.put(
            "x509pop",
            &format!("{name}-two"),
            [&[mode], two.as_bytes(), &[0], bend].concat(),
        );
    }
}

pub(crate) fn workload(seeds: &Seeds) {
    let audience = vec!["aud.test".to_owned()];
    let id = SpiffeId::parse("spiffe://td.test/a").expect("an ID");
    let params = jwt::JwtParams {
        sub: &id,
        aud: &audience,
        exp: UnixTime::from_secs(fixed::NOW.as_secs() + 300),
        iat: fixed::NOW,
        iss: None,
        jti: None,
    };
    let token = jwt::sign(&params, "k", &fixed::key()).expect("a token");
    let validate = pb::ValidateJwtsvidRequest {
        audience: "aud.test".to_owned(),
        svid: token,
    };
    let fetch = pb::JwtsvidRequest {
        audience,
        spiffe_id: id.to_string(),
    };
    let all = pb::JwtsvidRequest {
        audience: vec!["a".to_owned(), "b".to_owned()],
        spiffe_id: String::new(),
    };
    for how in 0..16u8 {
        for which in 0..11u8 {
            seeds.put("workload", &format!("plain-{which}-{how}"), [how, which]);
        }
    }
    // There is a process 1 everywhere, and nobody is -1 or the last number.
    for pid in [1, 2, -1, i32::MAX] {
        let why = admin::WhyRequest { pid }.encode_to_vec();
        seeds.put("workload", &format!("why-{pid}"), [&[0, 10], &why[..]].concat());
    }
    for how in [0u8, 1] {
        seeds.put(
            "workload",
            &format!("fetch-{how}"),
            [&[how, 2], &fetch.encode_to_vec()[..]].concat(),
        );
        seeds.put(
            "workload",
            &format!("fetch-all-{how}"),
            [&[how, 2], &all.encode_to_vec()[..]].concat(),
        );
        seeds.put(
            "workload",
            &format!("validate-{how}"),
            [&[how, 4], &validate.encode_to_vec()[..]].concat(),
        );
    }
}

pub(crate) fn server(seeds: &Seeds) {
    let messages = messages();
    for (name, message) in &messages {
        let (at, _) = method(name);
        let file = name.replace('/', "-");
        seeds.put("server_operator", &file, calls::write(0, at, message));
        for caller in 0..5 {
            seeds.put(
                "server_agent",
                &format!("{file}-{caller}"),
                calls::write(caller, at, message),
            );
        }
    }
    for (name, entry) in near_misses() {
        let (at, _) = method("Entry/BatchCreateEntry");
        let request = entry::BatchCreateEntryRequest {
            entries: vec![entry],
            output_mask: None,
        };
        seeds.put(
            "server_operator",
            name,
            calls::write(0, at, &request.encode_to_vec()),
        );
    }
    // Every method with nothing, and some that follow each other.
    for at in 0..METHODS.len() as u8 {
        seeds.put(
            "server_operator",
            &format!("nothing-{at}"),
            calls::write(0, at, &[]),
        );
    }
    let call = |name: &str| {
        let (_, message) = messages.iter().find(|(known, _)| *known == name).expect("a seed");
        calls::write(0, method(name).0, message)
    };
    for (first, then) in [
        ("Entry/BatchCreateEntry", "Entry/BatchUpdateEntry"),
        ("Entry/BatchCreateEntry", "Entry/BatchDeleteEntry"),
        ("Entry/BatchCreateEntry", "Entry/ListEntries"),
        ("Entry/BatchCreateEntry", "Bundle/BatchDeleteFederatedBundle"),
        ("Agent/CreateJoinToken", "Agent/AttestAgent"),
    ] {
        let name = format!("{}-then-{}", first.replace('/', "-"), then.replace('/', "-"));
        seeds.put("server_operator", &name, [call(first), call(then)].concat());
    }
    let joined = [
        "Agent/CreateJoinToken",
        "Agent/AttestAgent",
        "Agent/ListAgents",
        "Agent/BanAgent",
        "Agent/AttestAgent",
        "Agent/DeleteAgent",
    ];
    seeds.put("server_operator", "agent-life", joined.map(call).concat());
}

fn id(path: &str) -> Option<types::Spiffeid> {
    Some(types::Spiffeid {
        trust_domain: DOMAIN.to_owned(),
        path: path.to_owned(),
    })
}

fn selectors() -> Vec<types::Selector> {
    vec![types::Selector {
        r#type: "unix".to_owned(),
        value: "uid:1000".to_owned(),
    }]
}

fn wanted() -> types::Entry {
    types::Entry {
        id: "e1".to_owned(),
        spiffe_id: id("/w"),
        parent_id: id("/spire/agent/join_token/token"),
        selectors: selectors(),
        x509_svid_ttl: 60,
        jwt_svid_ttl: 60,
        federates_with: vec!["other.test".to_owned()],
        dns_names: vec!["w.plant.test".to_owned()],
        hint: "h".to_owned(),
        expires_at: fixed::NOW.as_secs() + 60,
        ..types::Entry::default()
    }
}

/// Entries that are one step from good: what a check that is left out would let in.
fn near_misses() -> Vec<(&'static str, types::Entry)> {
    let foreign = Some(types::Spiffeid {
        trust_domain: "other.test".to_owned(),
        path: "/w".to_owned(),
    });
    let selector = |value: &str| types::Selector {
        r#type: "unix".to_owned(),
        value: value.to_owned(),
    };
    let good = wanted;
    vec![
        (
            "entry-reserved",
            types::Entry {
                spiffe_id: id("/spire/server"),
                ..good()
            },
        ),
        (
            "entry-agent",
            types::Entry {
                spiffe_id: id("/spire/agent/x/y"),
                ..good()
            },
        ),
        (
            "entry-foreign",
            types::Entry {
                spiffe_id: foreign.clone(),
                ..good()
            },
        ),
        (
            "entry-foreign-parent",
            types::Entry {
                parent_id: foreign,
                ..good()
            },
        ),
        (
            "entry-root",
            types::Entry {
                spiffe_id: id(""),
                ..good()
            },
        ),
        (
            "entry-dots",
            types::Entry {
                spiffe_id: id("/a/.."),
                ..good()
            },
        ),
        (
            "entry-no-selector",
            types::Entry {
                selectors: Vec::new(),
                ..good()
            },
        ),
        (
            "entry-empty-selector",
            types::Entry {
                selectors: vec![selector("")],
                ..good()
            },
        ),
        (
            "entry-line",
            types::Entry {
                selectors: vec![selector("a\nb")],
                ..good()
            },
        ),
        (
            "entry-twice",
            types::Entry {
                selectors: vec![selector("a"), selector("a")],
                ..good()
            },
        ),
        (
            "entry-ttl",
            types::Entry {
                x509_svid_ttl: -1,
                jwt_svid_ttl: i32::MAX,
                ..good()
            },
        ),
        (
            "entry-past",
            types::Entry {
                expires_at: i64::MIN,
                ..good()
            },
        ),
        (
            "entry-dns",
            types::Entry {
                dns_names: vec!["*.a".to_owned(), "1".to_owned()],
                ..good()
            },
        ),
        (
            "entry-own-federation",
            types::Entry {
                federates_with: vec![DOMAIN.to_owned()],
                ..good()
            },
        ),
        (
            "entry-id",
            types::Entry {
                id: "e/1".to_owned(),
                ..good()
            },
        ),
    ]
}

fn messages() -> Vec<(&'static str, Vec<u8>)> {
    let key = fixed::key();
    let bare = build_csr(&key, None, &[]).expect("a request");
    let wished = SpiffeId::parse("spiffe://plant.test/wished").expect("an ID");
    let wish = build_csr(&key, Some(&wished), &["w.plant.test".to_owned()]).expect("a request");
    let new = wanted();
    let agent_id = id("/spire/agent/join_token/token");
    let (device, root) = fixed::device();
    let foreign = types::Bundle {
        trust_domain: "third.test".to_owned(),
        x509_authorities: vec![types::X509Certificate {
            asn1: root.as_der().to_vec().into(),
            tainted: false,
        }],
        jwt_authorities: vec![types::JwtKey {
            public_key: device.public_key().spki_der().to_vec().into(),
            key_id: "k".to_owned(),
            expires_at: 0,
            tainted: false,
        }],
        refresh_hint: 60,
        sequence_number: 7,
        ..types::Bundle::default()
    };
    let params = agent::attest_agent_request::Params {
        data: Some(types::AttestationData {
            r#type: "join_token".to_owned(),
            payload: b"token".to_vec().into(),
        }),
        params: Some(agent::AgentX509svidParams {
            csr: bare.clone().into(),
        }),
    };
    let attest = agent::AttestAgentRequest {
        step: Some(agent::attest_agent_request::Step::Params(params)),
    };
    let batch = svid::BatchNewX509svidRequest {
        params: Caller::AgentA
            .entries()
            .iter()
            .chain(Caller::AgentB.entries())
            .map(|(entry_id, _)| svid::NewX509svidParams {
                entry_id: (*entry_id).to_owned(),
                csr: bare.clone().into(),
            })
            .collect(),
    };
    let filter = entry::list_entries_request::Filter {
        by_spiffe_id: id("/w"),
        by_selectors: Some(types::SelectorMatch {
            selectors: selectors(),
            r#match: 1,
        }),
        ..Default::default()
    };
    let bundles = vec![foreign.clone()];
    vec![
        ("Agent/AttestAgent", attest.encode_to_vec()),
        (
            "Agent/BanAgent",
            agent::BanAgentRequest { id: agent_id.clone() }.encode_to_vec(),
        ),
        (
            "Agent/DeleteAgent",
            agent::DeleteAgentRequest { id: agent_id.clone() }.encode_to_vec(),
        ),
        (
            "Agent/GetAgent",
            agent::GetAgentRequest {
                id: agent_id,
                output_mask: Some(types::AgentMask {
                    selectors: true,
                    ..Default::default()
                }),
            }
            .encode_to_vec(),
        ),
        (
            "Agent/CreateJoinToken",
            agent::CreateJoinTokenRequest {
                ttl: 60,
                token: "token".to_owned(),
                agent_id: id("/node"),
            }
            .encode_to_vec(),
        ),
        (
            "Agent/ListAgents",
            agent::ListAgentsRequest {
                filter: Some(agent::list_agents_request::Filter {
                    by_attestation_type: "join_token".to_owned(),
                    by_banned: Some(false),
                    by_expires_before: "2030-01-01 00:00:00 +0000 UTC".to_owned(),
                    ..Default::default()
                }),
                page_size: 1,
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        (
            "Agent/CountAgents",
            agent::CountAgentsRequest {
                filter: Some(agent::count_agents_request::Filter {
                    by_can_reattest: Some(true),
                    ..Default::default()
                }),
            }
            .encode_to_vec(),
        ),
        (
            "Agent/PostStatus",
            agent::PostStatusRequest {
                current_bundle_serial: 1,
                agent_version: "1.0".to_owned(),
            }
            .encode_to_vec(),
        ),
        (
            "Agent/RenewAgent",
            agent::RenewAgentRequest {
                params: Some(agent::AgentX509svidParams {
                    csr: bare.clone().into(),
                }),
            }
            .encode_to_vec(),
        ),
        (
            "Bundle/AppendBundle",
            bundle::AppendBundleRequest {
                x509_authorities: foreign.x509_authorities.clone(),
                jwt_authorities: foreign.jwt_authorities.clone(),
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        (
            "Bundle/BatchCreateFederatedBundle",
            bundle::BatchCreateFederatedBundleRequest {
                bundle: bundles.clone(),
                output_mask: None,
            }
            .encode_to_vec(),
        ),
        (
            "Bundle/BatchSetFederatedBundle",
            bundle::BatchSetFederatedBundleRequest {
                bundle: bundles.clone(),
                output_mask: None,
            }
            .encode_to_vec(),
        ),
        (
            "Bundle/BatchUpdateFederatedBundle",
            bundle::BatchUpdateFederatedBundleRequest {
                bundle: vec![types::Bundle {
                    trust_domain: "other.test".to_owned(),
                    ..foreign
                }],
                input_mask: Some(types::BundleMask {
                    refresh_hint: true,
                    ..Default::default()
                }),
                output_mask: None,
            }
            .encode_to_vec(),
        ),
        (
            "Bundle/BatchDeleteFederatedBundle",
            bundle::BatchDeleteFederatedBundleRequest {
                trust_domains: vec!["other.test".to_owned()],
                mode: 1,
            }
            .encode_to_vec(),
        ),
        (
            "Bundle/GetFederatedBundle",
            bundle::GetFederatedBundleRequest {
                trust_domain: "other.test".to_owned(),
                output_mask: None,
            }
            .encode_to_vec(),
        ),
        (
            "Entry/BatchCreateEntry",
            entry::BatchCreateEntryRequest {
                entries: vec![new.clone()],
                output_mask: None,
            }
            .encode_to_vec(),
        ),
        (
            "Entry/BatchUpdateEntry",
            entry::BatchUpdateEntryRequest {
                entries: vec![types::Entry {
                    hint: "i".to_owned(),
                    ..new
                }],
                input_mask: Some(types::EntryMask {
                    hint: true,
                    ..Default::default()
                }),
                output_mask: None,
            }
            .encode_to_vec(),
        ),
        (
            "Entry/BatchDeleteEntry",
            entry::BatchDeleteEntryRequest {
                ids: vec!["e1".to_owned()],
            }
            .encode_to_vec(),
        ),
        (
            "Entry/GetEntry",
            entry::GetEntryRequest {
                id: "a1".to_owned(),
                output_mask: None,
            }
            .encode_to_vec(),
        ),
        (
            "Entry/ListEntries",
            entry::ListEntriesRequest {
                filter: Some(filter),
                page_size: 2,
                ..Default::default()
            }
            .encode_to_vec(),
        ),
        (
            "Entry/SyncAuthorizedEntries",
            entry::SyncAuthorizedEntriesRequest {
                ids: vec!["a1".to_owned(), "b1".to_owned()],
                output_mask: None,
            }
            .encode_to_vec(),
        ),
        (
            "Entry/GetAuthorizedEntries",
            entry::GetAuthorizedEntriesRequest {
                output_mask: Some(types::EntryMask {
                    spiffe_id: true,
                    ..Default::default()
                }),
            }
            .encode_to_vec(),
        ),
        ("SVID/BatchNewX509SVID", batch.encode_to_vec()),
        (
            "SVID/MintX509SVID",
            svid::MintX509svidRequest {
                csr: wish.into(),
                ttl: 60,
            }
            .encode_to_vec(),
        ),
        (
            "SVID/MintJWTSVID",
            svid::MintJwtsvidRequest {
                id: id("/w"),
                audience: vec!["a".to_owned()],
                ttl: 60,
            }
            .encode_to_vec(),
        ),
        (
            "SVID/NewJWTSVID",
            svid::NewJwtsvidRequest {
                entry_id: "a2".to_owned(),
                audience: vec!["a".to_owned()],
            }
            .encode_to_vec(),
        ),
    ]
}
