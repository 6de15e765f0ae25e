//! How much identity nodes may have ahead, for when they are cut off: what an entry's policy may ask for, and the sums it has to fit.
//!
//! Invariant: what is stored was judged here, and what is signed is judged here again: the server's bounds, and the entry, may have changed since.

use std::time::Duration;

use landfast_identity::UnixTime;

use crate::registry::{Entry, EntryPolicy};

/// See `[reserve]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReserveLimits {
    /// The longest reserve of X.509-SVIDs that an entry may ask for; zero: none may.
    pub longest: Duration,
    /// The longest life of a token for later; zero: none may be asked for.
    pub longest_token: Duration,
}

/// The server's bounds, and what they have to fit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) limits: ReserveLimits,
    /// Life of an authority.
    pub(crate) ca: Duration,
    /// Life of an X.509-SVID unless its entry says otherwise.
    pub(crate) x509: Duration,
}

impl ReserveLimits {
    /// Whether authorities live long enough: one signs until its last sixth, and what it signs then has to fit.
    ///
    /// # Errors
    /// The sum that does not fit.
    pub(crate) fn fit(&self, ca: Duration, x509: Duration) -> Result<(), ReserveError> {
        let needed = (self.longest + x509) * SHARE;
        if !self.longest.is_zero() && ca < needed {
            return Err(ReserveError::AuthorityTooShort {
                reserve: self.longest.as_secs(),
                ttl: x509.as_secs(),
                needed: needed.as_secs(),
                ca: ca.as_secs(),
            });
        }
        let needed = self.longest_token * SHARE;
        match ca < needed {
            true => Err(ReserveError::AuthorityTooShortForToken {
                token: self.longest_token.as_secs(),
                needed: needed.as_secs(),
                ca: ca.as_secs(),
            }),
            false => Ok(()),
        }
    }
}

impl Rules {
    /// What an entry may ask for, as it is now.
    ///
    /// # Errors
    /// The first bound that is passed.
    pub(crate) fn check(&self, policy: &EntryPolicy, entry: &Entry) -> Result<(), ReserveError> {
        policy.check()?;
        let asks = !policy.reserve.is_zero() || !policy.jwt_offline.is_empty();
        if asks && is_powerful(entry) {
            return Err(ReserveError::Powerful);
        }
        self.check_reserve(policy.reserve, self.ttl_of(entry))?;
        let longest = self.limits.longest_token;
        for token in &policy.jwt_offline {
            if longest.is_zero() {
                return Err(ReserveError::NoTokens);
            }
            if token.ttl > longest {
                return Err(ReserveError::TokenTooLong {
                    asked: token.ttl.as_secs(),
                    longest: longest.as_secs(),
                });
            }
        }
        Ok(())
    }

    fn check_reserve(&self, reserve: Duration, ttl: Duration) -> Result<(), ReserveError> {
        let longest = self.limits.longest;
        let (asked, ttl_secs) = (reserve.as_secs(), ttl.as_secs());
        if reserve.is_zero() {
            return Ok(());
        }
        if longest.is_zero() {
            return Err(ReserveError::NoReserve);
        }
        if reserve > longest {
            let longest = longest.as_secs();
            return Err(ReserveError::TooLong { asked, longest });
        }
        let rungs = rungs(reserve, ttl);
        if rungs > MAX_RUNGS {
            return Err(ReserveError::TooManyRungs {
                asked,
                ttl: ttl_secs,
                rungs,
            });
        }
        // An entry may have a longer TTL than those that the sum at the start was made with.
        ReserveLimits {
            longest: reserve,
            longest_token: Duration::ZERO,
        }
        .fit(self.ca, ttl)
    }

    /// How far ahead rungs may be signed for this entry: what its policy asks for, as far as the bounds of today allow it.
    ///
    /// # Errors
    /// There may be none at all.
    pub(crate) fn reserve_of(
        &self,
        policy: Option<&EntryPolicy>,
        entry: &Entry,
    ) -> Result<Duration, ReserveError> {
        let policy = policy.filter(|policy| !policy.reserve.is_zero());
        let policy = policy.ok_or(ReserveError::NotAskedFor)?;
        policy.check()?;
        if is_powerful(entry) {
            return Err(ReserveError::Powerful);
        }
        if self.limits.longest.is_zero() {
            return Err(ReserveError::NoReserve);
        }
        let step = step(self.ttl_of(entry));
        let most = step.saturating_mul(u32::try_from(MAX_RUNGS - 1).unwrap_or(u32::MAX));
        Ok(policy.reserve.min(self.limits.longest).min(most))
    }

