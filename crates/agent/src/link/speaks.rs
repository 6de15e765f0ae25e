//! What the server of this connection says that it can, and what this agent says to it.
//!
//! Invariant: it is heard over verified connections only. Who says nothing is asked all the same, and answers `Unimplemented`: SPIRE's servers, and ours from
//! before it was said.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use landfast_proto::speaks::{OF_AGENT, SPEAKS, Skew, Speaks};
use tonic::Request;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

/// What the server has said of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Told {
    /// It was not asked yet, on this connection.
    #[default]
    Unasked,
    /// It was, and says nothing.
    Nothing,
    /// This.
    Speaks(Arc<Speaks>),
}

/// Shown by `agent status`.
impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unasked => Ok(()),
            Self::Nothing => f.write_str("nothing: it is SPIRE's, or from before it was said"),
            Self::Speaks(speaks) => speaks.fmt(f),
        }
    }
}

impl Told {
    /// Whether it says what it can, and this is not part of it. Then it is not asked.
    pub(super) fn lacks(&self, capability: &str) -> bool {
        matches!(self, Self::Speaks(speaks) if speaks.number(capability).is_none())
    }
}

/// The other end of the connection.
#[derive(Default)]
pub(super) struct Server(Mutex<Heard>);

#[derive(Default)]
struct Heard {
    told: Told,
    /// Of whom it was said that their versions do not fit: servers of a list may be of different ones. The last [`MOST_WARNED`] of them.
    warned: VecDeque<Arc<Speaks>>,
}

impl Server {
    /// What came with an answer. Not each has it.
    pub(super) fn hear(&self, speaks: Option<Speaks>) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (speaks, &heard.told) {
            (None, Told::Unasked) => heard.told = Told::Nothing,
            (None, _) => {}
            (Some(speaks), Told::Speaks(known)) if speaks == **known => {}
            (Some(speaks), _) => {
                let speaks = Arc::new(speaks);
                heard.warn(&speaks);
                heard.told = Told::Speaks(speaks);
            }
        }
    }

    pub(super) fn told(&self) -> Told {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.told.clone()
    }

    /// The next connection may be another server's.
    pub(super) fn hang_up(&self) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.told = Told::Unasked;
    }
}

impl Heard {
    fn warn(&mut self, server: &Arc<Speaks>) {
        let what = match own().skew(server) {
            Skew::Supported => return,
            Skew::Newer => "newer than its server: upgrade servers first",
            Skew::Old => "over three years older than its server: upgrade it",
        };
        if self.is_new(server) {
            let (own, server) = (own().version(), server.version());
            tracing::warn!(
                own,
                server,
                "this agent is {what}; it goes on, but that is not tested (docs/compatibility.md)"
            );
        }
    }

    /// Whether it was not warned of lately.
    fn is_new(&mut self, server: &Arc<Speaks>) -> bool {
        if self.warned.contains(server) {
            return false;
        }
        self.warned.push_front(Arc::clone(server));
        self.warned.truncate(MOST_WARNED);
        true
    }
}

/// What came with an answer, if it can be read.
pub(super) fn of_answer(metadata: &MetadataMap) -> Option<Speaks> {
    metadata.get(SPEAKS)?.to_str().ok().and_then(Speaks::parse)
}

/// A request with what this agent is and can.
pub(super) fn introduced<T>(message: T) -> Request<T> {
    static OWN: LazyLock<Option<MetadataValue<Ascii>>> =
        LazyLock::new(|| MetadataValue::try_from(own().to_string()).ok());
    let mut request = Request::new(message);
    if let Some(own) = OWN.clone() {
        request.metadata_mut().insert(SPEAKS, own);
    }
    request
}

fn own() -> &'static Speaks {
    static OWN: LazyLock<Speaks> = LazyLock::new(|| {
        let built = landfast_lifecycle::built().as_secs();
        Speaks::own(env!("CARGO_PKG_VERSION"), built, OF_AGENT)
    });
    &OWN
}

const MOST_WARNED: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_of_different_versions_are_warned_of_once_each_and_few_are_kept() {
        let of = |version: &str| Arc::new(Speaks::own(version, 0, OF_AGENT));
        let mut heard = Heard::default();
        let (one, two) = (of("0.1.0"), of("0.2.0"));
        assert!(heard.is_new(&one) && heard.is_new(&two));
        for _ in 0..3 {
            assert!(
                !heard.is_new(&one) && !heard.is_new(&two),
                "with each reconnection"
            );
        }
        assert!((0..100).all(|number| heard.is_new(&of(&format!("9.{number}.0")))));
        assert_eq!(heard.warned.len(), MOST_WARNED);
        assert!(heard.is_new(&one), "long ago");
    }
}
