//! The agent's metrics: names in one place. Those of the open connections are the Workload API's own.
//!
//! Invariant: no label is chosen by a peer, so the number of series is fixed.

use landfast_identity::UnixTime;
use landfast_lifecycle::TimeReport;
use landfast_lifecycle::island::Standing;

use crate::cache::CacheState;
use crate::keeper::state::Snapshot;
use crate::link::status::LinkStatus;
use crate::standing::Report;

/// Describes every metric once, at start.
pub(crate) fn describe() {
    use metrics::{describe_counter, describe_gauge};
    describe_gauge!(
        SINCE_SYNC,
        "Seconds since the last round of synchronisation with the server; -1 before the first."
    );
    describe_gauge!(
        LAST_SYNC,
        "Time of the last round of synchronisation, in seconds since 1970; 0 before the first."
    );
    describe_gauge!(
        EARLIEST,
        "When the first of the workload X.509-SVIDs expires, in seconds since 1970; 0 without any."
    );
    describe_gauge!(
        AGENT_EXPIRY,
        "When the node's own SVID expires, in seconds since 1970; 0 without one."
    );
    describe_gauge!(REACHABLE, "1 while the server answers.");
    describe_gauge!(
        SUBSCRIBED,
        "1 while the server tells this node of changes as they happen; 0 while the node asks."
    );
    describe_gauge!(
        REVISION,
        "The newest revision of the server's registry that this node has seen (its number, within the epoch)."
    );
    describe_counter!(STEPS, "Changes that were told on a subscription and adopted.");
    describe_counter!(
        MISSED,
        "Looks at the server that found what no subscription had told, so that everything was asked for anew."
    );
    describe_counter!(
        STALE,
        "Answers that were refused because they were older than what this node had seen."
    );
    describe_counter!(
        WALKS,
        "Walks of the bundle chain to authorities that the node had not known."
    );
    describe_gauge!(BANNED, "1 when the server has banned this node.");
    describe_gauge!(
        UNSAVED,
        "1 while the node's own state cannot be written to its data directory."
    );
    describe_gauge!(
        STANDING,
        "1 for how the node stands: connected, starting, degraded, islanded, exhausted; 0 for the others."
    );
    describe_gauge!(
        VALID_UNTIL,
        "When the last of the workload X.509-SVIDs held now expires, in seconds since 1970; 0 without any."
    );
    describe_gauge!(
        RESERVE_UNTIL,
        "When the first of the reserves is spent, in seconds since 1970; 0 without any."
    );
    describe_gauge!(
        TRUST_DEBT,
        "When the last X.509-SVID of a reserve ends, in seconds since 1970: until then a thief of it is believed; 0 without any."
    );
    describe_gauge!(
        JOURNAL_WAITING,
        "Records of the journal that no server has acknowledged yet."
    );
    describe_gauge!(
        JOURNAL_COUNTED,
        "Of those, records that are only counted, because the journal was full."
    );
    describe_gauge!(JOURNAL_FAILS, "1 while the journal cannot be read or written.");
    describe_gauge!(
        LEDGER_FORK,
        "1 when a server's ledger has contradicted what this node saw of it before."
    );
    describe_gauge!(
        LEDGER_UNWITNESSED,
        "1 when a server that had shown its ledger has shown nothing verifiable for a day of connection, or one more than this node keeps."
    );
    describe_gauge!(RUNGS, "X.509-SVIDs of reserves that are not over.");
    describe_gauge!(
        SHORT,
        "Entries whose reserve is by a quarter or more shorter than what is asked for."
    );
    describe_gauge!(
        CACHE_UNSAVED,
        "1 while something is wrong with the sealed cache: it could not be opened, or cannot be written."
    );
    describe_gauge!(
        HAND_OUTS_UNSAVED,
        "1 while it cannot be written down who is given what."
    );
    describe_counter!(
        UNWRITTEN,
        "Hand-outs that have no line in the record, because the disk did not take it or its user had more than his share, by reason (disk, rate)."
    );
    describe_gauge!(
        CLOCK_ERROR,
        "How wrong the machine's clock is, in seconds, as far as it is known: ahead, or, when negative, behind by at least that; 0 within the allowed skew."
    );
    describe_gauge!(
        ESTIMATED,
        "1 while the machine's clock does not count and the time is estimated."
    );
    describe_gauge!(ENTRIES, "Entries registered for this node.");
    describe_gauge!(SVIDS, "Workload X.509-SVIDs that are held and valid.");
    describe_gauge!(TOKENS, "JWT-SVIDs in the cache.");
    describe_counter!(
        RENEWALS,
        "SVIDs asked for, by kind (x509, rung, jwt, wit, agent) and result (ok, failed)."
    );
    describe_counter!(NODE_ATTESTATIONS, "Attestations of this node, by result.");
    describe_counter!(ATTESTATIONS, "Attestations of workloads, by result.");
}

