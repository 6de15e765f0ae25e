//! Who is known and was refused. Invariant: one caller makes at most [`MOST_TOLD`] records a minute by it and one that counts the rest, however often
//! it tries; there are records of [`MOST_CALLERS`] callers, and one for all others. Nobody waits for them.

use std::collections::BTreeMap;

use landfast_audit::{Actor, ActorClass, Decision, Outcome, Record};
use landfast_identity::UnixTime;
use tokio::time::Instant;

use super::Failures;
use crate::ledger::{Ledger, at};

/// Since the last minute was told.
#[derive(Debug, Default)]
pub(super) struct Refused {
    callers: BTreeMap<String, Told>,
    others: Option<More>,
}

#[derive(Debug, Default)]
struct Told {
    times: u64,
    more: Option<More>,
}

/// What has no record of its own.
#[derive(Debug)]
struct More {
    times: u64,
    first: Record,
}

impl Refused {
    /// The record, when it is to be written by itself.
    fn take(&mut self, record: Record) -> Option<Record> {
        let caller = caller(&record.actor);
        if !self.callers.contains_key(&caller) && self.callers.len() >= MOST_CALLERS {
            let nobody = Record {
                actor: Actor::new(ActorClass::Unknown, None),
                ..record
            };
            count(&mut self.others, nobody);
            return None;
        }
        let told = self.callers.entry(caller).or_default();
        told.times += 1;
        if told.times <= MOST_TOLD {
            return Some(record);
        }
        count(&mut told.more, record);
        None
    }

    /// The rest of a minute that is over.
    pub(super) fn more(self, now: Option<UnixTime>) -> impl Iterator<Item = Record> {
        let more = self.callers.into_values().filter_map(|told| told.more);
        more.chain(self.others).map(move |more| {
            let since = more.first.time;
            let record = at(now, more.first).with("times", more.times);
            match since {
                Some(since) => record.with("since", since),
                None => record,
            }
        })
    }
}

fn count(more: &mut Option<More>, record: Record) {
    let more = more.get_or_insert(More {
        times: 0,
        first: record,
    });
    more.times += 1;
}

/// Whoever starts program after program is one caller.
fn caller(actor: &Actor) -> String {
    let how = actor.how.iter().filter(|(name, _)| **name != "pid");
    format!("{:?} {:?} {:?}", actor.class, actor.id, how.collect::<Vec<_>>())
}

impl Failures {
    fn refused(&self, record: Record) -> Option<Record> {
        let mut minute = self.minute();
        minute.began.get_or_insert_with(Instant::now);
        minute.refused.take(record)
    }
}

impl Ledger {
    /// Records that somebody who is known was refused, with the reason that the record has; what is too much of one caller is counted.
    pub(crate) fn refused(&self, record: Record) {
        let Some(inner) = &self.0 else { return };
        let record = Record {
            decision: Decision::Deny,
            result: Outcome::Refused,
            ..at(inner.clock.now(), record)
        };
        if let Some(record) = inner.failures.refused(record) {
            self.note(record);
        }
    }
}

const MOST_CALLERS: usize = 64;
const MOST_TOLD: u64 = 16;

#[cfg(test)]
mod tests {
    use landfast_audit::{Category, Value};

    use super::*;

    fn by(uid: u64, pid: u64) -> Record {
        let actor = Actor::new(ActorClass::Unknown, None);
        let actor = actor.known_by("uid", uid).known_by("pid", pid);
        Record::new(Category::AccessControl, "operator.denied", actor).because("no role")
    }

    fn times(record: &Record) -> u64 {
        match record.detail.get("times") {
            Some(Value::Number(times)) => *times,
            None => 1,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_caller_makes_a_bounded_number_of_records_and_none_is_uncounted() {
        let failures = Failures::default();
        let told: Vec<_> = (0..1000).filter_map(|pid| failures.refused(by(7, pid))).collect();
        assert_eq!(told.len() as u64, MOST_TOLD);
        assert!(failures.refused(by(8, 1)).is_some(), "another caller");
        let rest = failures.due(None, true);
        assert_eq!(rest.len(), 1);
        assert_eq!(times(&rest[0]), 1000 - MOST_TOLD);
        assert_eq!(rest[0].reason.as_deref(), Some("no role"));
        assert!(failures.due(None, true).is_empty(), "once");
        assert!(failures.refused(by(7, 1)).is_some(), "the next minute");
    }

    #[test]
    fn so_do_many_callers() {
        let failures = Failures::default();
        let told = (0..5000).filter_map(|uid| failures.refused(by(uid, 1))).count();
        assert_eq!(told, MOST_CALLERS);
        let rest = failures.due(None, true);
        assert_eq!(rest.iter().map(times).sum::<u64>(), 5000 - MOST_CALLERS as u64);
        assert_eq!((rest.len(), &rest[0].actor.how), (1, &BTreeMap::new()));
    }
}
