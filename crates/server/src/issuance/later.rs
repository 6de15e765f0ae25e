//! What is signed to be used later, while its node is cut off. Invariant: only for what the policy of the entry asks for, as far as the bounds of
//! today allow it, and recorded as such before it leaves.

use std::sync::Arc;

use landfast_identity::{PublicKey, UnixTime};

use super::x509::{Window, X509Order};
use super::{IssueError, IssuedJwt, IssuedX509, Issuer, Requester, RequesterKind, jwt, policy};
use crate::admission::Turn;
use crate::registry::Versioned;

/// One rung that is asked for.
pub(crate) struct RungOrder {
    pub(crate) entry: Arc<Versioned>,
    pub(crate) key: PublicKey,
    pub(crate) begins: UnixTime,
}

impl Issuer {
    /// X.509-SVIDs that begin when their holder says, in one commit; the answers are in the order of the requests. That the requester may have the
    /// entries is the caller's to know.
    pub(crate) async fn rungs(
        &self,
        who: &Requester,
        requests: Vec<RungOrder>,
        turn: &Turn,
    ) -> Vec<Result<IssuedX509, IssueError>> {
        let orders = requests.iter().map(|request| self.rung(who, request)).collect();
        let answers = self.sign_x509(who, orders, turn).await;
        let answers = answers.into_iter().zip(&requests);
        answers
            .map(|(answer, request)| {
                let entry = &request.entry.entry;
                self.told(who, (&entry.spiffe_id, Some(&entry.id)), answer)
            })
            .collect()
    }

    /// How many rungs of this entry one node may have; `None`: none at all, for which there is another reason.
    pub(crate) fn most_ahead(&self, versioned: &Versioned) -> Option<u64> {
        let Versioned { entry, policy, .. } = versioned;
        self.rules.most_ahead(policy.as_deref(), entry).ok()
    }

    fn rung(&self, who: &Requester, request: &RungOrder) -> Result<X509Order, IssueError> {
        // The record says by its requester who has it.
        if !matches!(who.kind, RequesterKind::Agent(_)) {
            return Err(IssueError::Policy("only agents have rungs".to_owned()));
        }
        let Versioned { entry, policy, .. } = &*request.entry;
        let reserve = self.rules.reserve_of(policy.as_deref(), entry)?;
        let window = Window {
            begins: request.begins,
            reserve,
        };
        Ok(X509Order {
            begins: Some(window),
            ..self.order_for_entry(entry, &request.key)?
        })
    }

    /// A JWT-SVID for one of the audiences that the policy of the entry declares.
    ///
    /// # Errors
    /// As [`IssueError`] says; nothing was issued.
    pub(crate) async fn token_for_later(
        &self,
        who: &Requester,
        versioned: &Versioned,
        audience: &str,
    ) -> Result<IssuedJwt, IssueError> {
        let Versioned { entry, policy, .. } = versioned;
        let now = self.now()?;
        policy::subject(&entry.spiffe_id, &self.trust_domain)?;
        policy::live(entry, now)?;
        policy::margo(entry, self.margo)?;
        let ttl = self.rules.token_of(policy.as_deref(), entry, audience)?;
        let order = jwt::JwtOrder {
            id: &entry.spiffe_id,
            audience: &[audience.to_owned()],
            ttl,
            ends_by: entry.expires_at,
            with_jti: entry.jwt_svid_include_jti,
            entry_id: Some(&entry.id),
        };
        self.sign_jwt(who, order, now).await
    }
}
