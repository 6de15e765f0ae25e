//! Which socket is at the other end of ours, asked of the kernel through `sock_diag(7)`.
//!
//! Invariant: only an answer about our own socket, to our own question, is believed.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

/// The inode of the peer of a connected Unix socket.
pub(crate) fn peer_inode(ours: &impl AsFd) -> io::Result<u32> {
    let inode = u32::try_from(rustix::fs::fstat(ours)?.st_ino).map_err(io::Error::other)?;
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )?;
    send(netlink.as_raw_fd(), &question(inode), MsgFlags::empty())?;
    let mut buffer = [0; 1024];
    // The kernel answers within the call above; DONTWAIT so that a surprise cannot block.
    let length = recv(netlink.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT)?;
    answer(&buffer[..length], inode).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// `nlmsghdr` and `unix_diag_req`.
fn question(inode: u32) -> [u8; 40] {
    let mut message = [0; 40];
    message[0..4].copy_from_slice(&40_u32.to_ne_bytes());
    message[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message[6..8].copy_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    message[8..12].copy_from_slice(&SEQUENCE.to_ne_bytes());
    message[16] = AF_UNIX;
    message[20..24].copy_from_slice(&u32::MAX.to_ne_bytes());
    message[24..28].copy_from_slice(&inode.to_ne_bytes());
    message[28..32].copy_from_slice(&UDIAG_SHOW_PEER.to_ne_bytes());
    message[32..40].fill(0xff);
    message
}

fn answer(message: &[u8], inode: u32) -> Option<u32> {
    let length = u32_at(message, 0)? as usize;
    let message = message.get(..length)?;
    let expected = u16_at(message, 4)? == SOCK_DIAG_BY_FAMILY
        && u32_at(message, 8)? == SEQUENCE
        && *message.get(16)? == AF_UNIX
        && u32_at(message, 20)? == inode;
    if !expected {
        return None;
    }
    let mut attributes = message.get(32..)?;
    while attributes.len() >= 4 {
        let length = usize::from(u16_at(attributes, 0)?);
        if length < 4 {
            return None;
        }
        if u16_at(attributes, 2)? == UNIX_DIAG_PEER {
            return u32_at(attributes.get(..length)?, 4);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
    None
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const AF_UNIX: u8 = 1;
const UDIAG_SHOW_PEER: u32 = 4;
const UNIX_DIAG_PEER: u16 = 2;
const SEQUENCE: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_names_the_other_end() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(
            u64::from(peer_inode(&ours).unwrap()),
            rustix::fs::fstat(&theirs).unwrap().st_ino
        );
    }

    #[test]
    fn short_and_foreign_answers_are_refused() {
        let mut message = [0_u8; 40];
        message[..].copy_from_slice(&question(7));
        message[16] = AF_UNIX;
        message[20..24].copy_from_slice(&7_u32.to_ne_bytes());
        message[32..34].copy_from_slice(&8_u16.to_ne_bytes());
        message[34..36].copy_from_slice(&UNIX_DIAG_PEER.to_ne_bytes());
        message[36..40].copy_from_slice(&99_u32.to_ne_bytes());
        assert_eq!(answer(&message, 7), Some(99));
        assert_eq!(answer(&message, 8), None);
        for length in 0..40 {
            assert_eq!(answer(&message[..length], 7), None);
        }
        message[32..34].copy_from_slice(&0_u16.to_ne_bytes());
        assert_eq!(answer(&message, 7), None);
    }
}
