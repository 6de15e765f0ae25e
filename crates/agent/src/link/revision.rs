//! Places in the history of the server's registry, and the newest that this node has seen.
//!
//! Invariant: they are compared as pairs, and the newest never goes back: an older answer takes nothing from what is held, and adds nothing.

use std::fmt;
use std::time::Duration;

use landfast_identity::UnixTime;
use landfast_lifecycle::Heard;
use landfast_proto::REVISION;
use landfast_proto::landfast::entry::v1 as wire;
use tokio::time::Instant;
use tonic::metadata::MetadataMap;

use super::failure::LinkError;
use super::rpc::Said;
use super::speaks::Server;
use super::time::Listener;

/// Of two, the one with the greater epoch is newer, in one epoch the one with the greater number: the order of the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Revision {
    pub(crate) epoch: u64,
    pub(crate) number: u64,
}

impl Revision {
    /// What an answer says it was made from. Only servers of ours say it.
    pub(super) fn of_answer(metadata: &MetadataMap) -> Result<Option<Self>, String> {
        let Some(value) = metadata.get(REVISION) else {
            return Ok(None);
        };
        let parsed = value.to_str().ok().and_then(|text| {
            let (epoch, number) = text.split_once('.')?;
            Some(Self {
                epoch: epoch.parse().ok()?,
                number: number.parse().ok()?,
            })
        });
        parsed
            .map(Some)
            .ok_or_else(|| format!("its {REVISION} is not a revision"))
    }
}

impl From<&wire::Revision> for Revision {
    fn from(wire: &wire::Revision) -> Self {
        Self {
            epoch: wire.epoch,
            number: wire.number,
        }
    }
}

impl From<Revision> for wire::Revision {
    fn from(revision: Revision) -> Self {
        Self {
            epoch: revision.epoch,
            number: revision.number,
        }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.number)
    }
}

/// The newest revision seen over a verified connection.
#[derive(Default)]
pub(super) struct Floor {
    newest: Option<Revision>,
    on_disk: Option<Revision>,
    /// The epoch and the sequence number of the trust bundle in use; `None` when it is of no server that says its revision.
    bundle: Option<(u64, u64)>,
    tried: Option<Instant>,
    /// Who is told of the server's time.
    pub(super) listener: Listener,
    /// What the server of this connection can.
    pub(super) server: Server,
}

impl Floor {
    /// From what is on disk.
    pub(super) fn new(on_disk: Option<Revision>) -> Self {
        Self {
            newest: on_disk,
            on_disk,
            bundle: None,
            tried: None,
            listener: Listener::default(),
            server: Server::default(),
        }
    }

    /// Passes the server's time on, and what it can, and answers the revision.
    pub(super) fn heard(&self, said: Said) -> Option<Revision> {
        self.server.hear(said.speaks);
        if let Some(time) = said.time {
            self.listener.hear(time, Heard::Answer);
        }
        said.revision
    }

    /// The time in a message of a subscription; 0 is none.
    pub(super) fn heard_in_message(&self, seconds: i64) {
        if seconds != 0 {
            self.listener.hear(UnixTime::from_secs(seconds), Heard::Message);
        }
    }

    pub(super) fn newest(&self) -> Option<Revision> {
        self.newest
    }

    /// Refuses what is older. An answer that does not say how old it is is a server's that never does.
    pub(super) fn admit(&self, method: &'static str, revision: Option<Revision>) -> Result<(), LinkError> {
        match (revision, self.newest) {
            (Some(theirs), Some(newest)) if theirs < newest => Err(LinkError::Stale {
                method,
                theirs: Some(theirs),
                newest,
            }),
            _ => Ok(()),
        }
    }

    /// Refuses a trust bundle that goes back within one epoch: an authority that was taken away or tainted would be trusted again. With a
    /// greater one the numbers may begin anew.
    pub(super) fn admit_bundle(
        &self,
        method: &'static str,
        revision: Option<Revision>,
        sequence: u64,
    ) -> Result<(), LinkError> {
        match (revision, self.bundle) {
            (Some(theirs), Some((epoch, held))) if theirs.epoch == epoch && sequence < held => {
                Err(LinkError::OlderBundle {
                    method,
                    theirs: sequence,
                    held,
                })
            }
            _ => Ok(()),
        }
    }

