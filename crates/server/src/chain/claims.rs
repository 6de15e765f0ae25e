//! Chains that somebody else's root keys end, as nodes have shown them: until an operator names these keys.
//!
//! Invariant: a node has one, so that none keeps another's out; where there is no room, one of many that say the same gives way.

use std::collections::BTreeMap;
use std::sync::Arc;

use landfast_identity::SpiffeId;
use landfast_identity::chain::{RootKey, SignedStep};

use super::sorted;
use crate::datastore::StepPlace;

/// See the module. At most [`MAX_CLAIMS`].
#[derive(Default)]
pub(super) struct Claims(BTreeMap<SpiffeId, Claim>);

struct Claim {
    /// In their order.
    keys: Vec<RootKey>,
    /// Shared by all who show the same: a fleet does.
    steps: Arc<[SignedStep]>,
}

impl Claim {
    fn end(&self) -> Option<StepPlace> {
        self.steps.last().map(StepPlace::of)
    }
}

impl Claims {
    /// Of what was claimed since the newest step was another, nothing is kept; and of one node what it has shown last, unless that is less.
    pub(super) fn add(&mut self, agent: &SpiffeId, keys: &[RootKey], steps: &[SignedStep]) {
        let base = |steps: &[SignedStep]| steps.first().and_then(|first| first.step().previous);
        let new_base = base(steps);
        self.0.retain(|_, known| base(&known.steps) == new_base);
        let same = self.0.values().find(|known| *known.steps == *steps);
        let steps = same.map_or_else(|| steps.into(), |known| Arc::clone(&known.steps));
        let new = Claim {
            keys: sorted(keys),
            steps,
        };
        let before = self.0.get(agent);
        if before.is_some_and(|before| before.keys == new.keys && before.end() >= new.end()) {
            return;
        }
        if before.is_none() && self.0.len() >= MAX_CLAIMS {
            let Some(one) = self.one_of_many() else { return };
            self.0.remove(&one);
        }
        self.0.insert(agent.clone(), new);
    }

    /// Whose claim others have too: of the keys that most name, the one that leads the least far.
    fn one_of_many(&self) -> Option<SpiffeId> {
        let mut count = BTreeMap::new();
        for known in self.0.values() {
            *count.entry(&known.keys).or_insert(0_usize) += 1;
        }
        let (most, count) = count.into_iter().max_by_key(|(_, count)| *count)?;
        let theirs = self.0.iter().filter(|(_, known)| known.keys == *most);
        let least = theirs.min_by_key(|(_, known)| known.end())?;
        (count > 1).then(|| least.0.clone())
    }

    /// The root keys to which chains after this step lead.
    pub(super) fn keys_after(&self, newest: Option<&SignedStep>) -> Vec<&[RootKey]> {
        let mut keys: Vec<_> = self.after(newest).map(|known| &*known.keys).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// The longest chain after this step that these root keys end.
    pub(super) fn to(&self, keys: &[RootKey], newest: Option<&SignedStep>) -> Vec<SignedStep> {
        let keys = sorted(keys);
        let to = self.after(newest).filter(|known| known.keys == keys);
        let longest = to.max_by_key(|known| known.end());
        longest.map(|known| known.steps.to_vec()).unwrap_or_default()
    }

    fn after(&self, newest: Option<&SignedStep>) -> impl Iterator<Item = &Claim> {
        let newest = newest.map(SignedStep::digest);
        let fits = move |known: &&Claim| {
            let first = known.steps.first();
            newest.is_some() && first.is_some_and(|first| first.step().previous == newest)
        };
        self.0.values().filter(fits)
    }
}

/// Nodes whose claims are kept, of half a MiB at most each.
const MAX_CLAIMS: usize = 64;

#[cfg(test)]
mod tests {
    use landfast_identity::chain::{RootPrivateKey, Step};
    use landfast_identity::{Bundle, UnixTime};

    use super::*;
    use crate::core::fixture::Rig;

    fn node(n: usize) -> SpiffeId {
        SpiffeId::parse(&format!("spiffe://plant.test/spire/agent/{n}")).unwrap()
    }

    fn key() -> RootKey {
        RootPrivateKey::generate().unwrap().public_key()
    }

    fn step(bundle: &Bundle, after: Option<&SignedStep>, sequence: u64, keys: &[RootKey]) -> SignedStep {
        let step = Step {
            epoch: 5,
            sequence,
            previous: after.map(SignedStep::digest),
            bundle: bundle.clone(),
            root_keys: keys.to_vec(),
            time: UnixTime::EPOCH,
        };
        SignedStep::unsigned(&step).unwrap()
    }

    /// T-46d.
    #[tokio::test]
    async fn whoever_claims_first_and_most_keeps_nobody_out() {
        let bundle = Rig::new().await.core.authorities.bundle();
        let step =
            |after: Option<&SignedStep>, sequence, keys: &[RootKey]| step(&bundle, after, sequence, keys);
        let newest = step(None, 1, &[key()]);
        let mut claims = Claims::default();
        for _ in 0..100 {
            let mine = [key()];
            claims.add(&node(0), &mine, &[step(Some(&newest), 2, &mine)]);
        }
        assert_eq!(claims.keys_after(Some(&newest)).len(), 1, "one a node");
        let right = [key()];
        let all = [step(Some(&newest), 2, &right), step(Some(&newest), 3, &right)];
        (1..200).for_each(|n| claims.add(&node(n), &right, &all[..1]));
        assert_eq!(claims.0.len(), MAX_CLAIMS);
        assert_eq!(claims.keys_after(Some(&newest)).len(), 2, "nor do many");
        assert_eq!(claims.to(&right, Some(&newest)), all[..1]);
        claims.add(&node(200), &right, &all);
        assert_eq!(claims.to(&right, Some(&newest)), all, "the longest");
        claims.add(&node(200), &right, &all[..1]);
        assert_eq!(
            claims.to(&right, Some(&newest)),
            all,
            "less of the same is nothing new"
        );
        for n in 300..300 + 2 * MAX_CLAIMS {
            let theirs = [key()];
            claims.add(&node(n), &theirs, &[step(Some(&newest), 2, &theirs)]);
        }
        assert_eq!(claims.0.len(), MAX_CLAIMS);
        assert!(!claims.to(&right, Some(&newest)).is_empty());
        assert!(claims.keys_after(Some(&all[0])).is_empty(), "of another step");
        assert!(claims.keys_after(None).is_empty());
        claims.add(&node(1), &right, &[step(Some(&all[0]), 4, &right)]);
        assert_eq!(claims.0.len(), 1, "the newest step is another now");
    }
}
