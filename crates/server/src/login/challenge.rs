//! What a server asks with. Invariant: an answer is taken once, in its time, for the key that was named when it was asked for, by the process that
//! asked; who only asks makes the server remember nothing.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use landfast_identity::{PublicKey, UnixTime};
use ring::hmac;

use crate::random;

/// Makes questions and knows its own.
pub(crate) struct Challenges {
    key: hmac::Key,
    /// Those that were answered, with when they end. At most [`MAX_ANSWERED`].
    answered: Mutex<BTreeMap<[u8; NONCE], UnixTime>>,
}

/// Why an answer is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum ChallengeError {
    #[error("the question is none of this server, or for another key: ask it again over the same connection")]
    Foreign,
    #[error("the answer comes too late: log in again")]
    Late,
    #[error("the question was answered already: log in again")]
    Answered,
    #[error("too many logins at a time: wait a minute and log in again")]
    Crowd,
}

impl Challenges {
    /// `None` when the random source fails.
    pub(crate) fn new() -> Option<Self> {
        Some(Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &random::bytes::<32>()?),
            answered: Mutex::default(),
        })
    }

    /// One for this key, by its SHA-256; `None` when the random source fails.
    pub(crate) fn ask(&self, key: &[u8; 32], now: UnixTime) -> Option<Vec<u8>> {
        let mut challenge = random::bytes::<NONCE>()?.to_vec();
        challenge.extend_from_slice(&now.as_secs().to_be_bytes());
        let tag = hmac::sign(&self.key, &[&challenge[..], key].concat());
        challenge.extend_from_slice(tag.as_ref());
        Some(challenge)
    }

    /// Whether it was asked for this key, not longer ago than this. Before anything else of the answer is looked at.
    pub(crate) fn check(
        &self,
        challenge: &[u8],
        key: &PublicKey,
        life: Duration,
        now: UnixTime,
    ) -> Result<(), ChallengeError> {
        let (asked, tag) = challenge.split_at_checked(ASKED).ok_or(ChallengeError::Foreign)?;
        hmac::verify(&self.key, &[asked, &key.sha256()].concat(), tag)
            .map_err(|_unspecified| ChallengeError::Foreign)?;
        let (_, at) = taken_apart(asked)?;
        match now < at.saturating_add(life) && at <= now.saturating_add(SLACK) {
            true => Ok(()),
            false => Err(ChallengeError::Late),
        }
    }

    /// Takes the answer, which is right and of somebody's login: the next one to the same question is not. Of nobody's there is no end.
    pub(crate) fn spend(&self, challenge: &[u8], now: UnixTime) -> Result<(), ChallengeError> {
        let (nonce, at) = taken_apart(challenge.get(..ASKED).ok_or(ChallengeError::Foreign)?)?;
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.retain(|_, ends| now < *ends);
        if answered.contains_key(&nonce) {
            return Err(ChallengeError::Answered);
        }
        if answered.len() >= MAX_ANSWERED {
            return Err(ChallengeError::Crowd);
        }
        answered.insert(nonce, at.saturating_add(LONGEST + SLACK));
        Ok(())
    }
}

fn taken_apart(asked: &[u8]) -> Result<([u8; NONCE], UnixTime), ChallengeError> {
    let foreign = |_length| ChallengeError::Foreign;
    let (nonce, at) = asked.split_at_checked(NONCE).ok_or(ChallengeError::Foreign)?;
    let (nonce, at) = (
        nonce.try_into().map_err(foreign)?,
        at.try_into().map_err(foreign)?,
    );
    Ok((nonce, UnixTime::from_secs(i64::from_be_bytes(at))))
}

/// For an answer by a key that is at hand.
pub(crate) const SOON: Duration = Duration::from_secs(120);
/// For one that somebody has to be asked for, at a provider.
pub(crate) const LONGEST: Duration = Duration::from_secs(600);
/// By which the clock may go back in between.
const SLACK: Duration = Duration::from_secs(60);
const NONCE: usize = 32;
const ASKED: usize = NONCE + 8;
/// Each by the login of a person.
const MAX_ANSWERED: usize = 4096;

#[cfg(test)]
mod tests {
    use landfast_identity::PrivateKey;

    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    fn key() -> PublicKey {
        PrivateKey::generate().unwrap().public_key()
    }

    #[test]
    fn a_question_is_for_one_key_of_one_server_for_its_time() {
        let (ours, theirs) = (Challenges::new().unwrap(), Challenges::new().unwrap());
        let (mine, other) = (key(), key());
        let asked = ours.ask(&mine.sha256(), NOW).unwrap();
        assert_ne!(asked, ours.ask(&mine.sha256(), NOW).unwrap());
        let check = |by: &Challenges, asked: &[u8], key, at| by.check(asked, key, SOON, at);
        assert_eq!(check(&ours, &asked, &mine, NOW), Ok(()));
        assert_eq!(check(&ours, &asked, &other, NOW), Err(ChallengeError::Foreign));
        assert_eq!(check(&theirs, &asked, &mine, NOW), Err(ChallengeError::Foreign));
        let last = NOW.saturating_add(SOON - Duration::from_secs(1));
        assert_eq!(check(&ours, &asked, &mine, last), Ok(()));
        assert_eq!(
            check(&ours, &asked, &mine, NOW.saturating_add(SOON)),
            Err(ChallengeError::Late)
        );
        let before = NOW.saturating_sub(SLACK + Duration::from_secs(1));
        assert_eq!(check(&ours, &asked, &mine, before), Err(ChallengeError::Late));
        for at in 0..asked.len() {
            let mut broken = asked.clone();
            broken[at] ^= 1;
            assert_eq!(
                check(&ours, &broken, &mine, NOW),
                Err(ChallengeError::Foreign),
                "{at}"
            );
            assert!(check(&ours, &asked[..at], &mine, NOW).is_err());
        }
    }

    #[test]
    fn an_answer_is_taken_once_and_what_is_over_is_forgotten() {
        let ours = Challenges::new().unwrap();
        let mine = key().sha256();
        let (one, two) = (ours.ask(&mine, NOW).unwrap(), ours.ask(&mine, NOW).unwrap());
        assert_eq!(ours.spend(&one, NOW), Ok(()));
        assert_eq!(ours.spend(&one, NOW), Err(ChallengeError::Answered));
        let last = NOW.saturating_add(LONGEST);
        assert_eq!(
            ours.spend(&one, last),
            Err(ChallengeError::Answered),
            "while it may be in time"
        );
        assert_eq!(ours.spend(&two, last), Ok(()));
        for _ in 0..MAX_ANSWERED - 2 {
            ours.spend(&ours.ask(&mine, last).unwrap(), last).unwrap();
        }
        let next = ours.ask(&mine, last).unwrap();
        assert_eq!(ours.spend(&next, last), Err(ChallengeError::Crowd));
        assert_eq!(
            ours.spend(&next, last.saturating_add(SLACK)),
            Ok(()),
            "the first two are over"
        );
    }
}
