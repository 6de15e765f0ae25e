//! What is remembered of authorities. Invariant: at most one of a kind is active, at most one prepared; the bundle holds them all.

use std::time::Duration;

use landfast_identity::{
    Bundle, BundleError, Certificate, JwtAuthority, PublicKey, TrustDomain, UnixTime, WitAuthority,
    X509Authority,
};

use super::above::{Above, root_id, root_of};
use super::appended::{AppendedKey, AppendedRow};
use super::descent::Descent;

/// All authorities, in the order they were made, and the two counters that go with them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal {
    /// Grows with every change of the journal.
    pub(crate) version: u64,
    /// Grows with every change of the bundle's content.
    pub(crate) sequence: u64,
    pub(crate) rows: Vec<AuthorityRow>,
    /// Those of other servers that share the database: in the bundle, and not ours to sign with.
    pub(crate) others: Vec<AuthorityRow>,
    /// In the bundle as well, but not ours to sign with.
    pub(crate) appended: Vec<AppendedRow>,
    /// What the upstream authority has in its bundle.
    pub(crate) above: Above,
}

/// One authority.
#[derive(Clone, Debug)]
pub(crate) struct AuthorityRow {
    /// X.509: the subject key identifier in hex. JWT and WIT: the key ID.
    pub(crate) id: String,
    pub(crate) kind: Kind,
    pub(crate) slot: Slot,
    pub(crate) key_name: String,
    /// X.509 only.
    pub(crate) certificate: Option<Certificate>,
    /// `None` for one that signs itself, which is a root of its own.
    pub(crate) descent: Option<Descent>,
    pub(crate) public_key: PublicKey,
    pub(crate) created_at: UnixTime,
    pub(crate) activated_at: Option<UnixTime>,
    pub(crate) not_before: UnixTime,
    pub(crate) not_after: UnixTime,
    /// End of the longest SVID it has signed. Written with each record, never by the journal.
    pub(crate) last_svid_ends: Option<UnixTime>,
    /// Whether what it signed is to be replaced; such a one never signs again.
    pub(crate) tainted: bool,
}

/// What an authority signs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    X509,
    Jwt,
    Wit,
}

/// Where an authority is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Slot {
    /// In the bundle already, so that everybody knows it before it signs.
    Prepared,
    /// Signs.
    Active,
    /// Signs no more; in the bundle until its last SVID has expired.
    Old,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::X509, Self::Jwt, Self::Wit];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::X509 => "x509",
            Self::Jwt => "jwt",
            Self::Wit => "wit",
        }
    }
}

impl Slot {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Active => "active",
            Self::Old => "old",
        }
    }
}

impl Journal {
    /// The bundle of all authorities, our own first. Of X.509 those that sign themselves; the others stand under a root that is here too.
    pub(crate) fn bundle(&self, trust_domain: &TrustDomain) -> Result<Bundle, BundleError> {
        let mut signing: Vec<_> = self.signing().collect();
        if !self.others.is_empty() {
            // Of one sequence there is one bundle, whichever server is asked.
            signing.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        }
        let mut x509: Vec<_> = signing.iter().filter_map(|row| own_root(row)).collect();
        let mut jwt: Vec<_> = signing
            .iter()
            .filter(|row| row.kind == Kind::Jwt)
            .map(|row| own_jwt(row))
            .collect();
        for row in self.appended.iter().filter(|row| !row.revoked) {
            match &row.key {
                AppendedKey::X509(more) if x509.iter().all(|a| a.certificate != more.certificate) => {
                    x509.push(more.clone());
                }
                AppendedKey::Jwt(more) if !self.signing().any(|row| row.is_token(&more.key_id)) => {
                    jwt.push(more.clone());
                }
                // Our own now, by a backup that was restored: it stands there once.
                AppendedKey::X509(_) | AppendedKey::Jwt(_) => {}
            }
        }
        for more in self.above.x509() {
            let revoked = self.was_revoked(&AppendedKey::X509(more.clone()));
            if !revoked && x509.iter().all(|known| known.certificate != more.certificate) {
                x509.push(more);
            }
        }
        for more in &self.above.jwt {
            // Ours, and those below, come back from above: what we say of them counts.
            let key = AppendedKey::Jwt(more.authority.clone());
            let revoked = more.revoked || self.was_revoked(&key);
            if !revoked && jwt.iter().all(|known| known.key_id != more.authority.key_id) {
                jwt.push(more.authority.clone());
            }
        }
        let wit = signing
            .iter()
            .filter(|row| row.kind == Kind::Wit)
            .map(|row| WitAuthority {
                key_id: row.id.clone(),
                public_key: row.public_key.clone(),
                expires_at: Some(row.not_after),
                tainted: row.tainted,
            });
        Ok(Bundle::new(trust_domain.clone())
            .with_x509_authorities(x509)?
            .with_jwt_authorities(jwt)?
            .with_wit_authorities(wit.collect())?
            .with_sequence(self.sequence)
            .with_refresh_hint(Some(REFRESH_HINT)))
    }

