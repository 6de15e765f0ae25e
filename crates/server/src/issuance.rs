//! The only door to a signature: policy, sign, durable record, and only then does what was signed leave.
//!
//! Invariant: an SVID that anybody outside has seen has a committed record, and was built from an entry (or an administrator's
//! order) and a public key alone.

mod batch;
mod denials;
mod error;
mod going_on;
mod jwt;
mod later;
mod policy;
mod record;
mod requester;
mod ttls;
mod validity;
mod wit;
mod x509;

use std::sync::Arc;
use std::time::Duration;

use landfast_identity::{Certificate, PublicKey, SpiffeId, TrustDomain, UnixTime};
use landfast_lifecycle::SharedClock;

pub use error::IssueError;
pub(crate) use later::RungOrder;
pub use record::{IssuanceRecord, SvidKind};
pub use requester::{Requester, RequesterKind};
pub use ttls::Ttls;
pub use wit::{IssuedWit, WitRequest};

use crate::admission::Turn;
use crate::authority::Authorities;
use crate::datastore::Datastore;
use crate::ledger::Ledger;
use crate::quarantine::Quarantine;
use crate::registry::{Entry, MargoPaths, Registry};
use crate::reserve::Rules;
use x509::{Profile, X509Order};

/// Issues SVIDs.
pub struct Issuer {
    trust_domain: TrustDomain,
    ttls: Ttls,
    jwt_issuer: Option<String>,
    margo: MargoPaths,
    rules: Rules,
    authorities: Arc<Authorities>,
    datastore: Arc<dyn Datastore>,
    clock: SharedClock,
    quarantine: Arc<Quarantine>,
    ledger: Ledger,
    /// Who knows what goes on without the ledger; `None`: nothing does.
    registry: Option<Arc<Registry>>,
}

/// An X.509-SVID that was issued.
#[derive(Clone, Debug)]
pub struct IssuedX509 {
    /// Leaf first; the self-signed authority is left out.
    pub chain: Vec<Certificate>,
    /// Whose it is.
    pub id: SpiffeId,
    /// Its last second.
    pub not_after: UnixTime,
}

impl IssuedX509 {
    /// Its serial number, lower-case hex.
    pub fn serial_hex(&self) -> String {
        self.chain
            .first()
            .map(Certificate::serial_hex)
            .unwrap_or_default()
    }
}

/// A JWT-SVID that was issued.
#[derive(Clone)]
pub struct IssuedJwt {
    /// The token: whoever holds it is the subject.
    pub token: String,
    /// Whose it is.
    pub id: SpiffeId,
    /// When it was signed; its `iat` may be earlier, for slow clocks. Agents renew at half of what is between this and its end.
    pub issued_at: UnixTime,
    /// Its `exp`.
    pub expires_at: UnixTime,
}

/// Never the token.
impl std::fmt::Debug for IssuedJwt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IssuedJwt({}, until {})", self.id, self.expires_at)
    }
}

impl Issuer {
    pub(crate) fn new(
        trust_domain: TrustDomain,
        ttls: Ttls,
        jwt_issuer: Option<String>,
        (margo, rules): (MargoPaths, Rules),
        authorities: Arc<Authorities>,
        datastore: Arc<dyn Datastore>,
        clock: SharedClock,
    ) -> Self {
        Self {
            trust_domain,
            ttls,
            jwt_issuer,
            margo,
            rules,
            authorities,
            datastore,
            clock,
            quarantine: Quarantine::none(),
            ledger: Ledger::none(),
            registry: None,
        }
    }

    /// Nothing leaves while it holds.
    pub(crate) fn held_by(mut self, quarantine: Arc<Quarantine>) -> Self {
        self.quarantine = quarantine;
        self
    }

    /// What leaves has a record there.
    pub(crate) fn recording(mut self, ledger: Ledger) -> Self {
        self.ledger = ledger;
        self
    }

    /// What the policies there call availability first goes on without the ledger.
    pub(crate) fn going_on_by(mut self, registry: Arc<Registry>) -> Self {
        self.registry = Some(registry);
        self
    }

