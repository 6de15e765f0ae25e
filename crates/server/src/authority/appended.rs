//! Authorities of our trust domain that sign elsewhere: what servers below this one publish, and what operators append.
//!
//! Invariant: a key ID has one key; none is in the bundle for longer than a day after its end, and none that was revoked before all have passed
//! that could be claimed for it then; one publisher cannot fill the bundle, and all of them together leave room for our own.

mod orders;

use std::sync::Arc;
use std::time::Duration;

use landfast_identity::{Bundle, JwtAuthority, UnixTime, X509Authority};

pub(crate) use orders::Ordered;

use super::journal::{Journal, Kind};
use super::{Authorities, AuthorityError};
use crate::issuance::{Requester, RequesterKind};
use crate::random;

/// One of them, and who brought it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct AppendedRow {
    pub(crate) key: AppendedKey,
    /// The publisher, as the log has it.
    pub(crate) by: String,
    pub(crate) at: UnixTime,
    /// In no bundle any more, and to stay out of it.
    pub(crate) revoked: bool,
}

/// What it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum AppendedKey {
    X509(X509Authority),
    Jwt(JwtAuthority),
}

impl AppendedKey {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::X509(_) => Kind::X509,
            Self::Jwt(_) => Kind::Jwt,
        }
    }

    /// What it is stored by: certificates may share a key, and a key ID names one key.
    pub(crate) fn id(&self) -> String {
        match self {
            Self::X509(x509) => random::hex(&x509.certificate.fingerprint_sha256()),
            Self::Jwt(jwt) => jwt.key_id.clone(),
        }
    }

    pub(crate) fn tainted(&self) -> bool {
        match self {
            Self::X509(x509) => x509.tainted,
            Self::Jwt(jwt) => jwt.tainted,
        }
    }

    fn taint(&mut self) {
        match self {
            Self::X509(x509) => x509.tainted = true,
            Self::Jwt(jwt) => jwt.tainted = true,
        }
    }
}

impl AppendedRow {
    /// A JWT key without an end is taken for one that ended when it came, as SPIRE's pruning takes it.
    fn ends(&self) -> UnixTime {
        match &self.key {
            AppendedKey::X509(x509) => x509.certificate.not_after(),
            AppendedKey::Jwt(jwt) => jwt.expires_at.unwrap_or(self.at),
        }
    }

    /// Another look at the same authority: the later end counts, and a taint stays. Nobody shortens what another has published.
    fn absorb(&mut self, again: &Self) -> Result<(), AppendError> {
        if self.revoked {
            return Err(AppendError::Revoked { id: self.key.id() });
        }
        if again.key.tainted() {
            self.key.taint();
        }
        let later = again.ends() > self.ends();
        if let (AppendedKey::Jwt(known), AppendedKey::Jwt(said)) = (&mut self.key, &again.key) {
            if known.public_key != said.public_key {
                return Err(taken(said));
            }
            if later {
                known.expires_at = said.expires_at;
            }
        }
        Ok(())
    }
}

impl Authorities {
    /// Puts authorities into the bundle that are not ours to sign with, and returns the bundle that has them. What is in it already stays
    /// as it is, but for a later end.
    ///
    /// # Errors
    /// A key ID is another key's, there are too many, or nothing can be stored; then nothing has changed.
    pub(crate) async fn append(
        &self,
        keys: Vec<AppendedKey>,
        by: &Requester,
        now: UnixTime,
    ) -> Result<Arc<Bundle>, AppendError> {
        let wanted: Vec<AppendedRow> = keys
            .into_iter()
            .map(|key| AppendedRow {
                key,
                by: by.to_string(),
                at: now,
                revoked: false,
            })
            .collect();
        let share = match by.kind {
            RequesterKind::Downstream(_) => MAX_OF_ONE,
            _ => MAX_APPENDED,
        };
        for _ in 0..MAX_TRIES {
            let journal = self.datastore.journal().await.map_err(AuthorityError::from)?;
            let rows = merge(&journal, &wanted, share)?;
            if rows == journal.appended {
                self.adopt(&journal).await?;
                return Ok(self.bundle());
            }
            if self.commit_appended(&journal, rows).await?.is_some() {
                return Ok(self.bundle());
            }
            // Somebody else was faster: look again.
        }
        Err(AppendError::Busy)
    }

    /// A key as a server below this one may publish it: it ends with that server's entry, and no later than an authority that is made
    /// here now, whatever was said. Without, a key that stole its way in would stay until an operator sees it.
    pub(crate) fn within_reach(
        &self,
        published: JwtAuthority,
        entry_ends: Option<UnixTime>,
        now: UnixTime,
    ) -> JwtAuthority {
        let said = published.expires_at;
        let latest = now.saturating_add(self.params.ca_ttl);
        JwtAuthority {
            expires_at: [said, entry_ends].into_iter().flatten().chain([latest]).min(),
            ..published
        }
    }

    /// Forgets those that ended more than a day ago.
    pub(super) async fn forget_appended(
        &self,
        journal: Journal,
        now: UnixTime,
    ) -> Result<Journal, AuthorityError> {
        let (over, stay): (Vec<_>, Vec<_>) = journal
            .appended
            .iter()
            .cloned()
            .partition(|row| now > row.ends().saturating_add(SAFETY));
        if over.is_empty() {
            return Ok(journal);
        }
        let Some(saved) = self.commit_appended(&journal, stay).await? else {
            return Ok(journal); // the next tick looks again
        };
        for row in over {
            let (kind, id, by) = (row.key.kind().as_str(), row.key.id(), row.by.as_str());
            tracing::info!(kind, id, by, "an appended authority has ended and was forgotten");
        }
        Ok(saved)
    }

