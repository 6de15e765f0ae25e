//! Who failed before anybody knew who it was: counted by source, one record a minute each. Invariant: a stranger cannot make more than
//! [`MOST_SOURCES`] records a minute, whatever it does; what is more is counted together.

mod refused;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use landfast_audit::{Actor, ActorClass, Category, Decision, Outcome, Record};
use landfast_identity::UnixTime;
use tokio::time::{Duration, Instant};

use super::records::at;
use refused::Refused;

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failure {
    /// A TLS connection did not begin.
    Connection,
    /// A node was not let in by its evidence.
    Attestation,
    /// A method was called without a certificate.
    Call,
    /// A person was not let in, and by no login that is anybody's.
    Login,
}

/// Since the last minute was told.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<Minute>);

#[derive(Debug, Default)]
struct Minute {
    began: Option<Instant>,
    counts: BTreeMap<(Failure, Source), Count>,
    /// Those who are known.
    refused: Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Of(IpAddr),
    /// All those for whom there was no room.
    Others,
}

#[derive(Clone, Debug)]
struct Count {
    times: u64,
    first: Option<UnixTime>,
    /// Of the first.
    reason: String,
}

impl Failures {
    pub(super) fn count(&self, now: Option<UnixTime>, failure: Failure, source: IpAddr, reason: &str) {
        let mut minute = self.minute();
        minute.began.get_or_insert_with(Instant::now);
        let of = (failure, Source::Of(source.to_canonical()));
        let has_room = minute.counts.len() < MOST_SOURCES || minute.counts.contains_key(&of);
        let key = if has_room { of } else { (failure, Source::Others) };
        let count = minute.counts.entry(key).or_insert_with(|| Count {
            times: 0,
            first: now,
            reason: reason.chars().take(MAX_REASON).collect(),
        });
        count.times += 1;
    }

    /// The records of a minute that is over; `at_once`: of this one as well.
    pub(super) fn due(&self, now: Option<UnixTime>, at_once: bool) -> Vec<Record> {
        let mut minute = self.minute();
        let is_over = minute.began.is_some_and(|began| began.elapsed() >= MINUTE);
        if !is_over && !at_once {
            return Vec::new();
        }
        let minute = std::mem::take(&mut *minute);
        let counts = minute.counts.into_iter();
        let counts = counts.map(|((failure, source), count)| record(now, failure, source, count));
        counts.chain(minute.refused.more(now)).collect()
    }

    fn minute(&self) -> MutexGuard<'_, Minute> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn record(now: Option<UnixTime>, failure: Failure, source: Source, count: Count) -> Record {
    let kind = match failure {
        Failure::Connection => "connection.failed",
        Failure::Attestation => "attestation.failed",
        Failure::Call => "call.failed",
        Failure::Login => "login.failed",
    };
    let source = match source {
        Source::Of(address) => address.to_string(),
        Source::Others => "others".to_owned(),
    };
    let actor = Actor::new(ActorClass::Unknown, None).known_by("address", source);
    let record = Record {
        decision: Decision::Deny,
        reason: Some(count.reason),
        result: Outcome::Refused,
        ..Record::new(Category::AccessControl, kind, actor)
    };
    let record = at(now, record).with("times", count.times);
    match count.first {
        Some(first) => record.with("since", first),
        None => record,
    }
}

/// Sources, of each kind of failure, that are told of by themselves in one minute; beside them one record of each kind for all others.
const MOST_SOURCES: usize = 64;
const MAX_REASON: usize = 256;
const MINUTE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use landfast_audit::Value;

    use super::*;

    fn address(n: u16) -> IpAddr {
        IpAddr::from([10, 0, n.to_be_bytes()[0], n.to_be_bytes()[1]])
    }

    fn times(record: &Record) -> u64 {
        match record.detail["times"] {
            Value::Number(times) => times,
            ref other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_has_one_record_a_minute_however_often_it_fails() {
        let failures = Failures::default();
        for n in 0..1000 {
            failures.count(None, Failure::Attestation, address(1), &format!("reason {n}"));
        }
        failures.count(None, Failure::Connection, address(1), "no certificate");
        assert_eq!(failures.due(None, false).len(), 0, "the minute is not over");
        tokio::time::advance(MINUTE).await;
        let told = failures.due(None, false);
        assert_eq!(told.len(), 2);
        let attested = told
            .iter()
            .find(|record| record.kind == "attestation.failed")
            .unwrap();
        assert_eq!(times(attested), 1000);
        assert_eq!(attested.reason.as_deref(), Some("reason 0"));
        assert_eq!(attested.decision, Decision::Deny);
        assert_eq!(failures.due(None, true).len(), 0, "once");
    }

    #[test]
    fn many_sources_make_a_bounded_number_of_records_and_none_is_uncounted() {
        let failures = Failures::default();
        for n in 0..5000 {
            failures.count(None, Failure::Attestation, address(n), "no");
            failures.count(None, Failure::Connection, address(n), "no");
        }
        let told = failures.due(None, true);
        assert!(told.len() <= MOST_SOURCES + 2, "{}", told.len());
        assert_eq!(told.iter().map(times).sum::<u64>(), 10_000);
    }
}
