//! The age file format, version 1 (<https://age-encryption.org/v1>), as far as a backup needs it: X25519 recipients and passphrases, binary.
//! What is sealed here is opened by `age`, and the other way round.
//!
//! Invariant: nothing of the content is given out before header and content are authenticated, whole.

mod bech32;
mod header;
mod scrypt;
mod stream;
mod x25519;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

pub(crate) use x25519::{Identity, Recipient};

use header::{Header, Stanza};

/// Whom something is sealed for.
#[derive(Debug)]
pub(crate) enum Lock {
    /// Each of them can open it.
    Recipients(Vec<Recipient>),
    /// Whoever knows the passphrase, after `2^log_n` rounds of work.
    Passphrase { passphrase: Passphrase, log_n: u8 },
}

/// What opens it.
#[derive(Debug)]
pub(crate) enum Unlock {
    Identities(Vec<Identity>),
    Passphrase(Passphrase),
}

/// Bytes that a person or a program chose.
pub(crate) struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    pub(crate) const fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

/// Seals these bytes.
pub(crate) fn seal(plain: &[u8], lock: &Lock) -> Result<Vec<u8>, AgeError> {
    let mut file_key = Zeroizing::new([0; FILE_KEY]);
    random(&mut file_key[..])?;
    let stanzas = match lock {
        Lock::Recipients(recipients) => recipients
            .iter()
            .map(|recipient| x25519::wrap(recipient, &file_key))
            .collect::<Result<_, _>>()?,
        Lock::Passphrase { passphrase, log_n } => vec![wrap_scrypt(passphrase, *log_n, &file_key)?],
    };
    let mut sealed = header::write(&stanzas, &file_key);
    stream::seal(plain, &file_key, &mut sealed)?;
    Ok(sealed)
}

/// Gives back what was sealed.
pub(crate) fn open(sealed: &[u8], unlock: &Unlock) -> Result<Zeroizing<Vec<u8>>, AgeError> {
    let header = header::read(sealed)?;
    let file_key = match unlock {
        Unlock::Passphrase(passphrase) => unwrap_scrypt(&header, passphrase)?,
        Unlock::Identities(identities) => {
            let mut tries = identities
                .iter()
                .flat_map(|identity| header.stanzas.iter().map(move |stanza| (identity, stanza)));
            let found = tries.find_map(|(identity, stanza)| x25519::unwrap(identity, stanza).transpose());
            found.ok_or(AgeError::NotForUs)??
        }
    };
    header.verify(&file_key)?;
    stream::open(header.payload, &file_key)
}

fn wrap_scrypt(passphrase: &Passphrase, log_n: u8, file_key: &FileKey) -> Result<Stanza, AgeError> {
    let mut salt = [0; SALT];
    random(&mut salt)?;
    let key = scrypt::key(&passphrase.0, &salt, log_n)?;
    Ok(Stanza {
        args: vec![SCRYPT.to_owned(), header::base64(&salt), log_n.to_string()],
        body: wrap(&key, file_key)?,
    })
}

fn unwrap_scrypt(header: &Header<'_>, passphrase: &Passphrase) -> Result<FileKey, AgeError> {
    let [stanza] = &header.stanzas[..] else {
        return Err(AgeError::NotForUs);
    };
    let [kind, salt, log_n] = &stanza.args[..] else {
        return Err(AgeError::NotForUs);
    };
    if kind != SCRYPT {
        return Err(AgeError::NotForUs);
    }
    let salt = header::unbase64(salt).filter(|salt| salt.len() == SALT);
    let salt = salt.ok_or(AgeError::Malformed("the salt of its passphrase"))?;
    let work = log_n.parse::<u8>().ok().filter(|work| work.to_string() == *log_n);
    let work = work.filter(|work| *work > 0 && *work < 64);
    let log_n = work.ok_or(AgeError::Malformed("the work factor of its passphrase"))?;
    if log_n > MOST_WORK {
        return Err(AgeError::TooMuchWork { log_n });
    }
    unwrap(&*scrypt::key(&passphrase.0, &salt, log_n)?, &stanza.body)?.ok_or(AgeError::NotForUs)
}

/// The file key under a key that is used for nothing else: hence no nonce.
fn wrap(key: &[u8; 32], file_key: &FileKey) -> Result<Vec<u8>, AgeError> {
    let mut body = file_key.to_vec();
    aead(key)?
        .seal_in_place_append_tag(Nonce::assume_unique_for_key([0; 12]), Aad::empty(), &mut body)
        .map_err(|_unspecified| AgeError::Random)?;
    Ok(body)
}

/// `None` when it was wrapped under another key.
fn unwrap(key: &[u8; 32], body: &[u8]) -> Result<Option<FileKey>, AgeError> {
    if body.len() != FILE_KEY + TAG {
        return Err(AgeError::Malformed("a wrapped key"));
    }
    let mut body = Zeroizing::new(body.to_vec());
    let opened = aead(key)?.open_in_place(Nonce::assume_unique_for_key([0; 12]), Aad::empty(), &mut body);
    let Ok(opened) = opened else { return Ok(None) };
    let mut file_key = Zeroizing::new([0; FILE_KEY]);
    file_key.copy_from_slice(opened);
    Ok(Some(file_key))
}

fn aead(key: &[u8; 32]) -> Result<LessSafeKey, AgeError> {
    let key = UnboundKey::new(&CHACHA20_POLY1305, key).map_err(|_unspecified| AgeError::Random)?;
    Ok(LessSafeKey::new(key))
}

fn hkdf(salt: &[u8], secret: &[u8], info: &str) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    let prk = Salt::new(HKDF_SHA256, salt).extract(secret);
    prk.expand(&[info.as_bytes()], HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut key[..]))
        .expect("32 bytes are what HKDF-SHA256 gives at once");
    key
}

fn random(bytes: &mut [u8]) -> Result<(), AgeError> {
    SystemRandom::new()
        .fill(bytes)
        .map_err(|_unspecified| AgeError::Random)
}

type FileKey = Zeroizing<[u8; FILE_KEY]>;

/// Why something was not sealed or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgeError {
    /// It does not have the form of the format.
    #[error("it is no age file of version 1, or damaged: {0} cannot be read")]
    Malformed(&'static str),
    /// Another identity or passphrase opens it.
    #[error("this identity or passphrase does not open it")]
    NotForUs,
    /// Whoever made it wants to use up our memory.
    #[error("its passphrase asks for 2^{log_n} rounds of work; at most 2^{MOST_WORK} are done")]
    TooMuchWork {
        /// The logarithm of the rounds.
        log_n: u8,
    },
    /// Header or content are not what was sealed.
    #[error("it is damaged, or was changed after it had been sealed")]
    Damaged,
    /// The work for a passphrase needs more memory than there is.
    #[error("{} MiB of memory, which the passphrase needs, cannot be had", bytes >> 20)]
    Memory {
        /// How much.
        bytes: usize,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
    /// It is no recipient, or has a typing error.
    #[error("{0:?} is no recipient: it begins with age1 and has 62 characters")]
    NoRecipient(String),
    /// It is no identity. It is secret: not shown.
    #[error("it holds a line that is no identity: each begins with AGE-SECRET-KEY-1 and has 74 characters")]
    NoIdentity,
}

const FILE_KEY: usize = 16;
const TAG: usize = 16;
const SALT: usize = 16;
const SCRYPT: &str = "scrypt";
/// 256 MiB: what `age` itself takes.
const MOST_WORK: u8 = 18;

#[cfg(test)]
mod tests;
