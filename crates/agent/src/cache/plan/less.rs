//! What is less than it was. Invariant: whatever could be used after it was taken away counts as less; in doubt, it is.

use landfast_identity::Bundle;

use crate::entry::Entry;
use crate::keeper::state::Snapshot;

/// Whether some bundle has an authority that it has no longer, or not as it was.
pub(super) fn trusts_less(old: &Snapshot, new: &Snapshot) -> bool {
    fn less(old: &Bundle, new: &Bundle) -> bool {
        fn lacks<T: PartialEq>(old: &[T], new: &[T]) -> bool {
            old.iter().any(|authority| !new.contains(authority))
        }
        lacks(old.x509_authorities(), new.x509_authorities())
            || lacks(old.jwt_authorities(), new.jwt_authorities())
            || lacks(old.wit_authorities(), new.wit_authorities())
    }
    let own = match (&old.bundle, &new.bundle) {
        (Some(old), Some(new)) => less(old, new),
        (old, _) => old.is_some(),
    };
    let mut others = old.federated.iter();
    own || others.any(|(name, old)| new.federated.get(name).is_none_or(|new| less(old, new)))
}

/// Whether others than before have what it is for, or it is for less. What only says how it is had or shown is nothing of that kind.
pub(super) fn gives_less(old: &Entry, new: &Entry) -> bool {
    let shown = Entry {
        hint: new.hint.clone(),
        revision: new.revision,
        on_demand: new.on_demand,
        ..old.clone()
    };
    shown != *new
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Change;
    use super::*;
    use crate::cache::tests::holding;
    use crate::testing::{Ca, td};

    #[test]
    fn a_bundle_that_trusts_less_is_urgent_and_one_that_trusts_more_is_not() {
        let (ca, other) = (Ca::new("one"), Ca::new("two"));
        let both = || {
            let all = [ca.bundle(), other.bundle()].map(|bundle| bundle.x509_authorities().to_vec());
            Bundle::new(td()).with_x509_authorities(all.concat()).unwrap()
        };
        let tainted = || {
            let mut all = both().x509_authorities().to_vec();
            all[0].tainted = true;
            Bundle::new(td()).with_x509_authorities(all).unwrap()
        };
        let own = |bundle: Bundle| Snapshot {
            bundle: Some(Arc::new(bundle)),
            ..holding(&ca, &["a"])
        };
        let federated = |bundle: Option<Bundle>| Snapshot {
            federated: Arc::new(
                bundle
                    .map(|bundle| (td(), Arc::new(bundle)))
                    .into_iter()
                    .collect(),
            ),
            ..own(ca.bundle())
        };
        let between = |old: &Snapshot, new: &Snapshot| {
            let mut new = new.clone();
            (new.entries, new.held) = (Arc::clone(&old.entries), Arc::clone(&old.held));
            Change::between(old, &new, &old.rungs)
        };
        for kind in [&own as &dyn Fn(Bundle) -> Snapshot, &|bundle| {
            federated(Some(bundle))
        }] {
            let [one, two, less] = [ca.bundle(), both(), tainted()].map(kind);
            assert_eq!(between(&one, &two), Change::New);
            assert_eq!(between(&two, &one), Change::Withdrawn);
            assert_eq!(between(&two, &less), Change::Withdrawn);
            assert_eq!(between(&one, &one.clone()), Change::Nothing);
        }
        let (none, some) = (federated(None), federated(Some(both())));
        assert_eq!(between(&some, &none), Change::Withdrawn);
    }
}