    /// All that sign here, ours first.
    pub(crate) fn signing(&self) -> impl Iterator<Item = &AuthorityRow> {
        self.rows.iter().chain(&self.others)
    }

    /// Whether a prepared authority of this kind is to wait: others sign already, so there may be agents, and not all of them know it yet.
    pub(super) fn must_wait(&self, kind: Kind, age: impl Fn(&AuthorityRow) -> Duration) -> bool {
        self.wait_left(kind, age).is_some()
    }

    /// For how long it is to wait. `age` is asked of our own alone: others have clocks of their own.
    pub(super) fn wait_left(&self, kind: Kind, age: impl Fn(&AuthorityRow) -> Duration) -> Option<Duration> {
        let mut others = self.others.iter().filter(|row| row.kind == kind);
        let next = self.rows.iter().filter(|row| row.kind == kind);
        let next = next
            .filter(|row| row.slot == Slot::Prepared)
            .max_by_key(|row| row.created_at);
        let next = next.filter(|row| row.activated_at.is_none())?;
        if self.stands_on_known(next, &age) {
            return None;
        }
        let left = SETTLE.saturating_sub(age(next));
        (!left.is_zero() && others.any(|row| row.activated_at.is_some())).then_some(left)
    }

    /// Whether an authority that another signed can be verified by everybody already: another of ours has stood under its root for long enough,
    /// or one of another server signs under it, which has waited by its own clock.
    fn stands_on_known(&self, next: &AuthorityRow, age: impl Fn(&AuthorityRow) -> Duration) -> bool {
        let Some(root) = root_of(next).filter(|root| self.above.trusts(root)) else {
            return false;
        };
        let under = |row: &&AuthorityRow| row.id != next.id && !row.tainted && root_of(row) == Some(root);
        let mut ours = self.rows.iter().filter(under);
        let mut others = self.others.iter().filter(under);
        ours.any(|row| age(row) >= SETTLE) || others.any(|row| row.activated_at.is_some())
    }

    /// Whether this X.509 authority of ours may sign: the bundle verifies it. A server beside us may have taken its root out, or have tainted it
    /// after a wait: then whatever is signed under it would be replaced at once, and again, and end with the revocation.
    pub(super) fn verifies(&self, id: &str) -> bool {
        let root = self.rows.iter().find(|row| row.id == id).and_then(root_of);
        root.is_none_or(|root| {
            if !self.others.is_empty() {
                return self.above.trusts(root);
            }
            let mut believed = self.above.x509();
            believed.any(|known| root_id(&known.certificate) == root)
        })
    }

    /// Those of ours that stand under a root which a server beside us has given up, and are not doomed yet.
    pub(super) fn stranded(&self) -> Option<Vec<AuthorityRow>> {
        let stranded =
            |row: &AuthorityRow| !row.tainted && root_of(row).is_some_and(|root| !self.above.trusts(root));
        self.rows.iter().any(stranded).then(|| {
            let mut rows = self.rows.clone();
            rows.iter_mut().for_each(|row| row.tainted |= stranded(row));
            rows
        })
    }

    /// Whether an operator has taken this one, which signs elsewhere, out of the bundle.
    fn was_revoked(&self, key: &AppendedKey) -> bool {
        let mut revoked = self.appended.iter().filter(|row| row.revoked);
        revoked.any(|row| row.key.kind() == key.kind() && row.key.id() == key.id())
    }
}

