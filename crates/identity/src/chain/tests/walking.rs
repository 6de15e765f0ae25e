//! Whom a walk believes, and which way it goes.

use super::*;

/// A node that stands on the first step of `root`.
struct Node {
    root: RootPrivateKey,
    bundle: Bundle,
    first: SignedStep,
    walker: Walker,
}

fn node() -> Node {
    let (root, bundle) = (root(), bundle_of(td(), 9));
    let first = step(&bundle, (5, 10), None, &[&root]);
    let walker = Walker::begin(td(), &first).unwrap();
    Node {
        root,
        bundle,
        first,
        walker,
    }
}

impl Node {
    /// That it refuses this, with this reason, and stands where it stood.
    fn refuses(&self, step: &SignedStep) -> ChainError {
        let mut walker = self.walker.clone();
        let refused = walker.walk(step).unwrap_err();
        assert_eq!(walker, self.walker);
        refused
    }

    fn next(&self) -> Step {
        let keys = vec![self.root.public_key()];
        unsigned(&self.bundle, (5, 11), Some(self.first.digest()), keys)
    }
}

#[test]
fn it_walks_from_step_to_step_and_knows_where_it_stands() {
    let mut node = node();
    assert_eq!(node.walker.walk(&node.first).unwrap(), Walked::Here);
    let mut previous = node.first.digest();
    for sequence in 11..200 {
        let next = step(&node.bundle, (5, sequence), Some(previous), &[&node.root]);
        assert_eq!(node.walker.walk(&next).unwrap(), Walked::Onward);
        assert_eq!(node.walker.walk(&next).unwrap(), Walked::Here);
        previous = next.digest();
    }
    let at = node.walker.position().clone();
    assert_eq!(
        (at.epoch, at.sequence, at.bundle_sequence, at.digest),
        (5, 199, 199, previous)
    );
    assert_eq!(Walker::resume(td(), at), node.walker);
}

#[test]
fn a_step_that_nobody_known_has_signed_leads_nowhere() {
    let node = node();
    let thief = root();
    for keys in [vec![], vec![&thief]] {
        assert!(matches!(
            node.refuses(&signed(&node.next(), &keys)),
            ChainError::NotSigned { .. }
        ));
    }
    // The right name on another's signature, and the right signature under another step.
    let mut forged = signed(&node.next(), &[&thief]);
    forged.signatures[0].0 = node.root.public_key();
    assert!(matches!(node.refuses(&forged), ChainError::NotSigned { .. }));
    let mut moved = signed(&node.next(), &[]);
    moved.signatures.clone_from(&node.first.signatures);
    assert!(matches!(node.refuses(&moved), ChainError::NotSigned { .. }));
}

#[test]
fn another_trust_domains_step_leads_nowhere_whoever_signed_it() {
    let node = node();
    let bundle = bundle_of(TrustDomain::parse("other.test").unwrap(), 1);
    let theirs = step(&bundle, (5, 11), Some(node.first.digest()), &[&node.root]);
    assert!(matches!(
        node.refuses(&theirs),
        ChainError::OtherTrustDomain { .. }
    ));
    let begun = Walker::begin(td(), &theirs);
    assert!(matches!(begun, Err(ChainError::OtherTrustDomain { .. })));
}

#[test]
fn a_walk_begins_with_what_its_own_root_key_signed() {
    let step = unsigned(&bundle_of(td(), 1), (1, 1), None, vec![root().public_key()]);
    let by_another = signed(&step, &[&root()]);
    assert!(matches!(
        Walker::begin(td(), &by_another),
        Err(ChainError::NotSigned { .. })
    ));
}

#[test]
fn it_never_goes_back() {
    let mut node = node();
    let next = signed(&node.next(), &[&node.root]);
    node.walker.walk(&next).unwrap();
    assert!(matches!(node.refuses(&node.first), ChainError::Older { .. }));
    let before = step(&node.bundle, (4, 1000), None, &[&node.root]);
    assert!(
        matches!(node.refuses(&before), ChainError::Older { .. }),
        "also from an epoch of before"
    );
    let mut older = node.next();
    (older.sequence, older.previous) = (12, Some(next.digest()));
    older.bundle = older.bundle.with_sequence(10);
    let older = signed(&older, &[&node.root]);
    assert!(matches!(node.refuses(&older), ChainError::BundleGoesBack { .. }));
}

#[test]
fn a_chain_that_was_forked_or_has_a_gap_is_not_walked() {
    let node = node();
    let mut fork = node.next();
    fork.sequence = 10;
    assert!(matches!(
        node.refuses(&signed(&fork, &[&node.root])),
        ChainError::Forked { .. }
    ));
    for previous in [None, Some([0; 32])] {
        let mut gap = node.next();
        (gap.sequence, gap.previous) = (12, previous);
        assert!(matches!(
            node.refuses(&signed(&gap, &[&node.root])),
            ChainError::NotNext { .. }
        ));
    }
}

#[test]
fn a_new_epoch_needs_no_step_before_but_the_root_key() {
    let mut node = node();
    let renewed = step(&node.bundle, (6, 3), Some([9; 32]), &[&node.root]);
    let stranger = root();
    let mut stolen = renewed.step().clone();
    stolen.root_keys = vec![stranger.public_key()];
    assert!(matches!(
        node.refuses(&signed(&stolen, &[&stranger])),
        ChainError::NotSigned { .. }
    ));
    assert_eq!(node.walker.walk(&renewed).unwrap(), Walked::NewEpoch);
    assert_eq!(
        node.walker.position().bundle_sequence,
        3,
        "its numbers may begin anew"
    );
}

