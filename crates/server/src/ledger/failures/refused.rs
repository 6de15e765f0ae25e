//! Who is known and was refused. Invariant: whatever is tried, and however often, one kind of refusal makes at most [`MOST_WRITTEN`] records a minute by
//! itself; what is more is counted by caller and method, so that nobody hides one try behind others. There are counts of [`MOST_CALLERS`] callers of each
//! kind, and one for all others. Nobody waits for them.

use std::collections::BTreeMap;

use landfast_audit::{Actor, ActorClass, Decision, Outcome, Record, Value};
use landfast_identity::UnixTime;
use tokio::time::Instant;

use super::Failures;
use crate::ledger::{Ledger, at};

/// Since the last minute was told: by type of record, so that machines take no room from operators.
#[derive(Debug, Default)]
pub(super) struct Refused(BTreeMap<&'static str, OfOneKind>);

#[derive(Debug, Default)]
struct OfOneKind {
    written: u64,
    callers: BTreeMap<String, BTreeMap<String, Told>>,
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
    /// The record, when it is to be written by itself; `sparing`: none is.
    fn take(&mut self, record: Record, sparing: bool) -> Option<Record> {
        let of_it = self.0.entry(record.kind).or_default();
        let caller = caller(&record.actor);
        if !of_it.callers.contains_key(&caller) && of_it.callers.len() >= MOST_CALLERS {
            let nobody = Record {
                actor: Actor::new(ActorClass::Unknown, None),
                ..record
            };
            count(&mut of_it.others, nobody);
            return None;
        }
        let methods = of_it.callers.entry(caller).or_default();
        let method = match record.detail.get("method") {
            Some(Value::Text(method)) if methods.len() < MOST_METHODS || methods.contains_key(method) => {
                method.clone()
            }
            _ => String::new(),
        };
        let told = methods.entry(method).or_default();
        told.times += 1;
        if told.times <= MOST_TOLD && of_it.written < MOST_WRITTEN && !sparing {
            of_it.written += 1;
            return Some(record);
        }
        count(&mut told.more, record);
        None
    }

    /// The rest of a minute that is over.
    pub(super) fn more(self, now: Option<UnixTime>) -> impl Iterator<Item = Record> {
        let each = self.0.into_values().flat_map(|of_it| {
            let told = of_it.callers.into_values().flat_map(BTreeMap::into_values);
            told.filter_map(|told| told.more).chain(of_it.others)
        });
        each.map(move |more| {
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
    fn refused(&self, record: Record, sparing: bool) -> Option<Record> {
        let mut minute = self.minute();
        minute.began.get_or_insert_with(Instant::now);
        minute.refused.take(record, sparing)
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
        if let Some(record) = inner.failures.refused(record, self.is_nearly_full()) {
            self.note(record);
        }
    }
}

const MOST_CALLERS: usize = 64;
/// Of one caller; all others count as one.
const MOST_METHODS: usize = 32;
/// Of one caller and method.
const MOST_TOLD: u64 = 16;
const MOST_WRITTEN: u64 = 256;

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
        let told: Vec<_> = (0..1000)
            .filter_map(|pid| failures.refused(by(7, pid), false))
            .collect();
        assert_eq!(told.len() as u64, MOST_TOLD);
        assert!(failures.refused(by(8, 1), false).is_some(), "another caller");
        let rest = failures.due(None, true);
        assert_eq!(rest.len(), 1);
        assert_eq!(times(&rest[0]), 1000 - MOST_TOLD);
        assert_eq!(rest[0].reason.as_deref(), Some("no role"));
        assert!(failures.due(None, true).is_empty(), "once");
        assert!(failures.refused(by(7, 1), false).is_some(), "the next minute");
    }

    #[test]
    fn so_do_many_callers() {
        let failures = Failures::default();
        let told = (0..5000)
            .filter_map(|uid| failures.refused(by(uid, 1), false))
            .count();
        assert_eq!(told, MOST_CALLERS);
        let rest = failures.due(None, true);
        assert_eq!(rest.iter().map(times).sum::<u64>(), 5000 - MOST_CALLERS as u64);
        assert_eq!((rest.len(), &rest[0].actor.how), (1, &BTreeMap::new()));
    }

    #[test]
    fn no_try_is_hidden_behind_others_and_machines_take_no_room_from_operators() {
        let failures = Failures::default();
        let of = |kind: &'static str, uid: u64, method: &str| Record {
            kind,
            ..by(uid, 1).with("method", method)
        };
        for uid in 0..200 {
            failures.refused(of("call.denied", uid, "/x"), false);
        }
        for _ in 0..100 {
            failures.refused(of("operator.denied", 7, "/list"), false);
        }
        let confirmed = failures.refused(of("operator.denied", 7, "/confirm"), false);
        assert!(confirmed.is_some(), "by itself");
        // While the ledger fills up it is counted, and by itself too.
        assert!(
            failures
                .refused(of("operator.denied", 7, "/confirm"), true)
                .is_none()
        );
        let rest = failures.due(None, true);
        let methods: Vec<_> = rest
            .iter()
            .filter(|record| record.kind == "operator.denied")
            .map(|record| (record.detail["method"].clone(), times(record)))
            .collect();
        let text = |text: &str| Value::Text(text.to_owned());
        assert_eq!(methods, [(text("/confirm"), 1), (text("/list"), 100 - MOST_TOLD)]);
    }
}
