//! Who asked. Invariant: a requester is made by the edge from what it has verified, never from a message.

use std::fmt;
use std::net::IpAddr;

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
    /// By which login the person came, as it may be recorded for good.
    pub login: Option<String>,
    /// As whom the process on the admin socket was logged in, whatever user it is now.
    pub loginuid: Option<u32>,
    /// Why, in the operator's words.
    pub reason: Option<String>,
    /// The request that a person has approved, where this is asked for under it.
    pub approval: Option<String>,
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
    /// Somebody who logs in from another machine, from this address where one is known.
    Login(Option<IpAddr>),
    /// This server itself.
    Server,
}

impl Requester {
    fn of(kind: RequesterKind, attestation: String) -> Self {
        Self {
            kind,
            attestation,
            operator: String::new(),
            person: None,
            login: None,
            loginuid: None,
            reason: None,
            approval: None,
        }
    }

    /// An attested agent.
    pub fn agent(id: SpiffeId, attestation: impl Into<String>) -> Self {
        Self::of(RequesterKind::Agent(id), attestation.into())
    }

    /// A process on the admin socket.
    pub fn local(uid: u32, pid: Option<i32>) -> Self {
        Self::of(RequesterKind::Local { uid, pid }, String::new())
    }

    /// An administrator over the network.
    pub fn admin(id: SpiffeId) -> Self {
        Self::of(RequesterKind::Admin(id), String::new())
    }

    /// A server below this one.
    pub fn downstream(id: SpiffeId) -> Self {
        Self::of(RequesterKind::Downstream(id), String::new())
    }

    /// A node that is attesting.
    pub fn attestation(method: impl Into<String>) -> Self {
        let method = method.into();
        Self::of(RequesterKind::Attestation(method.clone()), method)
    }

    /// Somebody who logs in.
    pub(crate) fn login(address: Option<IpAddr>) -> Self {
        Self {
            kind: RequesterKind::Login(address),
            ..Self::server()
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

    /// The same, by this login.
    pub(crate) fn come_by(mut self, login: Option<String>) -> Self {
        self.login = login;
        self
    }

    /// The same, in a session of this user.
    pub(crate) fn logged_in_as(mut self, loginuid: Option<u32>) -> Self {
        self.loginuid = loginuid;
        self
    }

    /// The same, for this reason.
    pub(crate) fn because(mut self, reason: Option<String>) -> Self {
        self.reason = reason;
        self
    }

    /// The same, under what a person has approved.
    pub(crate) fn under(mut self, approval: Option<String>) -> Self {
        self.approval = approval;
        self
    }

    /// This server itself.
    pub fn server() -> Self {
        Self::of(RequesterKind::Server, String::new())
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
            RequesterKind::Login(Some(address)) => write!(f, "login from {address}"),
            RequesterKind::Login(None) => f.write_str("login"),
            RequesterKind::Server => f.write_str("server"),
        }?;
        match self.operator.as_str() {
            "" => Ok(()),
            operator => write!(f, " {operator}"),
        }
    }
}
