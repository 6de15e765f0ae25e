//! Which of two bundles and revisions an agent begins with.

use super::*;
use crate::cache::start::agreed;

/// The sequence of the bundle that both begin with, and the revision.
fn begun(cached: u64, own: u64, bootstrap: &str) -> (u64, Option<Revision>) {
    begun_in(cached, (Revision { epoch: 3, number: 1 }, own), bootstrap)
}

/// The cached one is of epoch 3.
fn begun_in(cached: u64, (of, own): (Revision, u64), bootstrap: &str) -> (u64, Option<Revision>) {
    let ca = Ca::new("one");
    let mut snapshot = holding(&ca, &["a"]);
    snapshot.bundle = Some(Arc::new(ca.bundle().with_sequence(cached)));
    let mut bundle = ca.bundle().with_sequence(own);
    let mut newest = Some(of);
    let image = agreed(
        image(&snapshot),
        Own {
            node: None,
            bootstrap,
            bundle: &mut bundle,
            newest: &mut newest,
        },
    );
    let held = image.snapshot.bundle.as_ref().unwrap().sequence();
    assert_eq!(held, bundle.sequence(), "workloads and the link have the same");
    assert_eq!(image.snapshot.held.len(), 1);
    (held, newest)
}

#[test]
fn the_newer_bundle_counts_and_the_operators_new_one_before_both() {
    let newer = Some(Revision { epoch: 3, number: 14 });
    assert_eq!(begun(7, 5, "operator's"), (7, newer));
    assert_eq!(begun(5, 7, "operator's"), (7, newer));
    let own = Some(Revision { epoch: 3, number: 1 });
    assert_eq!(begun(7, 0, "the operator's next"), (0, own));
}

#[test]
fn a_bundle_of_an_older_epoch_does_not_count_whatever_its_number() {
    let of = |epoch| Revision { epoch, number: 1 };
    // After a restore the server counts anew; the cache was not written since.
    assert_eq!(
        begun_in(900, (of(4), 2), "operator's"),
        (2, Some(of(4))),
        "with the old one the node would refuse its server"
    );
    let newer = Some(Revision { epoch: 3, number: 14 });
    assert_eq!(begun_in(900, (of(2), 2), "operator's"), (900, newer));
}
