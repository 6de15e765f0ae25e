//! Who asked. Invariant: a requester is made by the edge from what it has verified, never from a message.

use std::fmt;

use landfast_identity::SpiffeId;

/// Who asked for something, and by which attestation they are known. Goes into the record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Requester {
    /// Who.
    pub kind: RequesterKind,
    /// How the node behind it attested; empty when none did.
    pub attestation: String,
    /// Who it is as an operator, where that is known: the login of its session, and the reference of the person.
    pub operator: String,
    /// The reference of the person that this is, where one is known.
    pub person: Option<String>,
    /// Why, in the operator's words.
    pub reason: Option<String>,
}

/// Who can ask.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RequesterKind {
    /// An attested agent.
    Agent(SpiffeId),
    /// A process on the admin socket.
    Local {
        /// Its uid.
        uid: u32,
        /// Its pid, where the kernel told.
        pid: Option<i32>,
    },
    /// An administrator over the network.
    Admin(SpiffeId),
    /// A server below this one.
    Downstream(SpiffeId),
    /// A node that is attesting, by this method.
    Attestation(String),
    /// This server itself.
    Server,
}

impl Requester {
    /// An attested agent.
    pub fn agent(id: SpiffeId, attestation: impl Into<String>) -> Self {
        Self {
            kind: RequesterKind::Agent(id),
            attestation: attestation.into(),
            operator: String::new(),
            person: None,
            reason: None,
        }
    }

    /// A process on the admin socket.
    pub fn local(uid: u32, pid: Option<i32>) -> Self {
        Self {
            kind: RequesterKind::Local { uid, pid },
            attestation: String::new(),
            operator: String::new(),
            person: None,
            reason: None,
        }
    }

    /// An administrator over the network.
    pub fn admin(id: SpiffeId) -> Self {
        Self {
            kind: RequesterKind::Admin(id),
            attestation: String::new(),
            operator: String::new(),
            person: None,
            reason: None,
        }
    }

    /// A server below this one.
    pub fn downstream(id: SpiffeId) -> Self {
        Self {
            kind: RequesterKind::Downstream(id),
            attestation: String::new(),
            operator: String::new(),
            person: None,
            reason: None,
        }
    }

    /// A node that is attesting.
    pub fn attestation(method: impl Into<String>) -> Self {
        let method = method.into();
        Self {
            kind: RequesterKind::Attestation(method.clone()),
            attestation: method,
            operator: String::new(),
            person: None,
            reason: None,
        }
    }

    /// The same, as this operator.
    pub(crate) fn operated_by(mut self, operator: String) -> Self {
        self.operator = operator;
        self
    }

    /// The same, as this person.
    pub(crate) fn of_person(mut self, person: Option<String>) -> Self {
        self.person = person;
        self
    }

    /// The same, for this reason.
    pub(crate) fn because(mut self, reason: Option<String>) -> Self {
        self.reason = reason;
        self
    }

    /// This server itself.
    pub fn server() -> Self {
        Self {
            kind: RequesterKind::Server,
            attestation: String::new(),
            operator: String::new(),
            person: None,
            reason: None,
        }
    }
}

impl fmt::Display for Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            RequesterKind::Agent(id) => write!(f, "agent {id}"),
            RequesterKind::Local { uid, pid: Some(pid) } => write!(f, "local uid {uid} pid {pid}"),
            RequesterKind::Local { uid, pid: None } => write!(f, "local uid {uid}"),
            RequesterKind::Admin(id) => write!(f, "admin {id}"),
            RequesterKind::Downstream(id) => write!(f, "downstream {id}"),
            RequesterKind::Attestation(method) => write!(f, "attestation {method}"),
            RequesterKind::Server => f.write_str("server"),
        }?;
        match self.operator.as_str() {
            "" => Ok(()),
            operator => write!(f, " {operator}"),
        }
    }
}