    /// The last door: whoever asks, in a quarantine nothing is signed but what the server shows in its own handshakes, and nothing that could not be
    /// recorded, but for what goes on without.
    fn is_open(&self, who: &Requester, id: &SpiffeId, entry_id: Option<&str>) -> Result<(), IssueError> {
        if let Err(error) = self.ledger.check()
            && !self.goes_on(who, id, entry_id)
        {
            return Err(error.into());
        }
        match who.kind {
            RequesterKind::Server => Ok(()),
            _ => Ok(self.quarantine.check()?),
        }
    }

    /// The lives it gives by default.
    pub fn ttls(&self) -> &Ttls {
        &self.ttls
    }

    /// An X.509-SVID for an entry. That the requester may have the entry is the caller's to know.
    ///
    /// # Errors
    /// As [`IssueError`] says; nothing was issued.
    pub async fn x509_for_entry(
        &self,
        who: &Requester,
        entry: &Entry,
        key: &PublicKey,
    ) -> Result<IssuedX509, IssueError> {
        let answer = self.sign_one_x509(who, self.order_for_entry(entry, key)).await;
        self.told(who, (&entry.spiffe_id, Some(&entry.id)), answer)
    }

    /// X.509-SVIDs for many entries in one commit; the answers are in the order of the requests. More urgent requests have their turn in between.
    pub(crate) async fn x509_batch(
        &self,
        who: &Requester,
        requests: Vec<(Arc<Entry>, PublicKey)>,
        turn: &Turn,
    ) -> Vec<Result<IssuedX509, IssueError>> {
        let orders = requests
            .iter()
            .map(|(entry, key)| self.order_for_entry(entry, key))
            .collect();
        let answers = self.sign_x509(who, orders, turn).await;
        let answers = answers.into_iter().zip(&requests);
        answers
            .map(|(answer, (entry, _))| self.told(who, (&entry.spiffe_id, Some(&entry.id)), answer))
            .collect()
    }

    /// A JWT-SVID for an entry.
    ///
    /// # Errors
    /// As [`IssueError`] says; nothing was issued.
    pub async fn jwt_for_entry(
        &self,
        who: &Requester,
        entry: &Entry,
        audience: &[String],
    ) -> Result<IssuedJwt, IssueError> {
        let answer = self.sign_jwt_for_entry(who, entry, audience).await;
        self.told(who, (&entry.spiffe_id, Some(&entry.id)), answer)
    }

    async fn sign_jwt_for_entry(
        &self,
        who: &Requester,
        entry: &Entry,
        audience: &[String],
    ) -> Result<IssuedJwt, IssueError> {
        let now = self.now()?;
        policy::subject(&entry.spiffe_id, &self.trust_domain)?;
        policy::live(entry, now)?;
        policy::margo(entry, self.margo)?;
        let order = jwt::JwtOrder {
            id: &entry.spiffe_id,
            audience,
            ttl: entry.jwt_svid_ttl.unwrap_or(self.ttls.jwt),
            ends_by: entry.expires_at,
            with_jti: entry.jwt_svid_include_jti,
            entry_id: Some(&entry.id),
        };
        self.sign_jwt(who, order, now).await
    }

    /// The SVID of an agent that has attested, or renews.
    ///
    /// # Errors
    /// As [`IssueError`] says; nothing was issued.
    pub async fn agent_svid(
        &self,
        who: &Requester,
        agent_id: &SpiffeId,
        key: &PublicKey,
    ) -> Result<IssuedX509, IssueError> {
        let checked = policy::agent(agent_id, &self.trust_domain);
        let order = checked.map(|()| X509Order::new(agent_id.clone(), key.clone(), self.ttls.agent));
        let answer = self.sign_one_x509(who, order).await;
        self.told(who, (agent_id, None), answer)
    }

    /// The certificate of an authority below ours, for a server that holds this entry: it can sign any identity of the trust domain. It ends
    /// with our authority and with the entry; of the request only the key is in it. Recorded under the ID of the trust domain.
    ///
    /// # Errors
    /// As [`IssueError`] says; nothing was issued.
    pub async fn subordinate_authority(
        &self,
        who: &Requester,
        entry: &Entry,
        key: &PublicKey,
        ttl: Option<Duration>,
    ) -> Result<IssuedX509, IssueError> {
        let now = self.now()?;
        let checked = policy::downstream(entry, &self.trust_domain).and_then(|()| policy::live(entry, now));
        let order = checked.map(|()| X509Order {
            ends_by: entry.expires_at,
            entry_id: Some(entry.id.clone()),
            profile: Profile::Authority,
            ..X509Order::new(self.trust_domain.id(), key.clone(), ttl.unwrap_or(self.ttls.ca))
        });
        let answer = self.sign_one_x509(who, order).await;
        self.told(who, (&self.trust_domain.id(), Some(&entry.id)), answer)
    }

