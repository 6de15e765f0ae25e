//! What a log is after disks that fail, processes that die and power that goes.

mod cuts;
mod dying;
pub(crate) mod rig;

use std::io::ErrorKind;

use landfast_store::faulty::{FaultyFiles, Script, Verb};

use super::*;
use rig::{Rig, record};

#[test]
fn what_is_acknowledged_is_there_when_it_is_opened_again() {
    let rig = Rig::new();
    let mut log = rig.begin();
    for batch in [1, 3, 255, 1, 600, 64] {
        let before = log.size();
        let committed = log.append(&rig::records(before, batch)).unwrap();
        assert_eq!(committed.records, before..before + batch);
        drop(log);
        let (again, recovered) = rig.open().unwrap();
        assert_eq!((again.size(), again.signed()), (before + batch, before + batch));
        assert_eq!(
            recovered,
            Recovered {
                records: batch,
                cut: 0,
                held: false
            }
        );
        rig.assert_holds(before + batch);
        log = again;
    }
}

#[test]
fn checkpoints_of_all_sizes_verify_and_continue_each_other() {
    let rig = Rig::new();
    let mut log = rig.begin();
    let mut kept = vec![rig.checkpoint()];
    for batch in [0, 1, 254, 1, 1, 255, 256, 3000, 62_000] {
        log.append(&rig::records(log.size(), batch)).unwrap();
        log.checkpoint().unwrap();
        kept.push(rig.checkpoint());
        assert_eq!(log.signed(), log.size());
    }
    let report = rig.verify(&kept);
    assert!(report.is_good(), "{:?}", report.findings);
    assert_eq!(
        (report.records, report.remembered),
        (log.size(), kept.len() as u64)
    );
    // 65 536 and more: three levels.
    assert!(rig.path("tile/2/000.p/1").exists());
    // What is full has no partial tiles; the last has those of each checkpoint.
    assert!(!rig.path("tile/0/000.p/1").exists());
    drop(log);
    assert_eq!(rig.open().unwrap().1, Recovered::default());
}

#[test]
fn partial_tiles_stay_until_the_full_one_is_there() {
    let rig = Rig::new();
    let mut log = rig.begin();
    for size in 1..=256 {
        log.append(&[record(size - 1)]).unwrap();
        log.checkpoint().unwrap();
        let partial = rig.path("tile/entries/000.p/1").exists();
        assert_eq!(partial, size < 256, "{size}");
    }
    assert!(rig.path("tile/1/000.p/1").exists());
    assert!(rig.verify(&[]).is_good());
}

#[test]
fn a_log_and_its_key_belong_together() {
    let rig = Rig::new();
    drop(rig.begin());
    // Of nothing: begun again with another key.
    let other = Rig::new();
    drop(Log::begin(rig.store(), other.key()).unwrap());
    let mut log = Log::open(rig.store(), other.key()).unwrap().0;
    log.append(&[record(0)]).unwrap();
    drop(log);
    assert!(matches!(
        Log::begin(rig.store(), rig.key()),
        Err(LogError::Exists { .. })
    ));
    assert!(matches!(
        Log::open(rig.store(), rig.key()),
        Err(LogError::Foreign { .. })
    ));
    std::fs::remove_file(rig.path("checkpoint")).unwrap();
    assert!(matches!(
        Log::open(rig.store(), other.key()),
        Err(LogError::Gone { .. })
    ));
    assert!(matches!(
        Log::begin(rig.store(), other.key()),
        Err(LogError::Exists { .. })
    ));
}

#[test]
fn a_checkpoint_that_its_tiles_do_not_add_up_to_is_not_gone_on_from() {
    for (file, what) in [("tile/0/000.p/3", "tile"), ("tile/entries/000.p/3", "records")] {
        let rig = Rig::new();
        let mut log = rig.begin();
        log.append(&rig::records(0, 3)).unwrap();
        log.checkpoint().unwrap();
        drop(log);
        let mut bytes = std::fs::read(rig.path(file)).unwrap();
        bytes[40] ^= 1;
        rig.put(file, &bytes);
        assert!(
            matches!(rig.open(), Err(LogError::Damaged { record: 0, .. })),
            "{what}"
        );
    }
}

/// Each call of each verb fails once, in a life of batches and checkpoints.
#[test]
fn a_disk_that_fails_once_costs_nothing_that_was_acknowledged() {
    let calls = {
        let (rig, script) = (Rig::new(), Script::default());
        live(&rig, &script);
        script.calls()
    };
    assert!(calls.len() > 80, "{}", calls.len());
    for verb in Verb::ALL {
        for count in 0..calls.iter().filter(|call| **call == verb).count() {
            let (rig, script) = (Rig::new(), Script::default());
            script.fail_after(verb, count, ErrorKind::StorageFull);
            let (acknowledged, kept) = live(&rig, &script);
            let (log, _) = rig.open().unwrap();
            rig.assert_holds_all(&acknowledged);
            let report = rig.verify(&kept);
            assert!(report.is_good(), "{verb:?} {count}: {:?}", report.findings);
            assert_eq!(report.remembered, kept.len() as u64, "{verb:?} {count}");
            drop(log);
        }
    }
}

