//! A power cut takes what of the last batch was not on the disk: any part of it.

use super::rig::{self, Rig};
use crate::log::LogError;

/// Two batches in the tail, the second being the last one written.
fn rig() -> (Rig, Vec<u8>, usize) {
    let rig = Rig::new();
    let mut log = rig.begin();
    log.append(&rig::records(0, 2)).unwrap();
    log.checkpoint().unwrap();
    log.append(&rig::records(2, 2)).unwrap();
    let first = std::fs::read(rig.path("tail.2")).unwrap().len();
    log.append(&rig::records(4, 3)).unwrap();
    let bytes = std::fs::read(rig.path("tail.2")).unwrap();
    (rig, bytes, first)
}

#[test]
fn a_torn_batch_is_cut_back_to_its_last_whole_record_and_told() {
    let (rig, bytes, first) = rig();
    for length in first..=bytes.len() {
        let cut = rig.copy();
        cut.put("tail.2", &bytes[..length]);
        let (log, recovered) = cut.open().unwrap();
        let whole = bytes[..length].iter().filter(|byte| **byte == b'\n').count() as u64;
        let left = length - bytes[..length].iter().rposition(|byte| *byte == b'\n').unwrap() - 1;
        assert_eq!(
            (recovered.records, recovered.cut),
            (whole, left as u64),
            "{length}"
        );
        assert_eq!(log.size(), 2 + whole);
        cut.assert_holds(2 + whole);
        assert!(cut.verify(&[rig.checkpoint()]).is_good());
    }
}

#[test]
fn a_batch_of_which_the_end_was_written_first_is_cut_off_too() {
    let (rig, bytes, first) = rig();
    for hole in first..bytes.len() {
        let (cut, mut torn) = (rig.copy(), bytes.clone());
        torn[hole..].iter_mut().take(40).for_each(|byte| *byte = 0);
        cut.put("tail.2", &torn);
        let (log, recovered) = cut.open().unwrap();
        assert!(log.size() >= 4 && recovered.cut > 0, "{hole}");
        cut.assert_holds(4);
        assert!(cut.verify(&[]).is_good());
    }
}

#[test]
fn a_change_before_the_last_batch_is_no_power_cut() {
    let (rig, bytes, first) = rig();
    for at in 0..first {
        let (changed, mut torn) = (rig.copy(), bytes.clone());
        torn[at] ^= 1;
        changed.put("tail.2", &torn);
        assert!(matches!(changed.open(), Err(LogError::Damaged { .. })), "{at}");
    }
    // Nor is a record that is gone from between.
    let gone = rig.copy();
    let line = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    gone.put("tail.2", &bytes[line..]);
    assert!(matches!(gone.open(), Err(LogError::Damaged { .. })));
}

#[test]
fn a_batch_that_was_refused_never_takes_the_place_of_one_that_was_acknowledged() {
    let rig = Rig::new();
    let mut log = rig.begin();
    log.append(&rig::records(0, 2)).unwrap();
    let refused = rig.copy();
    // In the old tail stands, whole, what was refused; it could not be removed; the next tail begins at the same number.
    let mut other = refused.open().unwrap().0;
    other.append(&rig::records(77, 1)).unwrap();
    let stale = std::fs::read(refused.path("tail.2")).unwrap();
    let tail = [std::fs::read(rig.path("tail.0")).unwrap(), stale].concat();
    log.checkpoint().unwrap();
    log.append(&rig::records(2, 1)).unwrap();
    drop(log);
    rig.put("tail.0", &tail);
    rig.open().unwrap();
    rig.assert_holds(3);
}