    /// How long a token for this audience may live.
    ///
    /// # Errors
    /// There may be none.
    pub(crate) fn token_of(
        &self,
        policy: Option<&EntryPolicy>,
        entry: &Entry,
        audience: &str,
    ) -> Result<Duration, ReserveError> {
        let policy = policy.ok_or(ReserveError::NotDeclared)?;
        policy.check()?;
        if is_powerful(entry) {
            return Err(ReserveError::Powerful);
        }
        let mut declared = policy.jwt_offline.iter();
        let declared = declared.find(|token| token.audience == audience);
        let ttl = declared.ok_or(ReserveError::NotDeclared)?.ttl;
        let longest = self.limits.longest_token.min(LONGEST_TOKEN);
        match longest.is_zero() {
            true => Err(ReserveError::NoTokens),
            false => Ok(ttl.min(longest)),
        }
    }

    /// Whether a node has room for all that its entries ask for.
    ///
    /// # Errors
    /// It has not.
    pub(crate) fn check_node<'a>(
        &self,
        entries: impl Iterator<Item = (&'a Entry, &'a EntryPolicy)>,
    ) -> Result<(), ReserveError> {
        let all = entries.map(|(entry, policy)| rungs(policy.reserve, self.ttl_of(entry)));
        let rungs: u64 = all.sum();
        match rungs.saturating_mul(RUNG) > MAX_NODE {
            true => Err(ReserveError::NodeFull { rungs }),
            false => Ok(()),
        }
    }

    /// How many rungs of an entry one node may have that are neither spent nor revoked: its reserve, once more for an entry or an authority that was
    /// changed, and what is under way.
    pub(crate) fn most_ahead(
        &self,
        policy: Option<&EntryPolicy>,
        entry: &Entry,
    ) -> Result<u64, ReserveError> {
        let reserve = self.reserve_of(policy, entry)?;
        Ok(2 * (rungs(reserve, self.ttl_of(entry)) + BATCH))
    }

    pub(crate) fn ttl_of(&self, entry: &Entry) -> Duration {
        entry.x509_svid_ttl.unwrap_or(self.x509)
    }
}

/// Who holds such an identity can make others: none is to lie about on a node that nobody reaches.
pub(crate) fn is_powerful(entry: &Entry) -> bool {
    entry.admin || entry.downstream
}

/// From one rung to the next: half of what each lives, so that at any moment one is good and the next about to be.
fn step(ttl: Duration) -> Duration {
    Duration::from_secs((ttl.as_secs() / 2).max(1))
}

/// How many rungs a reserve takes.
fn rungs(reserve: Duration, ttl: Duration) -> u64 {
    match reserve.as_secs() {
        0 => 0,
        reserve => reserve.div_ceil(step(ttl).as_secs()) + 1,
    }
}

