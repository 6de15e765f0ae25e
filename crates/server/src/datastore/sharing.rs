//! What many rows have in common stands in memory once. Invariant: what is shared is equal; sharing changes no value.

use std::collections::HashMap;

use landfast_identity::{IdError, Selector, SelectorError, SpiffeId, TrustDomain};

/// Remembers what it has read, while everything is read.
#[derive(Debug, Default)]
pub(crate) struct Sharing {
    own: Option<TrustDomain>,
    ids: HashMap<String, SpiffeId>,
    selectors: HashMap<String, Selector>,
    domains: HashMap<String, TrustDomain>,
    limit: usize,
}

impl Sharing {
    /// For the rows of a registry of this trust domain.
    pub(crate) fn among(own: TrustDomain) -> Self {
        Self {
            own: Some(own),
            limit: LIMIT,
            ..Self::default()
        }
    }

    /// For a single row: nothing is remembered.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    /// One of an ID's own; only the name of the trust domain is shared.
    pub(crate) fn id(&self, text: &str) -> Result<SpiffeId, IdError> {
        let id = SpiffeId::parse(text)?;
        Ok(match &self.own {
            Some(own) => id.sharing(own),
            None => id,
        })
    }

    /// One that other rows have too.
    pub(crate) fn common_id(&mut self, text: &str) -> Result<SpiffeId, IdError> {
        if let Some(id) = self.ids.get(text) {
            return Ok(id.clone());
        }
        let id = self.id(text)?;
        remember(&mut self.ids, self.limit, text, &id);
        Ok(id)
    }

    pub(crate) fn selector(&mut self, text: &str) -> Result<Selector, SelectorError> {
        if let Some(selector) = self.selectors.get(text) {
            return Ok(selector.clone());
        }
        let selector = Selector::parse(text)?;
        remember(&mut self.selectors, self.limit, text, &selector);
        Ok(selector)
    }

    pub(crate) fn domain(&mut self, text: &str) -> Result<TrustDomain, IdError> {
        if let Some(domain) = self.domains.get(text) {
            return Ok(domain.clone());
        }
        let domain = TrustDomain::parse(text)?;
        remember(&mut self.domains, self.limit, text, &domain);
        Ok(domain)
    }
}

fn remember<T: Clone>(known: &mut HashMap<String, T>, limit: usize, text: &str, value: &T) {
    if known.len() < limit {
        known.insert(text.to_owned(), value.clone());
    }
}

/// Of each kind: where all are different, remembering them costs more than it saves.
const LIMIT: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shared_reads_as_if_it_were_not() {
        let own = TrustDomain::parse("plant.example").unwrap();
        let mut sharing = Sharing::among(own);
        for text in [
            "spiffe://plant.example/a",
            "spiffe://other.example/a",
            "spiffe://plant.example",
        ] {
            let plain = SpiffeId::parse(text).unwrap();
            for _ in 0..2 {
                assert_eq!(sharing.common_id(text).unwrap(), plain);
            }
            let id = sharing.id(text).unwrap();
            assert_eq!(
                (id.trust_domain(), id.path()),
                (plain.trust_domain(), plain.path())
            );
        }
        for text in ["unix:uid:1", "k:a", "unix:uid:1"] {
            assert_eq!(sharing.selector(text).unwrap(), Selector::parse(text).unwrap());
        }
        assert!(sharing.common_id("plant.example/a").is_err() && sharing.selector("unix").is_err());
        assert!(sharing.domain("A").is_err());
        assert_eq!(sharing.domain("a").unwrap(), TrustDomain::parse("a").unwrap());
        assert_eq!((sharing.ids.len(), sharing.selectors.len()), (3, 2));
    }

    #[test]
    fn not_more_is_remembered_than_may_be() {
        let mut sharing = Sharing {
            limit: 2,
            ..Sharing::none()
        };
        for n in 0..9 {
            let text = format!("k:{}", n % 4);
            assert_eq!(sharing.selector(&text).unwrap().to_string(), text);
        }
        assert_eq!(sharing.selectors.len(), 2);
        assert!(Sharing::none().selector("k:1").is_ok());
    }
}
