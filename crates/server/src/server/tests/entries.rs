//! Entries over the wire.

use super::*;

#[tokio::test]
async fn entries_follow_the_published_rules() {
    let rig = Rig::new().await;
    let node = rig.node().await;
    let made = rig.entry(&node.id, "/line4/collector", |_| {}).await;
    assert_eq!(made.revision_number, 0);
    let mut client = EntryClient::new(rig.admin().await);
    // The same once more: refused, with the one that exists.
    let twin = types::Entry {
        id: String::new(),
        ..made.clone()
    };
    let request = entry::BatchCreateEntryRequest {
        entries: vec![twin],
        output_mask: None,
    };
    let result = client
        .batch_create_entry(request)
        .await
        .unwrap()
        .into_inner()
        .results
        .remove(0);
    let status = result.status.unwrap();
    assert_eq!(
        (status.code, status.message.as_str()),
        (Code::AlreadyExists as i32, "similar entry already exists")
    );
    assert_eq!(result.entry, Some(made.clone()));
    // An update changes what its mask names.
    let change = types::Entry {
        id: made.id.clone(),
        hint: "new".to_owned(),
        admin: true,
        ..Default::default()
    };
    let mask = types::EntryMask {
        hint: true,
        ..Default::default()
    };
    let request = entry::BatchUpdateEntryRequest {
        entries: vec![change],
        input_mask: Some(mask),
        output_mask: None,
    };
    let result = client
        .batch_update_entry(request)
        .await
        .unwrap()
        .into_inner()
        .results
        .remove(0);
    let updated = result.entry.unwrap();
    assert_eq!(
        (updated.hint.as_str(), updated.admin, updated.revision_number),
        ("new", false, 1)
    );
    // An output mask leaves out the rest; the ID is always there.
    let request = entry::GetEntryRequest {
        id: made.id.clone(),
        output_mask: Some(mask),
    };
    let masked = client.get_entry(request).await.unwrap().into_inner();
    assert_eq!(
        masked,
        types::Entry {
            id: made.id.clone(),
            hint: "new".to_owned(),
            ..Default::default()
        }
    );
    // Rules, one by one.
    type Spoil = fn(&mut types::Entry);
    let refused: [(&str, Spoil); 7] = [
        ("negative TTL", |e| e.x509_svid_ttl = -1),
        ("no selector", |e| e.selectors.clear()),
        ("reserved ID", |e| {
            e.spiffe_id = Some(types::Spiffeid {
                trust_domain: "plant.test".to_owned(),
                path: "/spire/server".to_owned(),
            })
        }),
        ("foreign ID", |e| {
            e.spiffe_id = Some(types::Spiffeid {
                trust_domain: "other.test".to_owned(),
                path: "/a".to_owned(),
            })
        }),
        ("no parent", |e| e.parent_id = None),
        ("unknown federation", |e| {
            e.federates_with = vec!["nowhere.test".to_owned()]
        }),
        ("long hint", |e| e.hint = "x".repeat(1025)),
    ];
    for (what, spoil) in refused {
        let mut wanted = types::Entry {
            id: String::new(),
            ..made.clone()
        };
        wanted.spiffe_id = Some(types::Spiffeid {
            trust_domain: "plant.test".to_owned(),
            path: "/other".to_owned(),
        });
        spoil(&mut wanted);
        let request = entry::BatchCreateEntryRequest {
            entries: vec![wanted],
            output_mask: None,
        };
        let result = client
            .batch_create_entry(request)
            .await
            .unwrap()
            .into_inner()
            .results
            .remove(0);
        assert_eq!(
            result.status.unwrap().code,
            Code::InvalidArgument as i32,
            "{what}"
        );
    }
    // Pages by key.
    for n in 0..5 {
        rig.entry(&node.id, &format!("/page/{n}"), |_| {}).await;
    }
    let mut seen = Vec::new();
    let mut token = String::new();
    loop {
        let request = entry::ListEntriesRequest {
            page_size: 2,
            page_token: token,
            ..Default::default()
        };
        let page = client.list_entries(request).await.unwrap().into_inner();
        assert!(page.entries.len() <= 2);
        seen.extend(page.entries.into_iter().map(|entry| entry.id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let distinct: std::collections::BTreeSet<_> = seen.iter().collect();
    assert_eq!((seen.len(), distinct.len()), (6, 6));
    // Deleting twice.
    let request = entry::BatchDeleteEntryRequest {
        ids: vec![made.id.clone(), made.id],
    };
    let results = client
        .batch_delete_entry(request)
        .await
        .unwrap()
        .into_inner()
        .results;
    let codes: Vec<i32> = results
        .into_iter()
        .map(|result| result.status.unwrap().code)
        .collect();
    assert_eq!(codes, [0, Code::NotFound as i32]);
    rig.tear_down().await;
}
