//! What the upstream authority has in its bundle, as far as ours follows it. Pure.
//!
//! Invariant: the root that our active authority stands under is neither tainted nor dropped before another authority signs: the active one
//! is doomed instead, which makes the next one due. What was revoked here does not come back.

use landfast_identity::{Certificate, JwtAuthority, UnixTime, X509Authority};

use super::journal::{AuthorityRow, Journal, Kind, Slot};
use super::upstream::Seen;
use crate::random;

/// The authorities above ours, and those beside them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Above {
    pub(crate) roots: Vec<Root>,
    pub(crate) jwt: Vec<Neighbour>,
}

/// A certificate that SVIDs below it are verified with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) certificate: Certificate,
    pub(crate) trust: RootTrust,
}

/// A JWT key of the trust domain, ours among them when it has come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Neighbour {
    pub(crate) authority: JwtAuthority,
    /// Here. The upstream authority may have it still.
    pub(crate) revoked: bool,
}

/// How much it is believed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RootTrust {
    Trusted,
    /// Verifies, and what is below it is to be replaced.
    Tainted,
    /// Verifies nothing.
    Revoked,
}

impl RootTrust {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::Tainted => "tainted",
            Self::Revoked => "revoked",
        }
    }
}

impl Root {
    /// The key identifier in hex, by which operators name it.
    pub(crate) fn id(&self) -> String {
        root_id(&self.certificate)
    }
}

impl Above {
    /// Those that are in the bundle.
    pub(crate) fn x509(&self) -> impl Iterator<Item = X509Authority> {
        let believed = self.roots.iter().filter(|root| root.trust != RootTrust::Revoked);
        believed.map(|root| X509Authority {
            certificate: root.certificate.clone(),
            tainted: root.trust == RootTrust::Tainted,
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.roots.is_empty() && self.jwt.is_empty()
    }

    /// Whether anything may stand under this root.
    pub(crate) fn shuns(&self, id: &str) -> bool {
        let mut known = self.roots.iter().filter(|root| root.id() == id).peekable();
        known.peek().is_some() && known.all(|root| root.trust != RootTrust::Trusted)
    }

    /// Whether SVIDs under this root verify, and are meant to.
    pub(super) fn trusts(&self, id: &str) -> bool {
        let mut trusted = self.roots.iter().filter(|root| root.trust == RootTrust::Trusted);
        trusted.any(|root| root.id() == id)
    }

    /// These as well.
    pub(super) fn with(mut self, roots: &[X509Authority]) -> Self {
        for new in roots {
            if self.roots.iter().all(|root| root.certificate != new.certificate) {
                let trust = trust_of(new);
                self.roots.push(Root {
                    certificate: new.certificate.clone(),
                    trust,
                });
            }
        }
        self
    }

    /// This key verifies nothing here from now on, whoever names it.
    pub(crate) fn revoke_jwt(&mut self, row: &AuthorityRow) {
        match self.jwt.iter_mut().find(|known| known.authority.key_id == row.id) {
            Some(known) => known.revoked = true,
            None => self.jwt.push(Neighbour {
                authority: JwtAuthority {
                    key_id: row.id.clone(),
                    public_key: row.public_key.clone(),
                    expires_at: Some(row.not_after),
                    tainted: true,
                },
                revoked: true,
            }),
        }
    }
}

/// By this name operators and rows know a root: its key identifier in hex.
pub(crate) fn root_id(certificate: &Certificate) -> String {
    let stated = certificate.subject_key_id();
    random::hex(&stated.unwrap_or_else(|| certificate.public_key().key_id().to_vec()))
}

/// The journal after the upstream authority was looked at. One that is `complete` names everything that it believes; else what it does not
/// name stays while an authority of ours stands under it. What an authority of a server beside us signs under stays as well: who has waited for
/// that server for long enough leaves it out of the journal.
pub(super) fn follow(
    journal: &Journal,
    seen: &Seen,
    complete: bool,
    now: UnixTime,
) -> (Vec<AuthorityRow>, Above) {
    let mut rows = journal.rows.clone();
    let signs = |row: &AuthorityRow| row.kind == Kind::X509 && row.slot == Slot::Active;
    let signing = journal.rows.iter().find(|row| signs(row)).and_then(root_of);
    // A server beside us dooms its own: what is ours to do is to leave it the root meanwhile.
    let lends = |id: &str| {
        let mut others = journal
            .others
            .iter()
            .filter(|row| signs(row) && now < row.not_after);
        others.any(|row| root_of(row) == Some(id))
    };
    let mut doomed = false;
    // Another certificate of the same key does as well.
    let vouched = |id: &str| {
        let mut good = seen.roots.iter().filter(|root| !root.tainted);
        good.any(|root| root_id(&root.certificate) == id)
    };
    let mut above = Above {
        roots: Vec::with_capacity(seen.roots.len()),
        jwt: neighbours(&journal.above, seen, complete, now),
    };
    for known in &journal.above.roots {
        let id = known.id();
        let ours = signing == Some(id.as_str());
        let (needed, used) = (
            (ours || lends(&id)) && !vouched(&id),
            journal.signing().any(|row| root_of(row) == Some(id.as_str())),
        );
        let named = seen
            .roots
            .iter()
            .find(|root| root.certificate == known.certificate);
        let trust = match (named, known.trust) {
            (Some(_), RootTrust::Revoked | RootTrust::Tainted) => Some(known.trust),
            (Some(root), RootTrust::Trusted) if root.tainted && needed => {
                doomed |= ours;
                Some(RootTrust::Trusted)
            }
            (Some(root), RootTrust::Trusted) => Some(trust_of(root)),
            (None, RootTrust::Revoked) => None,
            (None, trust) if complete && needed => {
                doomed |= ours;
                Some(trust)
            }
            (None, trust) => (used && !complete).then_some(trust),
        };
        if let Some(trust) = trust {
            above.roots.push(Root {
                certificate: known.certificate.clone(),
                trust,
            });
        }
    }
    let above = above.with(&seen.roots);
    for row in &mut rows {
        // One whose root has left without a taint would sign what nothing verifies.
        let stranded = root_of(row).is_some_and(|id| !above.trusts(id));
        row.tainted |= stranded || (doomed && signs(row));
    }
    (rows, above)
}

fn neighbours(known: &Above, seen: &Seen, complete: bool, now: UnixTime) -> Vec<Neighbour> {
    let revoked = |id: &str| {
        known
            .jwt
            .iter()
            .any(|known| known.revoked && known.authority.key_id == id)
    };
    let mut jwt: Vec<Neighbour> = match complete {
        false => Vec::new(),
        true => seen
            .jwt
            .iter()
            .map(|authority| Neighbour {
                authority: authority.clone(),
                revoked: revoked(&authority.key_id),
            })
            .collect(),
    };
    // It may be on its way there, and come back.
    let stays = |known: &&Neighbour| {
        let over = known.authority.expires_at.is_some_and(|end| now > end);
        known.revoked
            && !over
            && jwt
                .iter()
                .all(|new| new.authority.key_id != known.authority.key_id)
    };
    let unnamed: Vec<Neighbour> = known.jwt.iter().filter(stays).cloned().collect();
    jwt.extend(unnamed);
    jwt
}

pub(super) fn root_of(row: &AuthorityRow) -> Option<&str> {
    row.descent.as_ref().map(|descent| descent.root.as_str())
}

fn trust_of(root: &X509Authority) -> RootTrust {
    match root.tainted {
        true => RootTrust::Tainted,
        false => RootTrust::Trusted,
    }
}

#[cfg(test)]
mod tests;
