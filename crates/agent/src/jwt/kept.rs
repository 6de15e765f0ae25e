//! Tokens that outlive a restart. Invariant: what comes back is judged as if it had been here all the time.

use std::sync::Arc;

use landfast_identity::Bundle;

use super::{JwtCache, Key, Token};

impl Key {
    pub(crate) fn entry(&self) -> &Arc<str> {
        &self.entry
    }

    pub(crate) fn audience(&self) -> &[String] {
        &self.audience
    }
}

impl JwtCache {
    /// Those that are held, in a fixed order. Also what seems to be over: the clock may be ahead.
    pub(crate) fn held(&self) -> Vec<(Key, Token)> {
        let inner = self.lock();
        let all = inner.tokens.iter();
        let mut held: Vec<_> = all
            .map(|(key, (token, _))| (key.clone(), token.clone()))
            .collect();
        drop(inner);
        held.sort_by(|(a, _), (b, _)| {
            (&a.entry, &a.audience, a.for_later).cmp(&(&b.entry, &b.audience, b.for_later))
        });
        held
    }

    /// Of those, what is signed by a key that this bundle has and does not name as tainted: they go as soon as it is known, and may not have gone yet.
    pub(crate) fn held_under(&self, bundle: Option<&Bundle>) -> Vec<(Key, Token)> {
        let mut held = self.held();
        if let Some(bundle) = bundle {
            held.retain(|(_, token)| token.is_signed_by(bundle));
        }
        held
    }

    /// Takes back what was held before a restart.
    pub(crate) fn restore(&self, tokens: Vec<(Key, Token)>) {
        let mut inner = self.lock();
        for (key, token) in tokens {
            inner.put(key, token, self.most);
        }
    }
}