impl AuthorityRow {
    /// Whether it is the JWT or WIT authority of this key ID.
    pub(crate) fn is_token(&self, key_id: &str) -> bool {
        self.kind != Kind::X509 && self.id == key_id
    }
}

fn own_root(row: &AuthorityRow) -> Option<X509Authority> {
    let certificate = row.certificate.clone().filter(|_| row.descent.is_none())?;
    Some(X509Authority {
        certificate,
        tainted: row.tainted,
    })
}

pub(super) fn own_jwt(row: &AuthorityRow) -> JwtAuthority {
    JwtAuthority {
        key_id: row.id.clone(),
        public_key: row.public_key.clone(),
        expires_at: Some(row.not_after),
        tainted: row.tainted,
    }
}

/// What is done to an authority of another server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OtherChange {
    /// See [`AuthorityRow::tainted`].
    Taint,
    /// It is in no bundle any more.
    Revoke,
}

/// An agent that is online has the bundle by then. Servers that have not heard of the database for two seconds send agents away, a commit may
/// take nine from when the authority was made, and an agent that is told nothing asks every five.
const SETTLE: Duration = Duration::from_secs(30);
/// How often those who follow the bundle should ask.
const REFRESH_HINT: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::fixture::{START, key, td};

    fn row(id: &str, slot: Slot, created_at: UnixTime, activated_at: Option<UnixTime>) -> AuthorityRow {
        AuthorityRow {
            id: id.to_owned(),
            kind: Kind::Jwt,
            slot,
            key_name: id.to_owned(),
            certificate: None,
            descent: None,
            public_key: key(),
            created_at,
            activated_at,
            not_before: START,
            not_after: START.saturating_add(SETTLE * 1000),
            last_svid_ends: None,
            tainted: false,
        }
    }

    fn by(now: UnixTime) -> impl Fn(&AuthorityRow) -> Duration {
        move |row| now.since(row.created_at)
    }

    #[test]
    fn a_new_authority_waits_while_others_sign_and_no_longer_than_that() {
        let new = row("new", Slot::Prepared, START, None);
        let mut journal = Journal {
            rows: vec![new],
            ..Journal::default()
        };
        let late = START.saturating_add(SETTLE);
        assert!(
            !journal.must_wait(Kind::Jwt, by(START)),
            "the first of all signs at once"
        );
        journal.others = vec![row("rival", Slot::Prepared, START, None)];
        assert!(
            !journal.must_wait(Kind::Jwt, by(START)),
            "one of two that begin together has to be first"
        );
        journal.others[0].activated_at = Some(START);
        assert!(journal.must_wait(Kind::Jwt, by(START)));
        assert!(journal.must_wait(Kind::Jwt, by(late.saturating_sub(Duration::from_secs(1)))));
        assert!(!journal.must_wait(Kind::Jwt, by(late)));
        assert!(
            journal.must_wait(Kind::Jwt, by(START.saturating_sub(SETTLE))),
            "also by a clock that stepped back"
        );
        assert!(!journal.must_wait(Kind::Wit, by(START)), "of another kind");
        journal.rows[0].activated_at = Some(START);
        assert!(
            !journal.must_wait(Kind::Jwt, by(START)),
            "one that has signed is known"
        );
    }

    #[test]
    fn the_bundle_is_the_same_wherever_it_is_made() {
        let (a, b) = (
            row("a", Slot::Active, START, Some(START)),
            row("b", Slot::Active, START.saturating_sub(SETTLE), Some(START)),
        );
        let of = |rows: &AuthorityRow, others: &AuthorityRow| {
            let journal = Journal {
                rows: vec![rows.clone()],
                others: vec![others.clone()],
                ..Journal::default()
            };
            journal.bundle(&td()).unwrap()
        };
        let (one, other) = (of(&a, &b), of(&b, &a));
        assert_eq!(one.jwt_authorities(), other.jwt_authorities());
        assert_eq!(one.jwt_authorities()[0].key_id, "b", "the older first");
    }
}
