//! Several servers that want the same at once: exactly one has it. The histories are checked whole: what was answered, what is stored, what every
//! server heard.

use std::collections::BTreeMap;

use super::*;
use crate::authority::{Journal, Slot};
use crate::core::fixture::{DAY, id};
use crate::datastore::conformance::authority;
use crate::datastore::{Change, NewToken, Redemption};
use crate::registry::TokenError;

/// The servers, and each one's ear.
async fn servers(cluster: &Cluster) -> Vec<(PostgresDatastore, Arc<Ear>)> {
    let mut servers = Vec::new();
    for n in 0..SERVERS {
        let db = cluster.open(&format!("s{n}")).await;
        let ear = Ear::on(&db).await;
        servers.push((db, ear));
    }
    servers
}

/// Whose commit it was, by the mark of it.
const BY: &str = "JOIN servers s ON m.mark LIKE s.boot || '-%'";

fn pairs(rows: &str) -> Vec<(String, String)> {
    let pair = |row: &str| {
        let (one, other) = row.split_once('|').unwrap();
        (one.to_owned(), other.to_owned())
    };
    rows.lines().map(pair).collect()
}

fn hash(token: usize) -> [u8; 32] {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&token.to_be_bytes());
    hash
}

/// Each server asks with a key of its own, twice: that is what an agent does which has had no answer.
fn redemption(token: usize, server: usize, attempt: usize) -> Redemption {
    Redemption {
        hash: hash(token),
        key_hash: [u8::try_from(server).unwrap(); 32],
        agent_id: id(&format!("/spire/agent/join_token/t{token}")),
        alias_entry_id: format!("alias-{token}-{server}-{attempt}"),
        now: START,
        retry_window: DAY,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_redeemed_once_by_four_servers_in_thousands_of_attempts() {
    let cluster = Cluster::start();
    let servers = servers(&cluster).await;
    let create = (0..TOKENS).map(|n| {
        servers[0].0.create_token(NewToken {
            hash: hash(n),
            expires_at: START.saturating_add(DAY),
            alias: Some(id("/gateway")),
        })
    });
    for made in futures_util::future::join_all(create).await {
        made.unwrap();
    }
    // Who was answered that his was the first use, by token.
    let winners = Mutex::new(BTreeMap::new());
    let lane = async |lane: usize| {
        for token in (lane..TOKENS).step_by(LANES) {
            let all = (0..SERVERS).flat_map(|server| [(server, 0), (server, 1)]);
            let all = all.map(|(server, attempt)| {
                let redeem = servers[server].0.redeem_token(redemption(token, server, attempt));
                async move { (server, attempt, redeem.await) }
            });
            let all = futures_util::future::join_all(all).await;
            let first = all.iter().filter(|(.., r)| r.as_ref().is_ok_and(|r| r.first));
            let first: Vec<_> = first.map(|(server, attempt, _)| (*server, *attempt)).collect();
            assert_eq!(first.len(), 1, "token {token}: {all:?}");
            for (server, _, answer) in &all {
                match *server == first[0].0 {
                    true => assert!(answer.is_ok(), "the same key again: {answer:?}"),
                    false => assert!(matches!(answer, Err(TokenError::Used)), "{answer:?}"),
                }
            }
            winners.lock().unwrap().insert(token, first[0]);
        }
    };
    futures_util::future::join_all((0..LANES).map(lane)).await;
    let winners = winners.into_inner().unwrap();
    assert_eq!(winners.len(), TOKENS);
    // What is stored: the winner's key, and one alias, made by the server that has answered so.
    let stored = "SELECT encode(hash, 'hex'), encode(redeemed_key, 'hex') FROM join_tokens ORDER BY hash";
    let expected = winners.iter().map(|(token, (server, _))| {
        let key = [u8::try_from(*server).unwrap(); 32];
        (random::hex(&hash(*token)), random::hex(&key))
    });
    assert_eq!(pairs(&cluster.sql(stored)), expected.collect::<Vec<_>>());
    let mut made = pairs(&cluster.sql(&format!("SELECT m.object, s.id FROM changes m {BY}")));
    let mut expected: Vec<_> = winners
        .iter()
        .map(|(token, (server, attempt))| (format!("alias-{token}-{server}-{attempt}"), format!("s{server}")))
        .collect();
    made.sort();
    expected.sort();
    assert_eq!(made, expected);
    // What every server heard: each revision once, and none but those.
    for (_, ear) in &servers {
        ear.until(TOKENS as u64).await;
        ear.in_order();
        let mut heard: Vec<_> = ear
            .heard()
            .commits
            .iter()
            .map(|commit| match &commit.change {
                Change::PutEntry(entry) => entry.id.clone(),
                other => panic!("{other:?}"),
            })
            .collect();
        heard.sort();
        assert!(heard.iter().eq(expected.iter().map(|(alias, _)| alias)));
    }
}

/// Two tasks of each server want its slot, and all want the next version of the journal, which says who is in the bundle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_is_taken_by_one_at_a_time_in_thousands_of_attempts_and_no_change_is_lost() {
    let cluster = Cluster::start();
    let servers = servers(&cluster).await;
    // The server of each version, and the journal that it was answered.
    let history: Mutex<Vec<(usize, Journal)>> = Mutex::default();
    let attempts = Mutex::new(0_usize);
    let task = async |server: usize, task: usize| {
        let db = &servers[server].0;
        let mut won = 0;
        while won < TURNS {
            let version = db.journal().await.unwrap().version;
            let mine = authority(&format!("s{server}-{task}-{won}"), Slot::Prepared);
            *attempts.lock().unwrap() += 1;
            if let Some(journal) = db.save_journal(version, vec![mine.clone()]).await.unwrap() {
                assert_eq!(journal.version, version + 1);
                assert_eq!(ids(&journal.rows), [mine.id.as_str()]);
                history.lock().unwrap().push((server, journal));
                won += 1;
            }
        }
    };
    let all = (0..SERVERS * 2).map(|n| task(n / 2, n % 2));
    futures_util::future::join_all(all).await;
    let mut history = history.into_inner().unwrap();
    history.sort_by_key(|(_, journal)| journal.version);
    let versions: Vec<_> = history.iter().map(|(_, journal)| journal.version).collect();
    let all = (SERVERS * 2 * TURNS) as u64;
    assert_eq!(versions, (1..=all).collect::<Vec<_>>(), "each version was one's");
    // Each was made of what the one before it had left.
    let mut bundle: BTreeMap<usize, String> = BTreeMap::new();
    for (server, journal) in &history {
        bundle.insert(*server, journal.rows[0].id.clone());
        let mut others = ids(&journal.others);
        others.sort();
        let expected = bundle.iter().filter(|(other, _)| *other != server);
        let mut expected: Vec<_> = expected.map(|(_, id)| id.as_str()).collect();
        expected.sort();
        assert_eq!(others, expected, "version {}", journal.version);
        assert_eq!(journal.sequence, journal.version);
    }
    let attempts = attempts.into_inner().unwrap();
    assert!(
        attempts > history.len(),
        "{attempts}: nobody was in another's way"
    );
    // What is stored says the same of each version.
    let sql = format!("SELECT m.version, s.id FROM journal_changes m {BY} ORDER BY m.version");
    let stored = pairs(&cluster.sql(&sql));
    let expected = history
        .iter()
        .map(|(server, journal)| (journal.version.to_string(), format!("s{server}")));
    assert_eq!(stored, expected.collect::<Vec<_>>());
    let taken = "DO $$ BEGIN INSERT INTO authorities SELECT 'twin', server, place, kind, slot, 'twin', certificate, chain, root, public_key, \
        created_at, activated_at, not_before, not_after, last_svid_ends, tainted FROM authorities LIMIT 1; RAISE 'a slot was taken twice'; \
        EXCEPTION WHEN unique_violation THEN NULL; END $$";
    cluster.sql(taken);
}

fn ids(rows: &[crate::authority::AuthorityRow]) -> Vec<&str> {
    rows.iter().map(|row| row.id.as_str()).collect()
}

const SERVERS: usize = 4;
/// Each is asked for eight times.
const TOKENS: usize = 500;
const LANES: usize = 25;
/// Of each of the tasks, two a server: no more in all than marks are kept.
const TURNS: usize = 100;