    /// As [`Self::commit`]: what makes no bundle is never durable, since no server would start with it.
    async fn commit_appended(
        &self,
        before: &Journal,
        rows: Vec<AppendedRow>,
    ) -> Result<Option<Journal>, AuthorityError> {
        // All that can fail comes before the write, as in `commit`.
        let signers = self.signers(&before.rows).await?;
        let next = Journal {
            appended: rows.clone(),
            ..before.clone()
        };
        next.bundle(&self.params.trust_domain)?;
        let Some(saved) = self.datastore.save_appended(before.version, rows).await? else {
            return Ok(None);
        };
        self.put_in_force(&saved, signers)?;
        Ok(Some(saved))
    }
}

/// The appended ones with these among them.
fn merge(journal: &Journal, wanted: &[AppendedRow], share: usize) -> Result<Vec<AppendedRow>, AppendError> {
    let mut rows = journal.appended.clone();
    for new in wanted {
        if own(journal, &new.key)? {
            continue;
        }
        let (kind, id) = (new.key.kind(), new.key.id());
        match rows
            .iter_mut()
            .find(|row| row.key.kind() == kind && row.key.id() == id)
        {
            Some(known) => known.absorb(new)?,
            None => rows.push(new.clone()),
        }
    }
    let grown = rows.len() > journal.appended.len();
    if grown && rows.iter().filter(|row| !row.revoked).count() > MAX_APPENDED {
        return Err(AppendError::Full);
    }
    if grown && beside_ours(journal, &rows) > MAX_BESIDE {
        return Err(AppendError::Full);
    }
    let of_one = wanted
        .first()
        .map_or(0, |new| rows.iter().filter(|row| row.by == new.by).count());
    if grown && of_one > share {
        return Err(AppendError::Share);
    }
    Ok(rows)
}

/// How many the bundle has that do not sign here: these, and those known from above that are not among them.
fn beside_ours(journal: &Journal, appended: &[AppendedRow]) -> usize {
    let ours = |id: &str| journal.signing().any(|row| row.id == id);
    let known = |id: &str| {
        appended
            .iter()
            .any(|row| row.key.kind() == Kind::Jwt && row.key.id() == id)
    };
    let jwt = journal.above.jwt.iter().filter(|above| {
        let id = above.authority.key_id.as_str();
        !above.revoked && !ours(id) && !known(id)
    });
    appended.iter().filter(|row| !row.revoked).count() + jwt.count() + journal.above.x509().count()
}

/// Whether it is one of those that sign here.
fn own(journal: &Journal, key: &AppendedKey) -> Result<bool, AppendError> {
    match key {
        AppendedKey::X509(x509) => Ok(journal
            .signing()
            .any(|row| row.certificate.as_ref() == Some(&x509.certificate))),
        AppendedKey::Jwt(jwt) => {
            // A bundle has one key of a key ID, whatever it signs.
            match journal.signing().find(|row| row.is_token(&jwt.key_id)) {
                Some(row) if row.kind == Kind::Jwt && row.public_key == jwt.public_key => Ok(true),
                Some(_) => Err(taken(jwt)),
                None => beside(journal, jwt),
            }
        }
    }
}

/// One of another server of the trust domain, known from above. Never one that is ours to sign with.
fn beside(journal: &Journal, jwt: &JwtAuthority) -> Result<bool, AppendError> {
    let mut known = journal.above.jwt.iter();
    match known.any(|known| {
        known.authority.key_id == jwt.key_id
            && (known.revoked || known.authority.public_key != jwt.public_key)
    }) {
        true => Err(taken(jwt)),
        false => Ok(false),
    }
}

fn taken(jwt: &JwtAuthority) -> AppendError {
    AppendError::KeyIdTaken {
        key_id: jwt.key_id.clone(),
    }
}

/// Why authorities were not appended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppendError {
    #[error(
        "key ID {key_id:?} is that of another key in the bundle: make a new key with a key ID of its own"
    )]
    KeyIdTaken { key_id: String },
    #[error("authority {id:?} was revoked and stays out of the bundle: make a new key")]
    Revoked { id: String },
    #[error(
        "the bundle has {MAX_APPENDED} authorities that sign elsewhere, or {MAX_BESIDE} with those of an upstream authority, and takes no \
         more: each goes a day after it has expired; have servers below this one make new keys less often"
    )]
    Full,
    #[error(
        "{MAX_OF_ONE} authorities of this server are in the bundle, more are not accepted: each goes a day after it has expired; make new \
         keys less often"
    )]
    Share,
    #[error("the authorities keep changing: try again")]
    Busy,
    #[error("the authorities cannot be appended")]
    Failed {
        #[from]
        source: AuthorityError,
    },
}

/// Half of what a bundle may hold: the rest is for our own.
pub(crate) const MAX_APPENDED: usize = 128;
/// With those known from above, of the 256 that a bundle may hold.
pub(crate) const MAX_BESIDE: usize = 224;
/// Of one server below this one, those that were revoked among them.
pub(crate) const MAX_OF_ONE: usize = 64;
/// As long as our own stay after the last thing they signed has ended.
const SAFETY: Duration = Duration::from_secs(86_400);
const MAX_TRIES: usize = 8;

#[cfg(test)]
mod tests;
