//! One record: what happened, by whom, and how sure the time is. Invariant: its bytes are one line of JSON with sorted members, no more than
//! [`MAX_RECORD_BYTES`], and whatever a text from elsewhere holds it cannot end the line, move a cursor or turn the direction of writing.

mod encode;

use std::collections::BTreeMap;

use landfast_identity::UnixTime;

pub(crate) use encode::hex;

/// The longest record.
pub const MAX_RECORD_BYTES: usize = 16 * 1024;

/// What is to be recorded. Its sequence number is given by the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When; `None`: the clock shows nothing.
    pub time: Option<UnixTime>,
    /// How sure that is.
    pub time_quality: TimeQuality,
    /// The field of IEC 62443 SR 2.8.
    pub category: Category,
    /// What happened: a noun, a dot, and what became of it (`svid.issued`).
    pub kind: &'static str,
    /// Who did it.
    pub actor: Actor,
    /// To whom or what it was done: a SPIFFE ID, mostly.
    pub subject: Option<String>,
    /// What the subject may reach by it.
    pub target: Option<String>,
    /// What was decided.
    pub decision: Decision,
    /// Why; of a denial never empty.
    pub reason: Option<String>,
    /// The approval it happened under.
    pub approval: Option<String>,
    /// What came of it.
    pub result: Outcome,
    /// What else this type of record says.
    pub detail: BTreeMap<&'static str, Value>,
}

impl Record {
    /// One that says no more than this.
    #[must_use]
    pub fn new(category: Category, kind: &'static str, actor: Actor) -> Self {
        Self {
            time: None,
            time_quality: TimeQuality::None,
            category,
            kind,
            actor,
            subject: None,
            target: None,
            decision: Decision::None,
            reason: None,
            approval: None,
            result: Outcome::Done,
            detail: BTreeMap::new(),
        }
    }

    /// Done to this one.
    #[must_use]
    pub fn about(mut self, subject: impl std::fmt::Display) -> Self {
        self.subject = Some(subject.to_string());
        self
    }

    /// For this reason.
    #[must_use]
    pub fn because(mut self, reason: impl std::fmt::Display) -> Self {
        self.reason = Some(reason.to_string());
        self
    }

    /// With one more member of `detail`.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.detail.insert(name, value.into());
        self
    }

    /// Its bytes under this sequence number.
    pub(crate) fn encode(&self, sequence: u64) -> Vec<u8> {
        encode::encode(self, sequence)
    }
}

/// Who did something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// What they are.
    pub class: ActorClass,
    /// A SPIFFE ID, or a reference to the register of people; never a name.
    pub id: Option<String>,
    /// By what they are known: `uid`, `loginuid`, `pid`, `certificate`, `id`, `address`, `attestation`.
    pub how: BTreeMap<&'static str, Value>,
}

impl Actor {
    /// Somebody of this class.
    #[must_use]
    pub fn new(class: ActorClass, id: Option<String>) -> Self {
        Self {
            class,
            id,
            how: BTreeMap::new(),
        }
    }

    /// Known also by this.
    #[must_use]
    pub fn known_by(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.how.insert(name, value.into());
        self
    }
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$each:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$each])* $variant,)+ }

        impl $name {
            /// Its word in a record.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }
    };
}

words! {
    /// What somebody is.
    ActorClass {
        /// A person, by a login that is mapped or not.
        Person = "person",
        /// A program with an SVID.
        Workload = "workload",
        /// An agent, or a node that attests.
        Node = "node",
        /// Somebody of a supplier.
        ThirdParty = "third-party",
        /// This server.
        Server = "server",
        /// Nobody that is known.
        Unknown = "unknown",
    }
}

words! {
    /// How sure a time is.
    TimeQuality {
        /// An authenticated source has said the same lately.
        Confirmed = "confirmed",
        /// The clock says so, and nobody else.
        Unconfirmed = "unconfirmed",
        /// Something contradicts it.
        Doubted = "doubted",
        /// Reckoned from what was known and how long it ran.
        Estimated = "estimated",
        /// There is no time.
        None = "none",
    }
}

words! {
    /// What was decided.
    Decision {
        /// Yes.
        Allow = "allow",
        /// No.
        Deny = "deny",
        /// Nothing was to be decided.
        None = "none",
    }
}

words! {
    /// What came of it.
    Outcome {
        /// It was done.
        Done = "done",
        /// It was not.
        Failed = "failed",
        /// It was not tried.
        Refused = "refused",
    }
}

words! {
    /// Where a record belongs, after IEC 62443-3-3 SR 2.8.
    Category {
        /// Who was let in, or not: attestations, issuances, denials.
        AccessControl = "access-control",
        /// Requests that could not be understood or served.
        RequestError = "request-error",
        /// Entries, policies, federation, the bundle.
        Configuration = "configuration",
        /// Keys: the twelve events of CIR (EU) 2024/2690, 9.2.
        Key = "key",
        /// Backups and restores.
        Backup = "backup-restore",
        /// The ledger itself.
        AuditLog = "audit-log",
        /// Start, stop and health of the server.
        System = "system",
    }
}

/// A value in a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text, cut when it is long.
    Text(String),
    /// A number.
    Number(u64),
    /// Yes or no.
    Flag(bool),
    /// A moment.
    Time(UnixTime),
    /// Texts.
    List(Vec<String>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<UnixTime> for Value {
    fn from(time: UnixTime) -> Self {
        Self::Time(time)
    }
}

impl From<Vec<String>> for Value {
    fn from(list: Vec<String>) -> Self {
        Self::List(list)
    }
}

#[cfg(test)]
mod tests;