/// Counts one SVID asked for.
pub(crate) fn renewal(kind: &'static str, ok: bool) {
    metrics::counter!(RENEWALS, "kind" => kind, "result" => result(ok)).increment(1);
}

/// Counts one attestation of the node.
pub(crate) fn attestation(ok: bool) {
    metrics::counter!(NODE_ATTESTATIONS, "result" => result(ok)).increment(1);
}

/// Counts one attestation of a workload.
pub(crate) fn workload_attestation(ok: bool) {
    metrics::counter!(ATTESTATIONS, "result" => result(ok)).increment(1);
}

/// Counts one step of a subscription.
pub(crate) fn step() {
    metrics::counter!(STEPS).increment(1);
}

/// Counts one walk of the bundle chain that led somewhere.
pub(crate) fn walked() {
    metrics::counter!(WALKS).increment(1);
}

/// Counts what a subscription should have told.
pub(crate) fn missed() {
    metrics::counter!(MISSED).increment(1);
}

/// Counts an answer that was too old.
pub(crate) fn stale() {
    metrics::counter!(STALE).increment(1);
}

/// Of the journal: what waits for a server, and what of it is only counted.
pub(crate) fn journal(waiting: u64, counted: u64) {
    metrics::gauge!(JOURNAL_WAITING).set(waiting as f64);
    metrics::gauge!(JOURNAL_COUNTED).set(counted as f64);
}

pub(crate) fn journal_fails(fails: bool) {
    metrics::gauge!(JOURNAL_FAILS).set(f64::from(u8::from(fails)));
}

/// Whether a ledger has contradicted what this node has seen of it.
pub(crate) fn ledger_fork(found: bool) {
    metrics::gauge!(LEDGER_FORK).set(f64::from(u8::from(found)));
}

/// Whether nothing was shown that could be held against what was seen.
pub(crate) fn ledger_unwitnessed(is_so: bool) {
    metrics::gauge!(LEDGER_UNWITNESSED).set(f64::from(u8::from(is_so)));
}

/// Counts a hand-out that has no line.
pub(crate) fn unwritten_hand_out(reason: &'static str) {
    metrics::counter!(UNWRITTEN, "reason" => reason).increment(1);
}

/// Whether the record of hand-outs can be written.
pub(crate) fn hand_outs_fail(fails: bool) {
    metrics::gauge!(HAND_OUTS_UNSAVED).set(f64::from(u8::from(fails)));
}

/// What the keeper holds.
pub(crate) fn held(snapshot: &Snapshot, now: UnixTime) {
    let valid = || {
        snapshot
            .entries
            .iter()
            .filter_map(|entry| snapshot.svid(entry, now))
    };
    let earliest = valid()
        .map(|held| held.svid.not_after().as_secs())
        .min()
        .unwrap_or(0);
    metrics::gauge!(EARLIEST).set(earliest as f64);
    metrics::gauge!(SVIDS).set(valid().count() as f64);
    metrics::gauge!(ENTRIES).set(snapshot.entries.len() as f64);
    metrics::gauge!(BANNED).set(f64::from(u8::from(snapshot.banned)));
}

/// Where the node stands with its server.
pub(crate) fn link(status: &LinkStatus, now: Option<UnixTime>) {
    metrics::gauge!(REACHABLE).set(f64::from(u8::from(status.reachable)));
    metrics::gauge!(AGENT_EXPIRY).set(status.agent_not_after.map_or(0, UnixTime::as_secs) as f64);
    let last_sync = status.synced_at(now);
    metrics::gauge!(LAST_SYNC).set(last_sync.map_or(0, UnixTime::as_secs) as f64);
    metrics::gauge!(SUBSCRIBED).set(f64::from(u8::from(status.subscribed_since.is_some())));
    metrics::gauge!(REVISION).set(status.newest.map_or(0, |newest| newest.number) as f64);
    metrics::gauge!(UNSAVED).set(f64::from(u8::from(!status.disk.is_empty())));
    let since = last_sync
        .zip(now)
        .map(|(last, now)| now.since(last).as_secs_f64());
    metrics::gauge!(SINCE_SYNC).set(since.unwrap_or(-1.0));
}

