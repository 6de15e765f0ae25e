//! Hashes, their cache, and the budgets that bound them.

use std::io::Write as _;

use super::*;

const LIMITS: HashLimits = HashLimits {
    max_size: 1 << 20,
    rate: 1 << 20,
};

fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

async fn digest(digests: &Digests, uid: u32, file: &tempfile::NamedTempFile) -> Result<String, DigestError> {
    let file = File::open(file.path()).unwrap();
    digests.of_file(uid, move || Ok(file)).await
}

fn digests(limits: HashLimits) -> Digests {
    Digests::new(limits, Threads::new())
}

#[tokio::test]
async fn a_program_is_hashed_once_and_again_after_it_changed() {
    let digests = digests(LIMITS);
    let mut program = file(b"abc");
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(digest(&digests, 1, &program).await.unwrap(), abc);
    assert_eq!(digest(&digests, 2, &program).await.unwrap(), abc);
    assert_eq!(
        digests.budgets.lock().unwrap().len(),
        1,
        "the second came from the cache: nobody was charged"
    );
    program.write_all(b"d").unwrap();
    assert_ne!(digest(&digests, 1, &program).await.unwrap(), abc);
    assert_eq!(digests.known.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_large_program_is_not_hashed() {
    let digests = digests(LIMITS);
    let program = file(&[]);
    program.as_file().set_len(LIMITS.max_size + 1).unwrap();
    assert!(matches!(
        digest(&digests, 1, &program).await,
        Err(DigestError::TooLarge { .. })
    ));
    program.as_file().set_len(LIMITS.max_size).unwrap();
    assert!(digest(&digests, 1, &program).await.is_ok());
}

#[tokio::test]
async fn a_deleted_program_and_a_directory_are_not_hashed() {
    let digests = digests(LIMITS);
    let program = file(b"abc");
    let open = File::open(program.path()).unwrap();
    drop(program);
    assert!(matches!(
        digests.of_file(1, move || Ok(open)).await,
        Err(DigestError::Nameless)
    ));
    let dir = tempfile::tempdir().unwrap();
    let opened = File::open(dir.path()).unwrap();
    assert!(matches!(
        digests.of_file(1, move || Ok(opened)).await,
        Err(DigestError::Nameless)
    ));
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_read_has_no_digest() {
    let program = file(b"abc");
    let before = FileKey::new(&program.as_file().metadata().unwrap());
    let digests = digests(LIMITS);
    let read = async |before| {
        let file = File::open(program.path()).unwrap();
        digests.hash(1, file, before).await
    };
    assert!(read(before).await.is_ok());
    let changed = [
        ("grew", FileKey { size: 2, ..before }),
        ("shrank", FileKey { size: 4, ..before }),
        ("replaced", FileKey { ino: 0, ..before }),
        (
            "rewritten",
            FileKey {
                ctime: (0, 0),
                ..before
            },
        ),
    ];
    for (what, before) in changed {
        assert!(matches!(read(before).await, Err(DigestError::Changed)), "{what}");
    }
}

/// M3: with one thread for everybody the second would wait for the end of the first.
#[tokio::test]
async fn a_program_without_end_leaves_every_other_user_his_turns() {
    let digests = digests(LIMITS);
    let endless = digests.hash_all(1, std::io::repeat(0), u64::MAX);
    let program = file(&vec![1; 1 << 20]);
    tokio::select! {
        biased;
        ended = endless => panic!("{:?}", ended.map(|(_, hex)| hex)),
        hex = digest(&digests, 2, &program) => assert!(hex.is_ok(), "{hex:?}"),
    }
}

/// Never answers, until the sender of its channel is gone.
struct Hangs(std::sync::mpsc::Receiver<()>);

impl Read for Hangs {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        assert!(self.0.recv().is_err(), "nothing is ever sent");
        Ok(0)
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_that_hangs_costs_its_user_a_hash_and_nobody_else() {
    let digests = digests(LIMITS);
    let (release, gate) = std::sync::mpsc::channel();
    // Time stands still while a thread is at work, so it is moved by hand.
    let (hung, ()) = tokio::join!(digests.hash_all(1, Hangs(gate), 1), async {
        tokio::task::yield_now().await;
        tokio::time::advance(LONGEST_WAIT).await;
    });
    assert!(matches!(hung.map(|(_, hex)| hex), Err(DigestError::Stuck(_))));
    let program = file(b"abc");
    assert!(digest(&digests, 2, &program).await.is_ok());
    assert!(
        digest(&digests, 1, &program).await.is_ok(),
        "his other programs too"
    );
    drop(release);
}

#[tokio::test(start_paused = true)]
async fn each_uid_pays_from_a_budget_of_its_own_before_anything_is_read() {
    let digests = digests(LIMITS);
    let deadline = Instant::now() + LONGEST_WAIT;
    let mib = 1 << 20;
    let _turns = [digests.turn_of(1), digests.turn_of(2)];
    assert_eq!(
        digests.charge(1, mib, deadline),
        Some(Duration::ZERO),
        "a full budget"
    );
    assert_eq!(digests.charge(1, mib, deadline), Some(Duration::from_secs(1)));
    assert_eq!(digests.charge(1, mib, deadline), Some(Duration::from_secs(2)));
    assert_eq!(
        digests.charge(2, mib, deadline),
        Some(Duration::ZERO),
        "another uid is not held up"
    );
    assert_eq!(
        digests.charge(1, 4 * mib, deadline),
        None,
        "longer than anybody should wait"
    );
    assert_eq!(
        digests.charge(1, mib, deadline),
        Some(Duration::from_secs(3)),
        "and what was refused was not charged"
    );
    tokio::time::advance(Duration::from_secs(60)).await;
    let deadline = Instant::now() + LONGEST_WAIT;
    assert_eq!(digests.charge(1, mib, deadline), Some(Duration::ZERO));
    assert_eq!(
        digests.charge(1, mib, deadline),
        Some(Duration::from_secs(1)),
        "a budget never holds more than one program"
    );
}

#[tokio::test]
async fn over_budget_there_is_no_digest() {
    let digests = digests(HashLimits {
        max_size: 1 << 20,
        rate: 1,
    });
    let (a, b) = (file(&vec![1; 1 << 20]), file(&vec![2; 1 << 20]));
    assert!(digest(&digests, 1, &a).await.is_ok());
    assert!(matches!(
        digest(&digests, 1, &b).await,
        Err(DigestError::OverBudget { uid: 1 })
    ));
    assert!(
        digest(&digests, 1, &a).await.is_ok(),
        "what is known costs nothing"
    );
    assert!(digest(&digests, 2, &b).await.is_ok());
}

#[test]
fn the_cache_is_bounded() {
    let digests = digests(LIMITS);
    let key = FileKey {
        dev: 0,
        ino: 0,
        size: 0,
        mtime: (0, 0),
        ctime: (0, 0),
    };
    for ino in 0..2 * MAX_KNOWN as u64 {
        digests.remember(FileKey { ino, ..key }, String::new());
    }
    assert_eq!(digests.known.lock().unwrap().len(), MAX_KNOWN);
    assert!(
        digests
            .cached(&FileKey {
                ino: 2 * MAX_KNOWN as u64 - 1,
                ..key
            })
            .is_some(),
        "the newest stays"
    );
}

#[tokio::test(start_paused = true)]
async fn one_user_too_many_takes_the_place_of_the_fullest_budget() {
    let digests = digests(LIMITS);
    let deadline = Instant::now() + LONGEST_WAIT;
    let last = MAX_BUDGETS as u32;
    for uid in 0..last {
        drop(digests.turn_of(uid).unwrap());
        let spent = if uid == 5 { 1 } else { 2 };
        digests.charge(uid, spent, deadline).unwrap();
    }
    let turn = digests.turn_of(last).unwrap();
    let known = |uid| digests.budgets.lock().unwrap().contains_key(&uid);
    assert_eq!(digests.budgets.lock().unwrap().len(), MAX_BUDGETS);
    assert!(!known(5) && known(4) && known(last));
    // The newest is the fullest now, but at work.
    let _next = digests.turn_of(last + 1).unwrap();
    assert!(known(last));
    drop(turn);
    let _busy: Vec<_> = (0..last + 2)
        .filter(|uid| known(*uid))
        .map(|uid| digests.turn_of(uid))
        .collect();
    assert!(digests.turn_of(last + 2).is_none(), "everybody is at work");
    assert_eq!(digests.budgets.lock().unwrap().len(), MAX_BUDGETS);
}