    /// Whether a bundle that root keys have signed is newer than the one in use. It is shown by whoever answers, and true steps of long ago stay
    /// true for ever. `held` is what is in use, as far as that is known when no server has said an epoch with it.
    pub(super) fn is_newer_bundle(&self, signed: (u64, u64), held: (u64, u64)) -> bool {
        signed > self.bundle.unwrap_or(held)
    }

    /// That is the one in use.
    pub(super) fn hold_bundle(&mut self, revision: Option<Revision>, sequence: u64) {
        self.bundle = revision.map(|revision| (revision.epoch, sequence));
    }

    pub(super) fn raise(&mut self, revision: Option<Revision>) {
        self.newest = self.newest.max(revision);
    }

    /// What to write, if it is time: a registry may change all the time, and the flash of a gateway is not a log.
    pub(super) fn unwritten(&mut self, at_once: bool) -> Option<Revision> {
        let recently = self.tried.is_some_and(|tried| tried.elapsed() < WRITE_EVERY);
        if self.newest == self.on_disk || (recently && !at_once) {
            return None;
        }
        self.tried = Some(Instant::now());
        self.newest
    }

    pub(super) fn written(&mut self, revision: Revision) {
        self.on_disk = Some(revision);
    }
}

const WRITE_EVERY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(epoch: u64, number: u64) -> Revision {
        Revision { epoch, number }
    }

    #[test]
    fn revisions_are_compared_as_pairs() {
        let mut floor = Floor::new(None);
        floor.raise(Some(revision(7, 100)));
        for (theirs, taken) in [
            (revision(7, 100), true),
            (revision(7, 101), true),
            (revision(8, 1), true),
            (revision(7, 99), false),
            (revision(6, 1000), false),
        ] {
            assert_eq!(floor.admit("m", Some(theirs)).is_ok(), taken, "{theirs}");
        }
        assert!(floor.admit("m", None).is_ok(), "of a server that never says it");
        floor.raise(Some(revision(6, 1000)));
        floor.raise(None);
        assert_eq!(floor.newest(), Some(revision(7, 100)), "it never goes back");
    }

    #[test]
    fn a_signed_bundle_is_newer_by_epoch_and_sequence_than_the_one_in_use() {
        let mut floor = Floor::new(None);
        assert!(floor.is_newer_bundle((7, 11), (7, 10)));
        assert!(!floor.is_newer_bundle((7, 10), (7, 10)));
        floor.hold_bundle(Some(revision(7, 1)), 10);
        for (signed, newer) in [
            ((7, 11), true),
            ((8, 1), true),
            ((7, 10), false),
            ((7, 9), false),
            ((6, 1000), false),
        ] {
            assert_eq!(floor.is_newer_bundle(signed, (0, 0)), newer, "{signed:?}");
        }
    }

    #[test]
    fn an_answer_says_its_revision_or_nothing_and_never_half_of_one() {
        let of = |text: &'static str| {
            let mut metadata = MetadataMap::new();
            metadata.insert(REVISION, text.parse().unwrap());
            Revision::of_answer(&metadata)
        };
        assert_eq!(of("12.34"), Ok(Some(revision(12, 34))));
        assert_eq!(Revision::of_answer(&MetadataMap::new()), Ok(None));
        for bad in [
            "",
            "12",
            "12.",
            ".34",
            "a.b",
            "1.2.3",
            "-1.2",
            "18446744073709551616.1",
        ] {
            assert!(of(bad).is_err(), "{bad:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_written_once_a_minute_however_often_it_changes() {
        let mut floor = Floor::new(None);
        assert_eq!(floor.unwritten(true), None, "there is nothing to write");
        let mut writes = Vec::new();
        for number in 1..=600 {
            floor.raise(Some(revision(1, number)));
            if let Some(newest) = floor.unwritten(false) {
                floor.written(newest);
                writes.push(newest.number);
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(writes, [1, 61, 121, 181, 241, 301, 361, 421, 481, 541]);
        assert_eq!(
            floor.unwritten(true),
            Some(revision(1, 600)),
            "at the end, all of it"
        );
        floor.written(revision(1, 600));
        assert_eq!(floor.unwritten(true), None);
    }
}