/// Why an entry may not have what its policy asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReserveError {
    /// The policy of the entry asks for none.
    #[error("the policy of the entry asks for no offline reserve")]
    NotAskedFor,
    /// Not this audience.
    #[error("the policy of the entry declares no offline token for this audience")]
    NotDeclared,
    /// Privileged entries have none.
    #[error(
        "a privileged entry has no offline reserve and no offline tokens: take away the one or the other"
    )]
    Privileged,
    /// Nor have those of administrators and of servers below.
    #[error("an entry with `admin` or `downstream` has no offline reserve and no offline tokens")]
    Powerful,
    /// What lies about would become powerful.
    #[error(
        "nodes have identities of this SPIFFE ID ahead until {until}, and one with `admin` or `downstream` is not to lie about: take the offline reserve \
         from the entry that has it first, which marks them as revoked, or wait"
    )]
    Ahead {
        /// When the last of them ends.
        until: UnixTime,
    },
    /// The server gives none.
    #[error("no entry may ask for an offline reserve: [reserve] longest is 0s in the server's configuration")]
    NoReserve,
    /// The server gives none.
    #[error(
        "no entry may ask for offline tokens: [reserve] longest_token is 0s in the server's configuration"
    )]
    NoTokens,
    /// Longer than the server gives.
    #[error("an offline reserve of {asked} s is longer than [reserve] longest, which is {longest} s")]
    TooLong {
        /// What was asked for.
        asked: u64,
        /// The bound.
        longest: u64,
    },
    /// More than an entry may have.
    #[error(
        "an offline reserve of {asked} s with a TTL of {ttl} s takes {rungs} X.509-SVIDs, one for each half of the TTL and one: more than {MAX_RUNGS}; \
         ask for less, or have them live longer"
    )]
    TooManyRungs {
        /// What was asked for.
        asked: u64,
        /// Life of each.
        ttl: u64,
        /// How many.
        rungs: u64,
    },
    /// More than a node may have.
    #[error(
        "with this the entries of one node ask for {rungs} X.509-SVIDs at {RUNG} bytes: more than {} MiB on its disk",
        MAX_NODE / (1024 * 1024)
    )]
    NodeFull {
        /// How many.
        rungs: u64,
    },
    /// Authorities do not live long enough.
    #[error(
        "6 x (reserve {reserve} s + TTL {ttl} s) is {needed} s, longer than authorities live, which is ttl.ca = {ca} s"
    )]
    AuthorityTooShort {
        /// The reserve.
        reserve: u64,
        /// Life of an SVID.
        ttl: u64,
        /// The sum.
        needed: u64,
        /// What there is.
        ca: u64,
    },
    /// Authorities do not live long enough.
    #[error(
        "6 x {token} s for offline tokens is {needed} s, longer than authorities live, which is ttl.ca = {ca} s"
    )]
    AuthorityTooShortForToken {
        /// Life of a token.
        token: u64,
        /// The sum.
        needed: u64,
        /// What there is.
        ca: u64,
    },
    /// A token that lives longer than the server allows.
    #[error("an offline token of {asked} s lives longer than [reserve] longest_token, which is {longest} s")]
    TokenTooLong {
        /// What was asked for.
        asked: u64,
        /// The bound.
        longest: u64,
    },
    /// Not a whole number of seconds that means something.
    #[error("an offline token lives from 1 s to {} s", LONGEST_TOKEN.as_secs())]
    TokenLife,
    /// Not an audience.
    #[error("an audience has 1 to {MAX_AUDIENCE} bytes and no control character")]
    Audience,
    /// One audience twice.
    #[error("audience {audience:?} stands twice")]
    AudienceTwice {
        /// Which.
        audience: String,
    },
    /// More audiences than an entry may have.
    #[error("an entry has offline tokens for at most {MAX_AUDIENCES} audiences")]
    TooManyAudiences,
}

impl EntryPolicy {
    /// What holds whatever the server and the entry are like.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub(crate) fn check(&self) -> Result<(), ReserveError> {
        if self.privileged && (!self.reserve.is_zero() || !self.jwt_offline.is_empty()) {
            return Err(ReserveError::Privileged);
        }
        if self.jwt_offline.len() > MAX_AUDIENCES {
            return Err(ReserveError::TooManyAudiences);
        }
        for (at, token) in self.jwt_offline.iter().enumerate() {
            let audience = &token.audience;
            let is_text =
                (1..=MAX_AUDIENCE).contains(&audience.len()) && !audience.chars().any(char::is_control);
            if !is_text {
                return Err(ReserveError::Audience);
            }
            if self.jwt_offline[..at]
                .iter()
                .any(|other| other.audience == *audience)
            {
                return Err(ReserveError::AudienceTwice {
                    audience: audience.clone(),
                });
            }
            if token.ttl.is_zero() || token.ttl > LONGEST_TOKEN {
                return Err(ReserveError::TokenLife);
            }
        }
        Ok(())
    }
}

/// Of the life of an authority the last of so many parts is what it still has when it signs for the last time.
const SHARE: u32 = 6;
/// Rungs of one entry on one node.
pub(crate) const MAX_RUNGS: u64 = 512;
/// Rungs that one call asks for.
const BATCH: u64 = 64;
/// Rungs of one agent and entry that are neither spent nor revoked, whatever its policy says.
pub(crate) const MOST_AHEAD: u64 = 2 * (MAX_RUNGS + BATCH);
/// Rungs of all entries of a node, in bytes on its disk.
const MAX_NODE: u64 = 64 * 1024 * 1024;
/// One on a node's disk, sealed, with its key.
const RUNG: u64 = 1536;
const MAX_AUDIENCES: usize = 8;
const MAX_AUDIENCE: usize = 512;
/// Whatever the configuration says: who steals it has it until then.
pub(crate) const LONGEST_TOKEN: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests;
