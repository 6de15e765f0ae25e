//! Which identities may ask for which others.
//!
//! Invariant: what no delegate's allow-list names is denied; without delegates that is everything.

use landfast_identity::{IdPattern, SpiffeId};

/// One line of `authorized_delegates`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegate {
    /// Who may ask.
    pub delegate: IdPattern,
    /// For whom.
    pub may_have: Vec<IdPattern>,
}

/// All of them. None by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delegates(Vec<Delegate>);

/// What one caller may have.
#[derive(Debug)]
pub(crate) struct Right<'a>(Vec<&'a IdPattern>);

impl Delegates {
    /// As configured.
    pub fn new(list: Vec<Delegate>) -> Self {
        Self(list)
    }

    /// The right of a caller with these identities: that of each of them. `None` when none is a delegate.
    pub(crate) fn right<'a>(&self, ids: impl Iterator<Item = &'a SpiffeId> + Clone) -> Option<Right<'_>> {
        let of_caller = |delegate: &&Delegate| ids.clone().any(|id| delegate.delegate.matches(id));
        let mut lists = self.0.iter().filter(of_caller).peekable();
        lists.peek()?;
        Some(Right(lists.flat_map(|delegate| &delegate.may_have).collect()))
    }
}

impl Right<'_> {
    pub(crate) fn covers(&self, id: &SpiffeId) -> bool {
        self.0.iter().any(|pattern| pattern.matches(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::id;

    fn pattern(text: &str) -> IdPattern {
        IdPattern::parse(&format!("spiffe://plant.test{text}")).unwrap()
    }

    #[test]
    fn a_delegate_has_what_its_lists_name_and_nobody_else_has_anything() {
        let delegate = |who: &str, what: &[&str]| Delegate {
            delegate: pattern(who),
            may_have: what.iter().map(|text| pattern(text)).collect(),
        };
        let delegates = Delegates::new(vec![
            delegate("/mesh", &["/line/*"]),
            delegate("/proxies/*", &["/historian"]),
        ]);
        let covers = |callers: &[&str], wanted: &str| {
            let callers: Vec<_> = callers.iter().map(|path| id(path)).collect();
            delegates
                .right(callers.iter())
                .map(|right| right.covers(&id(wanted)))
        };
        assert_eq!(covers(&["/mesh"], "/line/4"), Some(true));
        assert_eq!(covers(&["/mesh"], "/line"), Some(false));
        assert_eq!(covers(&["/mesh"], "/line-4"), Some(false));
        assert_eq!(covers(&["/mesh"], "/mesh"), Some(false), "nor itself");
        assert_eq!(covers(&["/mesh"], "/historian"), Some(false), "another's list");
        assert_eq!(covers(&["/mesh", "/proxies/a"], "/historian"), Some(true));
        assert_eq!(covers(&["/mesh/a"], "/line/4"), None);
        assert_eq!(covers(&[], "/line/4"), None);
        assert!(Delegates::default().right([id("/mesh")].iter()).is_none());
    }
}
