//! How the database fares, for whoever watches. Invariant: a kind of trouble is shown from when it is met until what it was met by succeeds.

use std::time::Duration;

use crate::datastore::DatastoreError;

/// Something has failed.
pub(super) fn failed(error: &DatastoreError) {
    if let Some(kind) = kind(error) {
        set(kind, 1.0);
    }
}

/// A look has succeeded. What lasts all the same is `left`.
pub(super) fn read(left: Option<&DatastoreError>) {
    let left = left.and_then(kind);
    for kind in BY_READING {
        set(kind, f64::from(u8::from(left == Some(kind))));
    }
}

/// A transaction was committed, which takes a lock at least.
pub(super) fn wrote() {
    set(READ_ONLY, 0.0);
}

/// A probe has found room.
pub(super) fn room() {
    set(FULL, 0.0);
}

/// For how long the changes of others have not been read.
pub(super) fn age(age: Duration) {
    metrics::gauge!("landfast_server_database_feed_age_seconds").set(age.as_secs_f64());
}

/// Anew, after the connection of before was lost, or the first one of its kind.
pub(super) fn connected() {
    metrics::counter!("landfast_server_database_connections_total").increment(1);
}

fn set(kind: &'static str, value: f64) {
    metrics::gauge!("landfast_server_database_trouble", "kind" => kind).set(value);
}

fn kind(error: &DatastoreError) -> Option<&'static str> {
    match error {
        DatastoreError::NoSpace { .. } => Some(FULL),
        DatastoreError::ReadOnly => Some(READ_ONLY),
        DatastoreError::Unreachable { .. } => Some(UNREACHABLE),
        DatastoreError::WentBack { .. } | DatastoreError::JournalWentBack { .. } => Some(LOST),
        DatastoreError::Fenced => Some(FENCED),
        DatastoreError::NewerSchema { .. } => Some(NEWER),
        DatastoreError::Corrupt { .. } => Some(DAMAGED),
        _ => None,
    }
}

const FULL: &str = "full";
const READ_ONLY: &str = "read-only";
const UNREACHABLE: &str = "unreachable";
/// It has lost commits that this server knows.
const LOST: &str = "lost-history";
/// Another process writes in the name of this server.
const FENCED: &str = "fenced";
const NEWER: &str = "newer-schema";
const DAMAGED: &str = "damaged";
const BY_READING: [&str; 5] = [UNREACHABLE, LOST, FENCED, NEWER, DAMAGED];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};

    use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

    use super::*;

    /// What is shown now, by kind.
    #[derive(Default)]
    struct Shown(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

    impl Shown {
        fn kinds(&self) -> Vec<String> {
            let shown = self.0.lock().unwrap();
            let set = shown
                .iter()
                .filter(|(_, bits)| f64::from_bits(bits.load(Ordering::Relaxed)) > 0.5);
            set.map(|(kind, _)| kind.clone()).collect()
        }
    }

    impl Recorder for Shown {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
            Counter::noop()
        }
        fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
            assert_eq!(key.name(), "landfast_server_database_trouble");
            let kind = key.labels().next().unwrap().value().to_owned();
            let mut shown = self.0.lock().unwrap();
            Gauge::from_arc(Arc::clone(shown.entry(kind).or_default()))
        }
        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[test]
    fn each_kind_of_trouble_is_shown_until_what_it_was_met_by_succeeds() {
        let shown = Shown::default();
        let went_back = DatastoreError::WentBack { known: 2, found: 1 };
        let full = DatastoreError::NoSpace {
            source: Arc::new(DatastoreError::Behind),
        };
        metrics::with_local_recorder(&shown, || {
            read(None);
            wrote();
            room();
            assert_eq!(
                shown.0.lock().unwrap().len(),
                7,
                "all are there, for rules to ask for"
            );
            assert_eq!(shown.kinds(), [""; 0]);
            for error in [
                &went_back,
                &DatastoreError::ReadOnly,
                &DatastoreError::unreachable("x"),
                &DatastoreError::Behind,
            ] {
                failed(error);
            }
            assert_eq!(shown.kinds(), ["lost-history", "read-only", "unreachable"]);
            read(Some(&went_back));
            assert_eq!(shown.kinds(), ["lost-history", "read-only"]);
            wrote();
            read(None);
            assert_eq!(shown.kinds(), [""; 0]);
            failed(&full);
            wrote();
            read(None);
            assert_eq!(
                shown.kinds(),
                ["full"],
                "a commit that needed no new page says nothing"
            );
            room();
            assert_eq!(shown.kinds(), [""; 0]);
        });
    }
}
