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
    digests.of_file(uid, File::open(file.path()).unwrap()).await
}

#[tokio::test]
async fn a_program_is_hashed_once_and_again_after_it_changed() {
    let digests = Digests::new(LIMITS);
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
    let digests = Digests::new(LIMITS);
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
    let digests = Digests::new(LIMITS);
    let program = file(b"abc");
    let open = File::open(program.path()).unwrap();
    drop(program);
    assert!(matches!(
        digests.of_file(1, open).await,
        Err(DigestError::Nameless)
    ));
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(
        digests.of_file(1, File::open(dir.path()).unwrap()).await,
        Err(DigestError::Nameless)
    ));
}

#[test]
fn a_file_that_changes_while_it_is_read_has_no_digest() {
    let program = file(b"abc");
    let before = FileKey::new(&program.as_file().metadata().unwrap());
    let read = |before| hash(File::open(program.path()).unwrap(), before);
    assert!(read(before).is_ok());
    assert!(
        matches!(read(FileKey { size: 2, ..before }), Err(DigestError::Changed)),
        "grew"
    );
    assert!(
        matches!(read(FileKey { size: 4, ..before }), Err(DigestError::Changed)),
        "shrank"
    );
    assert!(
        matches!(read(FileKey { ino: 0, ..before }), Err(DigestError::Changed)),
        "replaced"
    );
    assert!(
        matches!(
            read(FileKey {
                ctime: (0, 0),
                ..before
            }),
            Err(DigestError::Changed)
        ),
        "rewritten"
    );
}

#[tokio::test(start_paused = true)]
async fn each_uid_pays_from_a_budget_of_its_own_before_anything_is_read() {
    let digests = Digests::new(LIMITS);
    let deadline = Instant::now() + LONGEST_WAIT;
    let mib = 1 << 20;
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
    let digests = Digests::new(HashLimits {
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
fn the_cache_and_the_budgets_are_bounded() {
    let digests = Digests::new(LIMITS);
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
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        for uid in 0..3000 {
            drop(digests.turn_of(uid));
        }
        assert!(digests.budgets.lock().unwrap().len() <= MAX_BUDGETS);
    });
}
