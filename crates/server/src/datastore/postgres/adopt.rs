//! Takes over what another database holds. Invariant: all of it in one transaction, into a database in which nothing was ever stored; it is
//! counted before it is committed.

use std::rc::Rc;
use std::time::Duration;

use landfast_identity::{TrustDomain, UnixTime};

use super::link::Link;
use super::position::Position;
use super::tx::Tx;
use super::{
    Identity, PostgresConfig, above, appended, authorities, chain, migrate, people, records, recoveries, text,
};
use crate::datastore::rows::{Source, Value};
use crate::datastore::{DatastoreError, OpenError, Snapshot, bundle_text};
use crate::issuance::IssuanceRecord;
use crate::random;

/// How much was taken over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Taken {
    pub(crate) epoch: i64,
    pub(crate) entries: usize,
    pub(crate) agents: usize,
    pub(crate) tokens: usize,
    pub(crate) records: usize,
}

/// Does it, for the server of this name. The epoch is `now` at least, and greater than that of the source.
pub(crate) async fn adopt(
    target: &PostgresConfig,
    trust_domain: &TrustDomain,
    server: String,
    source: &dyn Source,
    now: UnixTime,
) -> Result<Taken, OpenError> {
    let shown = target.shown();
    let refused = |source| migrate::refused(&shown, source);
    let boot = random::hex_id().ok_or_else(|| refused(DatastoreError::Stopped))?;
    let identity = Identity {
        trust_domain: trust_domain.clone(),
        server,
        boot,
    };
    let mut link = Link::connect(target).await.map_err(refused)?;
    let session = Rc::clone(&link.session);
    let work = async {
        session.batch(PATIENT).await?;
        let done = migrate::run(&session, &shown, &identity, false, migrate::MIGRATIONS).await;
        if let Err(error) = done {
            return Ok(Err(error));
        }
        let mut tx = Tx::new(Rc::clone(&session), identity);
        match fill(&mut tx, source, now).await {
            Ok(Some(taken)) => tx.batch("COMMIT").await.map(|()| Ok(taken)),
            Ok(None) => Ok(Err(OpenError::Used {
                database: shown.clone(),
            })),
            Err(error) => Err(error),
        }
    };
    // A transaction that is not committed ends with the link.
    link.run(LIMIT, work).await.map_err(refused)?
}

/// `None` when something was stored there before.
async fn fill(tx: &mut Tx, source: &dyn Source, now: UnixTime) -> Result<Option<Taken>, DatastoreError> {
    tx.begin(&Position::default()).await?;
    if tx.after.revision > 0 || tx.opt(STORED, &[]).await?.is_some() {
        return Ok(None);
    }
    let (snapshot, journal) = (source.snapshot()?, source.journal()?);
    let revision = snapshot.revision.number.cast_signed();
    let epoch = snapshot
        .revision
        .epoch
        .cast_signed()
        .saturating_add(1)
        .max(now.as_secs());
    registry(tx, source, &snapshot, revision).await?;
    let tokens = tokens(tx, source).await?;
    for (agent, heard_at, waiting, body) in source.recoveries()? {
        tx.execute(recoveries::PUT, &[&agent, &heard_at, &waiting, &body])
            .await?;
    }
    for (place, row) in (0_i64..).zip(&journal.rows) {
        authorities::put(tx, place, row).await?;
        let ends = row.last_svid_ends.map(UnixTime::as_secs);
        tx.execute(LAST_END, &[&row.id, &ends]).await?;
    }
    for row in &journal.appended {
        appended::put(tx, row).await?;
    }
    above::replace(tx, &journal.above).await?;
    for step in source.steps()? {
        chain::put(tx, &step).await?;
    }
    let records = records(tx, source).await?;
    let mark = format!("{}-adopted", tx.server());
    let (version, sequence) = (journal.version.cast_signed(), journal.sequence.cast_signed());
    tx.execute(STATE, &[&epoch, &revision, &mark, &version, &sequence])
        .await?;
    let taken = Taken {
        epoch,
        entries: snapshot.entries.len(),
        agents: snapshot.agents.len(),
        tokens,
        records,
    };
    let row = tx.one(COUNT, &[]).await?;
    let count = |index| usize::try_from(row.get::<usize, i64>(index)).unwrap_or(usize::MAX);
    let found = [count(0), count(1), count(2), count(3), count(4)];
    match found == [taken.entries, taken.agents, tokens, records, journal.rows.len()] {
        true => Ok(Some(taken)),
        false => Err(super::row::damage(
            "state",
            "the database does not have what was written to it",
        )),
    }
}