#[test]
fn root_keys_are_changed_by_old_and_new_together() {
    let (mut node, new, spare) = (node(), root(), root());
    let mut change = node.next();
    change.root_keys = vec![new.public_key(), spare.public_key()];
    for (signers, refused_as_unsigned) in [
        (vec![&new, &spare], true),
        (vec![&node.root], false),
        (vec![&node.root, &new], false),
    ] {
        let refused = node.refuses(&signed(&change, &signers));
        assert_eq!(
            matches!(refused, ChainError::NotSigned { .. }),
            refused_as_unsigned
        );
        assert_eq!(
            matches!(refused, ChainError::NewKeysHaveNotSigned { .. }),
            !refused_as_unsigned
        );
    }
    let changed = signed(&change, &[&node.root, &new, &spare]);
    assert_eq!(node.walker.walk(&changed).unwrap(), Walked::Onward);
    // The old one is worth nothing any more; each of the new ones is enough.
    let mut after = node.next();
    (after.sequence, after.previous) = (12, Some(changed.digest()));
    after.root_keys = vec![spare.public_key()];
    assert!(matches!(
        node.refuses(&signed(&after, &[&node.root])),
        ChainError::NotSigned { .. }
    ));
    assert!(
        matches!(
            node.refuses(&signed(&after, &[&new])),
            ChainError::NewKeysHaveNotSigned { .. }
        ),
        "who stays has to be able to sign"
    );
    node.walker.walk(&signed(&after, &[&spare])).unwrap();
}

/// What a server, a restored copy of it and a thief of issuing authorities make, in any order.
#[derive(Clone, Debug)]
enum Move {
    Step,
    Rotate,
    Restore,
    PutBack,
    Replay(prop::sample::Index),
    Skip,
    Forge { epochs: u64, names_the_last: bool },
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        4 => Just(Move::Step),
        2 => Just(Move::Rotate),
        1 => Just(Move::Restore),
        1 => Just(Move::PutBack),
        2 => any::<prop::sample::Index>().prop_map(Move::Replay),
        1 => Just(Move::Skip),
        3 => (0..3u64, any::<bool>()).prop_map(|(epochs, names_the_last)| Move::Forge { epochs, names_the_last }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// A node that is shown all of it stands where the server stands, and never anywhere else.
    #[test]
    fn it_goes_where_the_root_keys_lead_and_nowhere_else(moves in prop::collection::vec(moves(), 1..40)) {
        let (mut node, bundle) = (node(), bundle_of(td(), 1));
        let (mut key, thief) = (RootPrivateKey::from_pem(&node.root.to_pem()).unwrap(), root());
        let mut made = vec![node.first.clone()];
        for next in moves {
            let last = made.last().unwrap().clone();
            let (epoch, sequence) = (last.step().epoch, last.step().sequence + 1);
            let honest = |keys: &[&RootPrivateKey], named, epoch| {
                signed(&unsigned(&bundle, (epoch, sequence), Some(last.digest()), named), keys)
            };
            let shown = match next {
                Move::Step => honest(&[&key], vec![key.public_key()], epoch),
                Move::Restore => honest(&[&key], vec![key.public_key()], epoch + 1),
                Move::PutBack => {
                    // A server that has lost its last steps, and makes others in their places before somebody has it begin a new epoch.
                    let named = vec![key.public_key()];
                    let fork = signed(&unsigned(&bundle, (epoch, sequence - 1), Some([7; 32]), named.clone()), &[&key]);
                    let is_fork = matches!(node.walker.walk(&fork), Err(ChainError::Forked { .. }));
                    prop_assert!(is_fork);
                    let after = signed(&unsigned(&bundle, (epoch, sequence), Some(fork.digest()), named.clone()), &[&key]);
                    let is_gap = matches!(node.walker.walk(&after), Err(ChainError::NotNext { .. }));
                    prop_assert!(is_gap);
                    signed(&unsigned(&bundle, (epoch + 1, sequence + 1), Some(after.digest()), named), &[&key])
                }
                Move::Rotate => {
                    let new = root();
                    let step = honest(&[&key, &new], vec![new.public_key()], epoch);
                    key = new;
                    step
                }
                Move::Replay(which) => {
                    let old = &made[which.index(made.len())];
                    let walked = node.walker.walk(old);
                    prop_assert_eq!(walked.is_ok(), old.digest() == last.digest());
                    continue;
                }
                Move::Skip => {
                    // The server made one that nobody has shown.
                    let unseen = honest(&[&key], vec![key.public_key()], epoch);
                    let after = unsigned(&bundle, (epoch, sequence + 1), Some(unseen.digest()), vec![key.public_key()]);
                    prop_assert!(node.walker.walk(&signed(&after, &[&key])).is_err());
                    unseen
                }
                Move::Forge { epochs, names_the_last } => {
                    let named = if names_the_last { key.public_key() } else { thief.public_key() };
                    let previous = Some(last.digest());
                    let step = unsigned(&bundle, (epoch + epochs, sequence), previous, vec![named]);
                    prop_assert!(node.walker.walk(&signed(&step, &[&thief])).is_err());
                    continue;
                }
            };
            prop_assert!(node.walker.walk(&shown).is_ok());
            made.push(shown);
        }
        prop_assert_eq!(node.walker.position().digest, made.last().unwrap().digest());
    }
}
