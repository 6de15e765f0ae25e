//! The algorithm, with pages of two.

use landfast_identity::{Selector, SelectorSet, SpiffeId, UnixTime};

use super::*;
use crate::registry::EntryDraft;

fn snapshot(count: usize) -> Vec<Arc<Entry>> {
    let entry = |n: usize| {
        let id = |path: String| SpiffeId::parse(&format!("spiffe://plant.test{path}")).unwrap();
        let selectors = SelectorSet::from_iter([Selector::parse("unix:uid:1").unwrap()]);
        let draft = EntryDraft::new(id("/parent".to_owned()), id(format!("/w{n}")), selectors);
        Arc::new(draft.into_entry(format!("id{n}"), UnixTime::from_secs(7)))
    };
    (0..count).map(entry).collect()
}

fn ask(ids: &[&str], mask: Option<types::EntryMask>) -> Result<pb::SyncAuthorizedEntriesRequest, Status> {
    Ok(pb::SyncAuthorizedEntriesRequest {
        output_mask: mask,
        ids: ids.iter().map(|id| (*id).to_owned()).collect(),
    })
}

async fn run(count: usize, asks: Vec<Result<pb::SyncAuthorizedEntriesRequest, Status>>) -> Vec<Answer> {
    serve(snapshot(count), tokio_stream::iter(asks), 2)
        .collect()
        .await
}

fn ids(answer: &Answer) -> (Vec<&str>, Vec<&str>, bool) {
    let answer = answer.as_ref().unwrap();
    (
        answer.entry_revisions.iter().map(|r| r.id.as_str()).collect(),
        answer.entries.iter().map(|e| e.id.as_str()).collect(),
        answer.more,
    )
}

#[tokio::test]
async fn few_entries_come_whole_in_one_message() {
    for count in 0..=2 {
        let answers = run(count, vec![ask(&[], None), ask(&["id0"], None)]).await;
        assert_eq!(answers.len(), 1, "{count}");
        let (revisions, entries, more) = ids(&answers[0]);
        assert_eq!((revisions.len(), entries.len(), more), (0, count, false));
    }
}

#[tokio::test]
async fn many_come_as_pages_of_revisions_and_then_as_asked_for() {
    let answers = run(
        5,
        vec![
            ask(&[], None),
            ask(&["id4", "unknown", "id1"], None),
            ask(&["id0", "id2", "id3"], None),
        ],
    )
    .await;
    let all: Vec<_> = answers.iter().map(ids).collect();
    assert_eq!(
        all,
        [
            (vec!["id0", "id1"], vec![], true),
            (vec!["id2", "id3"], vec![], true),
            (vec!["id4"], vec![], false),
            (vec![], vec!["id4", "id1"], false),
            (vec![], vec!["id0", "id2"], true),
            (vec![], vec!["id3"], false),
        ]
    );
    assert_eq!(answers[0].as_ref().unwrap().entry_revisions[0].created_at, 7);
}

#[tokio::test]
async fn unknown_ids_get_an_empty_answer() {
    let answers = run(3, vec![ask(&[], None), ask(&["unknown"], None)]).await;
    assert_eq!(ids(answers.last().unwrap()), (vec![], vec![], false));
}

#[tokio::test]
async fn a_first_request_with_ids_or_without_revisions_is_refused() {
    let without = types::EntryMask {
        spiffe_id: true,
        ..Default::default()
    };
    for (first, text) in [
        (
            ask(&["id0"], None),
            "specifying IDs on initial request is not supported",
        ),
        (ask(&[], Some(without)), "revision number cannot be masked"),
    ] {
        for count in [1, 5] {
            let answers = run(count, vec![first.clone()]).await;
            let status = answers[0].as_ref().unwrap_err();
            assert_eq!(
                (status.code(), status.message()),
                (tonic::Code::InvalidArgument, text)
            );
            assert_eq!(answers.len(), 1);
        }
    }
}

#[tokio::test]
async fn the_mask_of_the_first_request_holds_for_all() {
    let mask = types::EntryMask {
        revision_number: true,
        hint: true,
        ..Default::default()
    };
    let answers = run(3, vec![ask(&[], Some(mask)), ask(&["id0"], None)]).await;
    let entry = &answers.last().unwrap().as_ref().unwrap().entries[0];
    assert!(
        entry.spiffe_id.is_none() && entry.selectors.is_empty(),
        "{entry:?}"
    );
}

#[tokio::test]
async fn a_client_that_goes_away_is_no_error() {
    let answers = run(3, vec![ask(&[], None), Err(Status::cancelled("gone"))]).await;
    assert!(answers.iter().all(Result::is_ok));
    assert!(run(3, Vec::new()).await.is_empty());
}

#[tokio::test]
async fn a_request_for_too_many_ids_is_refused() {
    let many: Vec<String> = (0..9).map(|n| format!("id{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let answers = run(3, vec![ask(&[], None), ask(&many, None)]).await;
    assert_eq!(
        answers.last().unwrap().as_ref().unwrap_err().code(),
        tonic::Code::InvalidArgument
    );
}

/// T-20: a stream that goes on asking does not outlive its time.
#[tokio::test(start_paused = true)]
async fn an_agent_that_keeps_its_stream_open_is_cut_off() {
    let asks = Box::pin(stream::unfold(0, |asked| async move {
        tokio::time::sleep(Duration::from_secs(if asked == 0 { 0 } else { 25 })).await;
        Some((
            if asked == 0 {
                ask(&[], None)
            } else {
                ask(&["id0"], None)
            },
            asked + 1,
        ))
    }));
    let answers: Vec<Answer> = serve(snapshot(3), asks, 2).take(20).collect().await;
    assert!(answers.len() < 8, "{}", answers.len());
}
