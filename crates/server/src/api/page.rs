//! Pages of the lists. Invariants: a page token is the key of the last row, so a page never skips or repeats; no answer is larger than a client
//! takes, however much was asked for.

use prost::Message;
use tonic::Status;

/// What a client asks for.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// Rows; 0: all.
    pub(crate) size: i32,
    /// Where the page before ended.
    pub(crate) token: &'a str,
}

/// A page as messages, and the token of the next one. What does not fit one message stays for the next page; but who asked for all would not
/// look for another page and is refused.
pub(crate) fn page<R, M: Message>(
    wanted: Wanted<'_>,
    rows: impl Fn(usize, Option<&str>) -> (Vec<R>, Option<String>),
    key: impl Fn(&R) -> &str,
    out: impl Fn(&R) -> M,
) -> Result<(Vec<M>, String), Status> {
    let all = wanted.size == 0;
    let mut left = match usize::try_from(wanted.size) {
        Ok(0) => usize::MAX,
        Ok(size) => size,
        Err(_negative) => return Err(Status::invalid_argument("page size must not be negative")),
    };
    let mut after = Some(wanted.token.to_owned()).filter(|token| !token.is_empty());
    let (mut page, mut bytes) = (Vec::new(), 0);
    loop {
        // Some at a time: the registry is not held while they are encoded, and never more are taken than fit.
        let (found, next) = rows(left.min(CHUNK), after.as_deref());
        for row in &found {
            let message = out(row);
            bytes += message.encoded_len() + FRAME;
            if bytes > MAX_BYTES && !page.is_empty() {
                return match all {
                    true => Err(Status::resource_exhausted(TOO_MUCH)),
                    false => Ok((page, after.unwrap_or_default())),
                };
            }
            page.push(message);
            after = Some(key(row).to_owned());
        }
        left -= found.len().min(left);
        match next {
            Some(_) if left > 0 => {}
            next => return Ok((page, next.unwrap_or_default())),
        }
    }
}

const CHUNK: usize = 512;
/// gRPC clients take 4 MiB in one message unless they are told otherwise.
const MAX_BYTES: usize = 4 * 1024 * 1024 - 64 * 1024;
/// Tag and length of a row.
const FRAME: usize = 6;
const TOO_MUCH: &str =
    "all of it is more than one message holds: ask for pages, with page_size and then page_token";

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use landfast_proto::spire::api::server::entry::v1::{ListEntriesRequest, entry_client::EntryClient};
    use landfast_proto::spire::api::types;
    use tonic::Code;

    use super::*;
    use crate::server::rig::Rig;

    /// Of this many rows of so many bytes: the pages of a client, and the most that was taken from the list at once.
    fn read(rows: usize, bytes: usize, size: i32) -> Result<(Vec<Vec<String>>, usize), Status> {
        let keys: Vec<String> = (0..rows).map(|n| format!("k{n:06}")).collect();
        let most = Cell::new(0);
        let fetch = |size: usize, after: Option<&str>| {
            most.set(most.get().max(size));
            let from = after.map_or(0, |after| keys.partition_point(|key| key.as_str() <= after));
            let found: Vec<&String> = keys[from..].iter().take(size).collect();
            let more = from + found.len() < keys.len();
            let next = found.last().filter(|_| more).map(|key| (*key).clone());
            (found, next)
        };
        let out = |key: &&String| types::Entry {
            id: (*key).clone(),
            hint: "x".repeat(bytes),
            ..Default::default()
        };
        let (mut pages, mut token) = (Vec::new(), String::new());
        loop {
            let wanted = Wanted { size, token: &token };
            let (found, next) = page(wanted, fetch, |key| key, out)?;
            let encoded: usize = found.iter().map(|entry| entry.encoded_len() + FRAME).sum();
            assert!(encoded <= 4 * 1024 * 1024 || found.len() == 1);
            pages.push(found.into_iter().map(|entry| entry.id).collect());
            token = next;
            if token.is_empty() {
                let all: Vec<String> = pages.iter().flatten().cloned().collect();
                assert_eq!(all, keys, "each once, in order");
                return Ok((pages, most.get()));
            }
        }
    }

    fn sizes(rows: usize, bytes: usize, size: i32) -> Vec<usize> {
        let (pages, most) = read(rows, bytes, size).unwrap();
        assert!(most <= CHUNK);
        pages.iter().map(Vec::len).collect()
    }

    #[test]
    fn a_page_has_what_was_asked_for_when_it_fits() {
        assert_eq!(sizes(0, 1, 0), [0]);
        assert_eq!(sizes(7, 1, 0), [7]);
        assert_eq!(sizes(7, 1, 3), [3, 3, 1]);
        assert_eq!(
            sizes(6, 1, 3),
            [3, 3],
            "a last page that is full has nothing after it"
        );
        assert_eq!(sizes(1500, 1, 1024), [1024, 476]);
        assert_eq!(sizes(1500, 1, i32::MAX), [1500]);
        assert_eq!(sizes(1500, 1, 0), [1500]);
    }

    #[test]
    fn a_page_that_would_not_fit_is_shorter_and_nothing_is_lost() {
        let pages = sizes(10_000, 1000, i32::MAX);
        assert!(pages.len() == 3 && pages[0] > 4000, "{pages:?}");
        assert_eq!(sizes(3, 5 * 1024 * 1024, 10), [1, 1, 1], "one is always given");
    }

    #[test]
    fn who_asks_for_all_gets_all_or_nothing() {
        let refused = read(10_000, 1000, 0).unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.message().contains("page_size"));
        assert_eq!(sizes(4000, 1000, 0), [4000], "the control");
        assert_eq!(read(1, 1, -1).unwrap_err().code(), Code::InvalidArgument);
    }

    /// Four entries of two MB, in pages of a hundred, and all at once.
    #[tokio::test]
    async fn a_client_with_the_usual_limit_can_read_every_list() {
        let rig = Rig::new().await;
        let node = rig.node().await;
        for n in 0..4 {
            let selector = |m: usize| types::Selector {
                r#type: "k".to_owned(),
                value: format!("{n}-{m}-{}", "x".repeat(8000)),
            };
            let large = |entry: &mut types::Entry| entry.selectors = (0..256).map(selector).collect();
            rig.entry(&node.id, &format!("/large{n}"), large).await;
        }
        let mut client = EntryClient::new(rig.admin().await);
        let mut ask = async |page_size, page_token| {
            let request = ListEntriesRequest {
                page_size,
                page_token,
                ..Default::default()
            };
            client
                .list_entries(request)
                .await
                .map(tonic::Response::into_inner)
        };
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            let answer = ask(100, token).await.unwrap();
            assert_eq!(answer.entries.len(), 2);
            found.extend(answer.entries.into_iter().map(|entry| entry.id));
            token = answer.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert!(found.len() == 4 && found.is_sorted(), "{found:?}");
        let refused = ask(0, String::new()).await.unwrap_err();
        assert_eq!(
            (refused.code(), refused.message()),
            (Code::ResourceExhausted, TOO_MUCH)
        );
        let rest = ask(0, found[1].clone()).await.unwrap();
        assert_eq!(rest.entries.len(), 2, "what is left fits");
        rig.tear_down().await;
    }
}
