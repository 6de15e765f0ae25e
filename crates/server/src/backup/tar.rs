//! An archive: POSIX ustar, so that `tar` lists and unpacks it. Of a member only name and size are of interest, and all else is what we write.
//!
//! Invariant: there is one way to write a member of this name and size, and no other is read.

use std::io::{self, Read};

use ring::digest::{Context, SHA256};

use super::error::ArchiveError;

/// The header of a member.
pub(super) fn header(name: &str, size: u64) -> Option<[u8; BLOCK]> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-/".contains(&b);
    if name.is_empty() || name.len() > NAME || !name.bytes().all(plain) {
        return None;
    }
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, b"0000600\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    match size < 1 << 33 {
        true => put(124, format!("{size:011o}\0").as_bytes()),
        // Eleven octal digits are 8 GiB; beyond them it is binary, as GNU tar has it.
        false => put(124, &[&[0x80, 0, 0, 0][..], &size.to_be_bytes()].concat()),
    }
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Some(block)
}

/// What follows a member of this size.
pub(super) fn padding(size: u64) -> usize {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    (BLOCK - over) % BLOCK
}

/// A member, and where it is.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) place: u64,
    pub(super) size: u64,
    pub(super) sha256: [u8; 32],
    /// Of those that are small.
    pub(super) content: Vec<u8>,
}

/// Reads all members, to the very end of the archive.
pub(super) fn members(mut from: impl Read) -> Result<Vec<Member>, ArchiveError> {
    let (mut found, mut at) = (Vec::new(), 0_u64);
    loop {
        let mut block = [0; BLOCK];
        fill(&mut from, &mut block)?;
        at += BLOCK as u64;
        if block == [0; BLOCK] {
            break;
        }
        if found.len() == MOST_MEMBERS {
            return Err(ArchiveError::damaged("it has too many parts"));
        }
        let (name, size) = named(&block)?;
        let member = member(&mut from, name, size, at)?;
        let padding = padding(size);
        let mut rest = [0; BLOCK];
        fill(&mut from, &mut rest[..padding])?;
        if rest[..padding].iter().any(|b| *b != 0) {
            return Err(ArchiveError::damaged(format!(
                "there is something behind {}",
                member.name
            )));
        }
        at = size
            .checked_add(padding as u64)
            .and_then(|length| at.checked_add(length))
            .ok_or_else(|| ArchiveError::damaged("a part is too large"))?;
        found.push(member);
    }
    let mut last = [0; BLOCK];
    fill(&mut from, &mut last)?;
    if last != [0; BLOCK] || from.read(&mut [0])? != 0 {
        return Err(ArchiveError::damaged("there is something behind its end"));
    }
    Ok(found)
}

fn member(from: &mut impl Read, name: String, size: u64, place: u64) -> Result<Member, ArchiveError> {
    let mut sum = Context::new(&SHA256);
    let (mut rest, mut content) = (size, Vec::new());
    let mut buffer = vec![0; BUFFER];
    while rest > 0 {
        let next = usize::try_from(rest).unwrap_or(BUFFER).min(BUFFER);
        fill(from, &mut buffer[..next])?;
        sum.update(&buffer[..next]);
        if size <= SMALL {
            content.extend_from_slice(&buffer[..next]);
        }
        rest -= next as u64;
    }
    let sha256 = sum.finish().as_ref().try_into().unwrap_or_default();
    Ok(Member {
        name,
        place,
        size,
        sha256,
        content,
    })
}

fn named(block: &[u8; BLOCK]) -> Result<(String, u64), ArchiveError> {
    let damaged = || ArchiveError::damaged("the head of a part cannot be read");
    let name = block[..NAME].split(|b| *b == 0).next().unwrap_or_default();
    // It may be shown.
    let name = std::str::from_utf8(name)
        .ok()
        .filter(|name| name.bytes().all(|b| b.is_ascii_graphic()));
    let name = name.ok_or_else(damaged)?;
    let size = match block[124] {
        0x80 => block[128..136].try_into().map(u64::from_be_bytes).ok(),
        _ => std::str::from_utf8(&block[124..135])
            .ok()
            .and_then(|text| u64::from_str_radix(text, 8).ok()),
    };
    let size = size.ok_or_else(damaged)?;
    match header(name, size) {
        Some(ours) if ours == *block => Ok((name.to_owned(), size)),
        _ => Err(damaged()),
    }
}

fn fill(from: &mut impl Read, buffer: &mut [u8]) -> Result<(), ArchiveError> {
    from.read_exact(buffer).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => ArchiveError::damaged("it ends too early"),
        _ => error.into(),
    })
}

pub(super) const BLOCK: usize = 512;
const NAME: usize = 100;
/// What is held in memory.
pub(super) const SMALL: u64 = 4 * 1024 * 1024;
const BUFFER: usize = 64 * 1024;
const MOST_MEMBERS: usize = 256;
