//! The content: chunks of 64 KiB, each authenticated with its place and with whether it is the last (STREAM). Invariant: nothing is given out
//! of a content that was cut, grew, or has another order.

use ring::aead::{Aad, Nonce};
use zeroize::Zeroizing;

use super::{AgeError, FileKey, TAG, aead, hkdf, random};

pub(super) fn seal(plain: &[u8], file_key: &FileKey, sealed: &mut Vec<u8>) -> Result<(), AgeError> {
    let mut nonce = [0; NONCE];
    random(&mut nonce)?;
    sealed.extend_from_slice(&nonce);
    let key = aead(&hkdf(&nonce, &file_key[..], "payload"))?;
    let mut rest = plain;
    for place in 0.. {
        let (chunk, more) = rest.split_at(rest.len().min(CHUNK));
        let mut chunk = Zeroizing::new(chunk.to_vec());
        let tag = key
            .seal_in_place_separate_tag(nonce_of(place, more.is_empty()), Aad::empty(), &mut chunk)
            .map_err(|_unspecified| AgeError::Random)?;
        sealed.extend_from_slice(&chunk);
        sealed.extend_from_slice(tag.as_ref());
        if more.is_empty() {
            break;
        }
        rest = more;
    }
    Ok(())
}

pub(super) fn open(payload: &[u8], file_key: &FileKey) -> Result<Zeroizing<Vec<u8>>, AgeError> {
    let (nonce, mut rest) = payload.split_at_checked(NONCE).ok_or(AgeError::Damaged)?;
    let key = aead(&hkdf(nonce, &file_key[..], "payload"))?;
    // Room for all of it at once: growing would leave copies of a secret behind.
    let mut plain = Zeroizing::new(Vec::with_capacity(rest.len()));
    for place in 0.. {
        let (chunk, more) = rest.split_at(rest.len().min(CHUNK + TAG));
        let mut chunk = Zeroizing::new(chunk.to_vec());
        let opened = key
            .open_in_place(nonce_of(place, more.is_empty()), Aad::empty(), &mut chunk)
            .map_err(|_unspecified| AgeError::Damaged)?;
        if opened.is_empty() && place > 0 {
            return Err(AgeError::Damaged);
        }
        plain.extend_from_slice(opened);
        if more.is_empty() {
            break;
        }
        rest = more;
    }
    Ok(plain)
}

fn nonce_of(place: u64, last: bool) -> Nonce {
    let mut nonce = [0; 12];
    nonce[3..11].copy_from_slice(&place.to_be_bytes());
    nonce[11] = u8::from(last);
    Nonce::assume_unique_for_key(nonce)
}

const NONCE: usize = 16;
const CHUNK: usize = 64 * 1024;