/// And when it fails for good at some verb, all that was acknowledged before is there.
#[test]
fn a_disk_that_fails_for_good_refuses_and_forgets_nothing() {
    for verb in [
        Verb::Write,
        Verb::Sync,
        Verb::Rename,
        Verb::CreateTemp,
        Verb::SyncDir,
    ] {
        let (rig, script) = (Rig::new(), Script::default());
        drop(rig.begin());
        let (mut log, _) = rig.open_with(&script).unwrap();
        log.append(&rig::records(0, 5)).unwrap();
        log.checkpoint().unwrap();
        log.append(&rig::records(5, 5)).unwrap();
        script.break_down(verb, ErrorKind::StorageFull);
        for _ in 0..3 {
            let refused = log.append(&rig::records(log.size(), 5)).is_err();
            assert!(refused || matches!(verb, Verb::Rename | Verb::CreateTemp | Verb::SyncDir));
            assert!(log.checkpoint().is_err(), "{verb:?}");
        }
        let acknowledged = log.size();
        script.mend();
        log.append(&rig::records(log.size(), 1)).unwrap();
        log.checkpoint().unwrap();
        drop(log);
        rig.open().unwrap();
        rig.assert_holds(acknowledged + 1);
        assert!(rig.verify(&[]).is_good());
    }
}

/// A start in the gap: what was found is held, and what is added when there is room again stands behind it, also where the start found two tails.
#[test]
fn a_log_on_a_full_disk_is_opened_and_forgets_nothing_of_what_it_found() {
    for verb in [
        Verb::Write,
        Verb::CreateTemp,
        Verb::Sync,
        Verb::SyncDir,
        Verb::Remove,
    ] {
        for two_tails in [false, true] {
            let mut rig = Rig::new();
            let mut log = rig.begin();
            log.append(&rig::records(0, 300)).unwrap();
            log.checkpoint().unwrap();
            log.append(&rig::records(300, 250)).unwrap();
            drop(log);
            if two_tails {
                // As a checkpoint that was signed and did not reach the disk leaves it.
                let before = rig.copy();
                let (mut log, _) = rig.open().unwrap();
                log.append(&rig::records(550, 7)).unwrap();
                drop(log);
                before.put("tail.550", &std::fs::read(rig.path("tail.550")).unwrap());
                rig = before;
            }
            let found = if two_tails { 257 } else { 250 };
            let script = Script::default();
            script.break_down(verb, ErrorKind::StorageFull);
            let (mut log, recovered) = rig.open_with(&script).unwrap();
            assert_eq!((recovered.records, recovered.held), (found, true), "{verb:?}");
            assert_eq!(log.size(), 300 + found);
            if verb != Verb::Remove {
                log.append(&rig::records(300 + found, 5)).unwrap_err();
            }
            script.mend();
            log.append(&rig::records(300 + found, 5)).unwrap();
            // It dies before any checkpoint.
            drop(log);
            let (log, recovered) = rig.open().unwrap();
            rig.assert_holds(305 + found);
            assert_eq!((log.size(), recovered.held), (305 + found, false), "{verb:?}");
            assert!(rig.verify(&[]).is_good());
        }
    }
}

/// Gives what was acknowledged, as (sequence, what), and every checkpoint that could be seen.
fn live(rig: &Rig, script: &Script) -> (Vec<(u64, u64)>, Vec<Vec<u8>>) {
    let (mut acknowledged, mut kept) = (Vec::new(), Vec::new());
    drop(rig.begin());
    kept.push(rig.checkpoint());
    let mut what = 0;
    for _life in 0..2 {
        let Ok((mut log, _)) = rig.open_with(script) else {
            continue;
        };
        for batch in [1, 1, 256] {
            let records: Vec<_> = (what..what + batch).map(record).collect();
            if let Ok(committed) = log.append(&records) {
                acknowledged.extend(committed.records.zip(what..));
            }
            what += batch;
            let _fails_perhaps = log.checkpoint();
            kept.push(rig.checkpoint());
        }
        // Found in the tail by the next life: what follows a batch that was refused as well.
        for _ in 0..3 {
            let records: Vec<_> = (what..what + 2).map(record).collect();
            if let Ok(committed) = log.append(&records) {
                acknowledged.extend(committed.records.zip(what..));
            }
            what += 2;
        }
    }
    kept.dedup();
    (acknowledged, kept)
}

fn faulty(script: &Script) -> impl FnOnce(landfast_store::DirFiles) -> FaultyFiles {
    let script = script.clone();
    move |files| FaultyFiles::new(files, script)
}
