//! What an agent and a server say of themselves to each other: a version, when it was built, and capabilities, each a name with a number.
//!
//! Invariant: whatever was sent, what is kept of it is short, printable and few; what is not understood is passed over, never an error.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

/// Metadata of a synchronisation, of the request and of the answer: a [`Speaks`]. SPIRE's say none.
pub const SPEAKS: &str = "landfast-speaks";

/// The bundle as signed steps (`landfast.chain.v1`).
pub const CHAIN: &str = "chain";
/// What SPIRE's entry has no field for (`landfast.entry.v1`).
pub const POLICIES: &str = "policies";
/// A node comes back by its device key (`landfast.recovery.v1`).
pub const RECOVERY: &str = "recovery";
/// Signatures ahead (`landfast.reserve.v1`).
pub const RESERVE: &str = "reserve";
/// Answers have the registry's revision.
pub const REVISIONS: &str = "revisions";
/// A node is told what concerns it (`landfast.sync.v1`).
pub const SYNC: &str = "sync";
/// Answers have the server's time.
pub const TIMES: &str = "times";

/// What this version can, as a server. Also where it is switched off: it is understood.
pub const OF_SERVER: &[(&str, u32)] = &[
    (CHAIN, 1),
    (POLICIES, 1),
    (RECOVERY, 1),
    (RESERVE, 1),
    (REVISIONS, 1),
    (SYNC, 1),
    (TIMES, 1),
];
/// What this version can, as an agent: the same, for now.
pub const OF_AGENT: &[(&str, u32)] = OF_SERVER;

/// What one side says of itself: `landfast/0.1.0 built=1764115200 chain=1 sync=1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speaks {
    version: String,
    built: i64,
    capabilities: BTreeMap<String, u32>,
}

/// How an agent's version lies to its server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skew {
    /// As promised: not newer, and not over three years older.
    Supported,
    /// The agent is newer. Servers are upgraded first.
    Newer,
    /// The agent is over three years older.
    Old,
}

impl Skew {
    /// As in `landfast.info.v1.Node.skew`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Supported => "",
            Self::Newer => "newer",
            Self::Old => "old",
        }
    }
}

impl Speaks {
    /// Of this program. `built` in Unix seconds.
    pub fn own(version: &str, built: i64, capabilities: &[(&str, u32)]) -> Self {
        let capabilities = capabilities.iter();
        Self {
            version: version.to_owned(),
            built,
            capabilities: capabilities
                .map(|(name, number)| ((*name).to_owned(), *number))
                .collect(),
        }
    }

    /// Reads what the other side sent. `None` when it is nothing of the kind, or longer than anybody would say.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let mut words = text.split(' ');
        let version = words.next()?.strip_prefix(PRODUCT)?;
        if !is_version(version) {
            return None;
        }
        let mut said = Self::own(version, 0, &[]);
        for (name, number) in words.filter_map(|word| word.split_once('=')) {
            if name == BUILT {
                said.built = number.parse().ok().filter(|built| *built > 0).unwrap_or(0);
            } else if is_name(name) && said.capabilities.len() < MOST {
                let number = number.parse().ok().filter(|number| *number > 0);
                said.capabilities
                    .extend(number.map(|number| (name.to_owned(), number)));
            }
        }
        Some(said)
    }

    /// Its version, printable.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// When that was built, in Unix seconds; 0 when it does not say.
    pub fn built(&self) -> i64 {
        self.built
    }

    /// Up to which number it understands this; `None`: not at all.
    pub fn number(&self, capability: &str) -> Option<u32> {
        self.capabilities.get(capability).copied()
    }

    /// All of it, in the order of the names; those too that we do not know.
    pub fn capabilities(&self) -> impl Iterator<Item = (&str, u32)> {
        let all = self.capabilities.iter();
        all.map(|(name, number)| (name.as_str(), *number))
    }

    /// How an agent that says this lies to the server that says `server`.
    pub fn skew(&self, server: &Self) -> Skew {
        let dates_known = self.built > 0 && server.built > 0;
        match number_of(&self.version).cmp(&number_of(&server.version)) {
            Ordering::Greater => Skew::Newer,
            _ if dates_known && server.built.saturating_sub(self.built) > THREE_YEARS => Skew::Old,
            _ => Skew::Supported,
        }
    }
}

impl fmt::Display for Speaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PRODUCT}{} {BUILT}={}", self.version, self.built)?;
        let mut all = self.capabilities();
        all.try_for_each(|(name, number)| write!(f, " {name}={number}"))
    }
}

fn is_version(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
    (1..=LONGEST_WORD).contains(&text.len()) && text.chars().all(fits)
}

fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=LONGEST_WORD).contains(&text.len()) && text.chars().all(fits)
}

/// Major, minor and patch. What is no number is 0: then the date alone counts.
fn number_of(version: &str) -> [u64; 3] {
    let plain = version.split(['-', '+']).next().unwrap_or_default();
    let mut parts = plain.split('.').map(|part| part.parse().unwrap_or(0));
    [(); 3].map(|()| parts.next().unwrap_or(0))
}

const PRODUCT: &str = "landfast/";
const BUILT: &str = "built";
/// Bytes of all of it.
const LONGEST: usize = 1024;
/// Bytes of a version, and of a name.
const LONGEST_WORD: usize = 40;
/// Capabilities that are kept.
const MOST: usize = 48;
/// For how much older agents a server works as promised, in seconds.
const THREE_YEARS: i64 = 3 * 366 * 86_400;

#[cfg(test)]
mod tests;