    /// The SVID of a person who has logged in.
    ///
    /// # Errors
    /// As [`IssueError`] says; nothing was issued.
    pub async fn session_svid(
        &self,
        who: &Requester,
        id: &SpiffeId,
        ttl: Duration,
        key: &PublicKey,
    ) -> Result<IssuedX509, IssueError> {
        let checked = policy::session(id, &self.trust_domain);
        let order = checked.map(|()| X509Order::new(id.clone(), key.clone(), ttl));
        let answer = self.sign_one_x509(who, order).await;
        self.told(who, (id, None), answer)
    }

    /// The server's own SVID, for its TLS.
    ///
    /// # Errors
    /// As [`IssueError`] says; nothing was issued.
    pub async fn server_svid(&self, key: &PublicKey) -> Result<IssuedX509, IssueError> {
        let order = X509Order::new(SpiffeId::server(&self.trust_domain), key.clone(), self.ttls.x509);
        self.sign_one_x509(&Requester::server(), Ok(order)).await
    }

    /// An X.509-SVID by order of an administrator, without an entry.
    ///
    /// # Errors
    /// As [`IssueError`] says; nothing was issued.
    pub async fn mint_x509(
        &self,
        who: &Requester,
        id: &SpiffeId,
        dns_names: &[String],
        ttl: Option<Duration>,
        key: &PublicKey,
    ) -> Result<IssuedX509, IssueError> {
        let checked = policy::subject(id, &self.trust_domain)
            .and_then(|()| policy::dns_names(dns_names))
            .and_then(|()| policy::no_overlap(dns_names));
        let order = checked.map(|()| X509Order {
            dns_names: dns_names.to_vec(),
            ..X509Order::new(id.clone(), key.clone(), ttl.unwrap_or(self.ttls.x509))
        });
        let answer = self.sign_one_x509(who, order).await;
        self.told(who, (id, None), answer)
    }

    /// A JWT-SVID by order of an administrator, without an entry.
    ///
    /// # Errors
    /// As [`IssueError`] says; nothing was issued.
    pub async fn mint_jwt(
        &self,
        who: &Requester,
        id: &SpiffeId,
        audience: &[String],
        ttl: Option<Duration>,
    ) -> Result<IssuedJwt, IssueError> {
        let now = self.now()?;
        policy::subject(id, &self.trust_domain)?;
        let ttl = ttl.unwrap_or(self.ttls.jwt);
        let order = jwt::JwtOrder {
            id,
            audience,
            ttl,
            ends_by: None,
            with_jti: false,
            entry_id: None,
        };
        self.sign_jwt(who, order, now).await
    }

    /// What was issued to this identity and is still remembered, oldest first.
    ///
    /// # Errors
    /// The datastore fails.
    pub async fn records(&self, id: &SpiffeId) -> Result<Vec<IssuanceRecord>, IssueError> {
        Ok(self.datastore.records(id.clone()).await?)
    }

    fn order_for_entry(&self, entry: &Entry, key: &PublicKey) -> Result<X509Order, IssueError> {
        let now = self.now()?;
        policy::subject(&entry.spiffe_id, &self.trust_domain)?;
        policy::dns_names(&entry.dns_names)?;
        policy::live(entry, now)?;
        policy::margo(entry, self.margo)?;
        Ok(X509Order {
            dns_names: entry.dns_names.clone(),
            ends_by: entry.expires_at,
            entry_id: Some(entry.id.clone()),
            ..X509Order::new(
                entry.spiffe_id.clone(),
                key.clone(),
                entry.x509_svid_ttl.unwrap_or(self.ttls.x509),
            )
        })
    }

    fn now(&self) -> Result<UnixTime, IssueError> {
        self.clock.now().ok_or(IssueError::NoClock)
    }
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Issuer({})", self.trust_domain)
    }
}

#[cfg(test)]
mod tests;