/// How the node stands, and its cache.
pub(crate) fn standing(report: &Report, cache: &CacheState) {
    for one in Standing::ALL {
        let is = u8::from(one == report.standing);
        metrics::gauge!(STANDING, "standing" => one.as_str()).set(f64::from(is));
    }
    let until = report.valid_until.map_or(0, UnixTime::as_secs);
    metrics::gauge!(VALID_UNTIL).set(until as f64);
    let secs = |time: Option<UnixTime>| time.map_or(0, UnixTime::as_secs) as f64;
    metrics::gauge!(RESERVE_UNTIL).set(secs(report.reserve.until));
    metrics::gauge!(TRUST_DEBT).set(secs(report.reserve.debt));
    metrics::gauge!(RUNGS).set(report.reserve.rungs as f64);
    metrics::gauge!(SHORT).set(report.reserve.short as f64);
    metrics::gauge!(CACHE_UNSAVED).set(f64::from(u8::from(!cache.complaint.is_empty())));
}

/// What the node goes by.
pub(crate) fn time(report: &TimeReport) {
    metrics::gauge!(CLOCK_ERROR).set(crate::time::wrong_by(report) as f64);
    if report.unsaved {
        metrics::gauge!(UNSAVED).set(1.0);
    }
    metrics::gauge!(ESTIMATED).set(f64::from(u8::from(report.judged.estimated)));
}

/// How many tokens are cached.
pub(crate) fn tokens(cached: usize) {
    metrics::gauge!(TOKENS).set(cached as f64);
}

fn result(ok: bool) -> &'static str {
    if ok { "ok" } else { "failed" }
}

const SINCE_SYNC: &str = "landfast_agent_seconds_since_last_sync";
const LAST_SYNC: &str = "landfast_agent_last_sync_timestamp_seconds";
const SUBSCRIBED: &str = "landfast_agent_subscribed";
const REVISION: &str = "landfast_agent_registry_revision";
const STEPS: &str = "landfast_agent_pushed_changes_total";
const WALKS: &str = "landfast_agent_chain_walks_total";
const MISSED: &str = "landfast_agent_missed_changes_total";
const STALE: &str = "landfast_agent_stale_answers_total";
const EARLIEST: &str = "landfast_agent_earliest_svid_expiry_timestamp_seconds";
const AGENT_EXPIRY: &str = "landfast_agent_own_svid_expiry_timestamp_seconds";
const REACHABLE: &str = "landfast_agent_server_reachable";
const BANNED: &str = "landfast_agent_banned";
const STANDING: &str = "landfast_agent_standing";
const VALID_UNTIL: &str = "landfast_agent_valid_until_timestamp_seconds";
const RESERVE_UNTIL: &str = "landfast_agent_reserve_until_timestamp_seconds";
const TRUST_DEBT: &str = "landfast_agent_trust_debt_until_timestamp_seconds";
const RUNGS: &str = "landfast_agent_reserve_x509_svids";
const SHORT: &str = "landfast_agent_reserves_short";
const CACHE_UNSAVED: &str = "landfast_agent_cache_unsaved";
const UNSAVED: &str = "landfast_agent_state_unsaved";
const HAND_OUTS_UNSAVED: &str = "landfast_agent_hand_outs_unsaved";
const UNWRITTEN: &str = "landfast_agent_unwritten_hand_outs_total";
const CLOCK_ERROR: &str = "landfast_agent_clock_error_seconds";
const ESTIMATED: &str = "landfast_agent_time_estimated";
const ENTRIES: &str = "landfast_agent_entries";
const SVIDS: &str = "landfast_agent_x509_svids";
const TOKENS: &str = "landfast_agent_jwt_svids_cached";
const RENEWALS: &str = "landfast_agent_svid_requests_total";
const NODE_ATTESTATIONS: &str = "landfast_agent_node_attestations_total";
const ATTESTATIONS: &str = "landfast_agent_workload_attestations_total";
const JOURNAL_WAITING: &str = "landfast_agent_journal_waiting_records";
const JOURNAL_COUNTED: &str = "landfast_agent_journal_counted_records";
const JOURNAL_FAILS: &str = "landfast_agent_journal_fails";
const LEDGER_FORK: &str = "landfast_agent_ledger_fork";
const LEDGER_UNWITNESSED: &str = "landfast_agent_ledger_unwitnessed";
