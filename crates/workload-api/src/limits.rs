//! How much one process, one user and all together may hold open.
//!
//! Invariant: every limit is on by default.

use std::time::Duration;

/// The limits of one Workload API socket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Open connections of one process.
    pub connections_per_process: u32,
    /// Requests in progress, open streams included, of one process.
    pub streams_per_process: u32,
    /// Open connections of one uid. Containers often all run as uid 0.
    pub connections_per_uid: u32,
    /// Requests in progress of one uid.
    pub streams_per_uid: u32,
    /// Open connections in all.
    pub connections_total: u32,
    /// How long a client has for HTTP/2's preface and first frame.
    pub handshake_timeout: Duration,
    /// The largest request message, in bytes. Requests of one uid that are not complete hold this, times [`Self::connections_per_uid`],
    /// at most: there may be as many of them.
    pub max_message: usize,
    /// As [`Self::max_message`], for SDS: an Envoy lists all its extensions in each request, 60 KiB of them.
    pub max_sds_message: usize,
    /// How many messages a client may send on one stream of SDS at once.
    pub sds_messages_at_once: u32,
    /// How many more each second.
    pub sds_messages_per_second: u32,
    /// How long a client has for a request, from its headers to its last byte. For no longer does a part of one cost memory.
    pub request_complete: Duration,
    /// How long a client may leave an answer unread before its connection ends.
    pub stalled_reader: Duration,
    /// How long a request waits for an identity that is being fetched.
    pub first_answer: Duration,
    /// How long an attestation may take.
    pub attestation: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_per_process: 64,
            streams_per_process: 256,
            connections_per_uid: 1024,
            streams_per_uid: 4096,
            connections_total: 8192,
            handshake_timeout: Duration::from_secs(5),
            // A token of the largest size that is verified (16 KiB), its audience, and some room.
            max_message: 20 * 1024,
            max_sds_message: 256 * 1024,
            // An Envoy sends one for each name and one for each response, all of them when it starts.
            sds_messages_at_once: 512,
            sds_messages_per_second: 16,
            request_complete: Duration::from_secs(5),
            stalled_reader: Duration::from_secs(20),
            first_answer: Duration::from_secs(5),
            attestation: Duration::from_secs(20),
        }
    }
}

impl Limits {
    /// How many turns an incomplete request of SDS takes: as many as others could hold its memory.
    pub(crate) fn sds_turns(&self) -> u32 {
        let turns = self.max_sds_message.div_ceil(self.max_message.max(1));
        u32::try_from(turns)
            .unwrap_or(u32::MAX)
            .clamp(1, self.connections_per_uid.max(1))
    }
}

/// A limit that was reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Limit {
    ConnectionsPerProcess,
    StreamsPerProcess,
    ConnectionsPerUid,
    StreamsPerUid,
    ConnectionsTotal,
    IncompletePerUid,
    HandshakeTimeout,
    MaxMessage,
    SdsMessages,
    StalledReader,
}

impl Limit {
    /// Its name in the configuration; of those that are not configured, in [`Limits`].
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ConnectionsPerProcess => "connections_per_process",
            Self::StreamsPerProcess => "streams_per_process",
            Self::ConnectionsPerUid => "connections_per_uid",
            Self::StreamsPerUid => "streams_per_uid",
            Self::ConnectionsTotal => "connections_total",
            Self::IncompletePerUid => "incomplete_requests_per_uid",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::MaxMessage => "max_message",
            Self::SdsMessages => "sds_messages",
            Self::StalledReader => "stalled_reader",
        }
    }
}
