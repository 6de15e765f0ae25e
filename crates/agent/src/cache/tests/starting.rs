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
            agent_id: None,
            bootstrap,
            bundle: &mut bundle,
            newest: &mut newest,
            now: None,
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

/// What the node's own file says of its bundle has no taints.
#[test]
fn of_the_same_bundle_what_the_cache_says_is_tainted_is() {
    let ca = Ca::new("one");
    let tainted_of = |epoch, cached: u64| {
        let mut all = ca.bundle().x509_authorities().to_vec();
        all[0].tainted = true;
        let tainted = ca.bundle().with_x509_authorities(all).unwrap();
        let snapshot = Snapshot {
            bundle: Some(Arc::new(tainted.with_sequence(cached))),
            ..holding(&ca, &["a"])
        };
        let mut bundle = ca.bundle().with_sequence(7);
        let mut newest = Some(Revision { epoch, number: 1 });
        let own = Own {
            agent_id: None,
            bootstrap: "operator's",
            bundle: &mut bundle,
            newest: &mut newest,
            now: None,
        };
        let begun = agreed(image(&snapshot), own);
        let tainted = begun.snapshot.bundle.as_ref().unwrap().x509_authorities()[0].tainted;
        assert_eq!(tainted, bundle.x509_authorities()[0].tainted);
        tainted
    };
    assert!(tainted_of(3, 7));
    assert!(!tainted_of(3, 6), "that was an older one");
    assert!(!tainted_of(4, 7), "and that of an older epoch");
}
