//! A medium that does not answer.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::testing::td;

#[test]
fn a_medium_that_hangs_is_not_waited_for_and_one_thread_waits_however_often_it_is_tried() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::new(dir.path(), Some(&dir.path().join("stick.key")), &td());
    FileSealKey::create(&place.key).unwrap();
    let (answer, hangs) = sync_channel::<()>(0);
    let (hangs, reads) = (Mutex::new(hangs), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&reads);
    let open = move |path: &Path| {
        counted.fetch_add(1, Ordering::SeqCst);
        hangs.lock().unwrap().recv().ok();
        FileSealKey::open(path)
    };
    let mut reader = Reader::of(open, Duration::ZERO);
    for _ in 0..5 {
        // Nor is one made, though nothing has begun.
        let Found::None(why) = reader.find(&place, false, true) else {
            panic!("it cannot have been read");
        };
        assert!(why.contains("does not answer"), "{why}");
    }
    reader.patience = Duration::from_secs(60);
    // Now it answers, to all who wait.
    drop(answer);
    assert!(matches!(
        reader.find(&place, true, false),
        Found::Key { made: false, .. }
    ));
    assert_eq!(reads.load(Ordering::SeqCst), 1);
}
