//! The header: to whom the file key is given, and its authentication. Invariant: there is one way to write it, and no other is read.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::hmac;

use super::{AgeError, FileKey, hkdf};

/// The file key, wrapped for one.
#[derive(Debug)]
pub(super) struct Stanza {
    /// Its kind first.
    pub(super) args: Vec<String>,
    pub(super) body: Vec<u8>,
}

/// A header that is not authenticated yet.
#[derive(Debug)]
pub(super) struct Header<'a> {
    pub(super) stanzas: Vec<Stanza>,
    authenticated: &'a [u8],
    mac: Vec<u8>,
    /// What follows it.
    pub(super) payload: &'a [u8],
}

pub(super) fn write(stanzas: &[Stanza], file_key: &FileKey) -> Vec<u8> {
    let mut text = format!("{VERSION}\n");
    for stanza in stanzas {
        text += &format!("-> {}\n", stanza.args.join(" "));
        let body = base64(&stanza.body);
        let mut rest = body.as_str();
        // The last line is shorter than the others, so that its end is known.
        while let Some((line, more)) = rest.split_at_checked(COLUMNS) {
            text += &format!("{line}\n");
            rest = more;
        }
        text += &format!("{rest}\n");
    }
    text += END;
    let mac = hmac::sign(&mac_key(file_key), text.as_bytes());
    text += &format!(" {}\n", base64(mac.as_ref()));
    text.into_bytes()
}

pub(super) fn read(sealed: &[u8]) -> Result<Header<'_>, AgeError> {
    let mut rest = sealed;
    if line(&mut rest) != Some(VERSION) {
        return Err(AgeError::Malformed("its first line"));
    }
    let mut stanzas = Vec::new();
    loop {
        let before = sealed.len() - rest.len();
        let next = line(&mut rest).ok_or(AgeError::Malformed("a line of its header"))?;
        if let Some(mac) = next.strip_prefix(END) {
            let mac = mac.strip_prefix(' ').and_then(unbase64);
            let mac = mac.filter(|mac| mac.len() == 32 && !stanzas.is_empty());
            return Ok(Header {
                stanzas,
                authenticated: &sealed[..before + END.len()],
                mac: mac.ok_or(AgeError::Malformed("the end of its header"))?,
                payload: rest,
            });
        }
        stanzas.push(stanza(next, &mut rest).ok_or(AgeError::Malformed("a recipient"))?);
        if stanzas.len() > MOST_STANZAS {
            return Err(AgeError::Malformed("its long list of recipients"));
        }
    }
}

fn stanza(first: &str, rest: &mut &[u8]) -> Option<Stanza> {
    let args: Vec<String> = first.strip_prefix("-> ")?.split(' ').map(str::to_owned).collect();
    let fine = |arg: &String| !arg.is_empty() && arg.bytes().all(|b| b.is_ascii_graphic());
    if !args.iter().all(fine) {
        return None;
    }
    let mut body = String::new();
    loop {
        let next = line(rest)?;
        body += next;
        match next.len() {
            COLUMNS if body.len() <= MOST_BODY => {}
            0..COLUMNS => break,
            _ => return None,
        }
    }
    Some(Stanza {
        args,
        body: unbase64(&body)?,
    })
}

impl Header<'_> {
    /// Whether it was written by somebody who knew the file key.
    pub(super) fn verify(&self, file_key: &FileKey) -> Result<(), AgeError> {
        hmac::verify(&mac_key(file_key), self.authenticated, &self.mac).map_err(|_other| AgeError::Damaged)
    }
}

fn mac_key(file_key: &FileKey) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &*hkdf(b"", &file_key[..], "header"))
}

/// The next line of text, without its end.
fn line<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let bounded = &rest[..rest.len().min(MOST_LINE)];
    let end = bounded.iter().position(|b| *b == b'\n')?;
    let line = std::str::from_utf8(&rest[..end]).ok()?;
    *rest = &rest[end + 1..];
    Some(line)
}

pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD_NO_PAD.encode(bytes)
}

/// Only what [`base64()`] writes.
pub(super) fn unbase64(text: &str) -> Option<Vec<u8>> {
    STANDARD_NO_PAD.decode(text).ok()
}

const VERSION: &str = "age-encryption.org/v1";
const END: &str = "---";
const COLUMNS: usize = 64;
const MOST_STANZAS: usize = 64;
const MOST_LINE: usize = 1024;
const MOST_BODY: usize = 64 * 1024;