async fn registry(
    tx: &mut Tx,
    source: &dyn Source,
    snapshot: &Snapshot,
    revision: i64,
) -> Result<(), DatastoreError> {
    for bundle in &snapshot.bundles {
        let body = bundle_text::encode(bundle)?;
        tx.execute(BUNDLE, &[&bundle.trust_domain().as_str(), &body, &revision])
            .await?;
    }
    for relationship in &snapshot.relationships {
        let body = text::relationship(relationship)?;
        tx.execute(
            RELATIONSHIP,
            &[&relationship.trust_domain.as_str(), &body, &revision],
        )
        .await?;
    }
    for person in &snapshot.people {
        people::put_person(tx, person, revision).await?;
    }
    for (reference, name) in source.person_names()? {
        people::put_name(tx, &reference, &name).await?;
    }
    for (id, body) in source.proposals()? {
        people::put_proposal(tx, &id, &body).await?;
    }
    for some in snapshot.entries.chunks(BATCH) {
        let (mut ids, mut likenesses, mut parents, mut selectors) = (vec![], vec![], vec![], vec![]);
        let (mut ends, mut makers, mut bodies, mut revisions) = (vec![], vec![], vec![], vec![]);
        let (mut federated, mut domains) = (vec![], vec![]);
        let (mut with_policy, mut policies, mut changed) = (vec![], vec![], vec![]);
        for versioned in some {
            let entry = &versioned.entry;
            ids.push(entry.id.as_str());
            likenesses.push(text::likeness(entry));
            parents.push(entry.parent_id.as_str());
            selectors.push(text::selectors(&entry.selectors));
            ends.push(entry.expires_at.map(UnixTime::as_secs));
            makers.push(source.created_by(&entry.id)?);
            bodies.push(text::entry(entry)?);
            revisions.push(versioned.revision.cast_signed());
            for domain in &entry.federates_with {
                federated.push(entry.id.as_str());
                domains.push(domain.as_str());
            }
            if let Some(policy) = &versioned.policy {
                with_policy.push(entry.id.as_str());
                policies.push(text::policy(policy)?);
                changed.push(policy.revision.cast_signed());
            }
        }
        let columns: super::link::Params<'_> = &[
            &ids,
            &likenesses,
            &parents,
            &selectors,
            &ends,
            &makers,
            &bodies,
            &revisions,
        ];
        tx.execute(ENTRIES, columns).await?;
        tx.execute(FEDERATES, &[&federated, &domains]).await?;
        tx.execute(POLICIES, &[&with_policy, &policies, &changed]).await?;
    }
    for some in snapshot.agents.chunks(BATCH) {
        let ids: Vec<_> = some.iter().map(|agent| agent.id.as_str()).collect();
        let bodies = some.iter().map(|agent| text::agent(agent));
        let bodies: Vec<_> = bodies.collect::<Result<_, _>>()?;
        tx.execute(AGENTS, &[&ids, &bodies, &revision]).await?;
    }
    Ok(())
}

async fn tokens(tx: &mut Tx, source: &dyn Source) -> Result<usize, DatastoreError> {
    let tokens = source.tokens()?;
    let blob = |value: &Value| match value {
        Value::Blob(bytes) => Some(bytes.clone()),
        _ => None,
    };
    let string = |value: &Value| match value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    };
    let number = |value: &Value| match value {
        Value::Integer(number) => Some(*number),
        _ => None,
    };
    for token in &tokens {
        let [hash, ends, alias, redeemed, key, agent, revoked] = token;
        let revoked = number(revoked) != Some(0);
        tx.execute(
            TOKEN,
            &[
                &blob(hash),
                &number(ends),
                &string(alias),
                &number(redeemed),
                &blob(key),
                &string(agent),
                &revoked,
            ],
        )
        .await?;
    }
    Ok(tokens.len())
}

async fn records(tx: &mut Tx, source: &dyn Source) -> Result<usize, DatastoreError> {
    let (mut after, mut count) = (i64::MIN, 0);
    loop {
        let some = source.records(after, LIMIT_RECORDS)?;
        let Some((last, _)) = some.last() else {
            return Ok(count);
        };
        after = *last;
        count += some.len();
        let some: Vec<&IssuanceRecord> = some.iter().map(|(_, record)| record).collect();
        records::insert(tx, &some).await?;
    }
}

const BATCH: usize = 500;
const LIMIT_RECORDS: i64 = 1000;
/// Millions of records take their time; nobody waits for this transaction.
const LIMIT: Duration = Duration::from_secs(6 * 3600);
const PATIENT: &str = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0";
const STORED: &str =
    "SELECT 1 FROM authorities UNION ALL SELECT 1 FROM entries UNION ALL SELECT 1 FROM agents LIMIT 1";
const BUNDLE: &str = "INSERT INTO federated_bundles (trust_domain, body, revision) VALUES ($1, $2, $3)";
const RELATIONSHIP: &str =
    "INSERT INTO federation_relationships (trust_domain, body, revision) VALUES ($1, $2, $3)";
const ENTRIES: &str = "INSERT INTO entries (id, likeness, parent_id, selectors, expires_at, created_by, body, revision) \
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::bigint[])";
const FEDERATES: &str =
    "INSERT INTO entry_federates (entry_id, trust_domain) SELECT * FROM unnest($1::text[], $2::text[])";
const POLICIES: &str = "INSERT INTO entry_policies (entry_id, body, revision) SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])";
const AGENTS: &str = "INSERT INTO agents (id, body, revision) SELECT a.id, a.body, $3::bigint FROM unnest($1::text[], $2::text[]) AS a (id, body)";
const TOKEN: &str = "INSERT INTO join_tokens (hash, expires_at, alias, redeemed_at, redeemed_key, agent_id, revoked) \
    VALUES ($1, $2, $3, $4, $5, $6, $7)";
const LAST_END: &str = "UPDATE authorities SET last_svid_ends = $2 WHERE id = $1";
const STATE: &str = "UPDATE state SET epoch = $1, revision = $2, mark = $3, journal_version = $4, journal_mark = $3, bundle_sequence = $5";
const COUNT: &str = "SELECT (SELECT count(*) FROM entries), (SELECT count(*) FROM agents), (SELECT count(*) FROM join_tokens), \
    (SELECT count(*) FROM issued), (SELECT count(*) FROM authorities)";
