//! What the server's records say. Invariant: an identifier at most: never a token, a key or what unseals one.

use std::net::IpAddr;

use landfast_audit::{Actor, ActorClass, Category, Decision, Outcome, Record, TimeQuality};
use landfast_identity::{SpiffeId, UnixTime};

use crate::issuance::{IssuanceRecord, IssueError, Requester, RequesterKind, SvidKind};
use crate::random;

/// An SVID, a rung or an authority that was signed.
pub(crate) fn issued(who: &Requester, signed: &IssuanceRecord) -> Record {
    let is_authority = signed.kind == SvidKind::X509 && signed.spiffe_id.path().is_empty();
    let kind = match (signed.is_rung, is_authority) {
        (true, _) => "rung.issued",
        (_, true) => "authority.issued",
        _ => "svid.issued",
    };
    let record = Record {
        subject: Some(signed.spiffe_id.to_string()),
        decision: Decision::Allow,
        approval: who.approval.clone(),
        ..Record::new(Category::AccessControl, kind, actor(who))
    };
    let record = at(Some(signed.issued_at), record)
        .with("authority", signed.authority_id.clone())
        .with("kind", kind_of(signed.kind))
        .with("not_after", signed.not_after)
        .with("not_before", signed.not_before)
        .with("serial", signed.serial.clone());
    let record = match &signed.key_hash {
        Some(hash) => record.with("key_sha256", random::hex(hash)),
        None => record,
    };
    match &signed.entry_id {
        Some(entry) => record.with("entry", entry.clone()),
        None => record,
    }
}

/// Something that was not signed because it must not be; `None` when it could not be, which is no decision.
pub(crate) fn denied(
    now: Option<UnixTime>,
    who: &Requester,
    subject: &SpiffeId,
    entry: Option<&str>,
    error: &IssueError,
) -> Option<Record> {
    let is_decision = matches!(
        error,
        IssueError::Policy(_)
            | IssueError::Reserve { .. }
            | IssueError::OutOfReserve { .. }
            | IssueError::OutlivesEntry { .. }
            | IssueError::KeyInUse { .. }
            | IssueError::KeyNotNew { .. }
            | IssueError::Enough { .. }
            | IssueError::Quarantine { .. }
    );
    let record = Record {
        subject: Some(subject.to_string()),
        decision: Decision::Deny,
        reason: Some(error.to_string()),
        result: Outcome::Refused,
        ..Record::new(Category::AccessControl, "svid.denied", actor(who))
    };
    let record = match entry {
        Some(entry) => record.with("entry", entry),
        None => record,
    };
    is_decision.then(|| at(now, record))
}

/// A change of what the server knows and is told: entries, policies, bundles, federation.
pub(crate) fn changed(kind: &'static str) -> Record {
    change(Category::Configuration, kind)
}

/// What becomes of a node.
pub(crate) fn node(kind: &'static str) -> Record {
    change(Category::AccessControl, kind)
}

/// What becomes of an authority, with the word that CIR (EU) 2024/2690, 9.2, has for it.
pub(crate) fn ordered(kind: &'static str, key_event: &'static str) -> Record {
    change(Category::Key, kind).with("key_event", key_event)
}

fn change(category: Category, kind: &'static str) -> Record {
    Record {
        decision: Decision::Allow,
        ..Record::new(category, kind, Actor::new(ActorClass::Unknown, None))
    }
}

/// With the time of the server's clock, which nobody confirms.
pub(crate) fn at(now: Option<UnixTime>, record: Record) -> Record {
    let time_quality = match now {
        Some(_) => TimeQuality::Unconfirmed,
        None => TimeQuality::None,
    };
    Record {
        time: now,
        time_quality,
        ..record
    }
}

/// Who asked, by what the edge has verified.
pub(crate) fn actor(who: &Requester) -> Actor {
    let actor = match (&who.person, &who.kind) {
        // The login goes beside it: what a person does is told of the person, whatever it came by.
        (Some(person), RequesterKind::Local { uid, pid }) => {
            by_process(Actor::new(ActorClass::Person, Some(person.clone())), *uid, *pid)
        }
        (Some(person), RequesterKind::Admin(id)) => {
            Actor::new(ActorClass::Person, Some(person.clone())).known_by("id", id.to_string())
        }
        (Some(person), RequesterKind::Login(address)) => {
            by_address(Actor::new(ActorClass::Person, Some(person.clone())), *address)
        }
        (_, kind) => machine(kind),
    };
    let actor = match who.attestation.is_empty() {
        true => actor,
        false => actor.known_by("attestation", who.attestation.clone()),
    };
    let actor = match who.loginuid {
        Some(uid) => actor.known_by("loginuid", u64::from(uid)),
        None => actor,
    };
    match &who.login {
        Some(login) => actor.known_by("login", login.clone()),
        None => actor,
    }
}

/// Of whom no person is known.
fn machine(kind: &RequesterKind) -> Actor {
    match kind {
        RequesterKind::Agent(id) => Actor::new(ActorClass::Node, Some(id.to_string())),
        // A user is a person's login or a program's; who it is says the register of people, where it knows him.
        RequesterKind::Local { uid, pid } => by_process(Actor::new(ActorClass::Unknown, None), *uid, *pid),
        RequesterKind::Admin(id) | RequesterKind::Downstream(id) => {
            Actor::new(ActorClass::Workload, Some(id.to_string()))
        }
        RequesterKind::Attestation(_) => Actor::new(ActorClass::Node, None),
        RequesterKind::Login(address) => by_address(Actor::new(ActorClass::Unknown, None), *address),
        RequesterKind::Server => Actor::new(ActorClass::Server, None),
    }
}

fn by_address(actor: Actor, address: Option<IpAddr>) -> Actor {
    match address {
        Some(address) => actor.known_by("address", address.to_string()),
        None => actor,
    }
}

fn by_process(actor: Actor, uid: u32, pid: Option<i32>) -> Actor {
    let actor = actor.known_by("uid", u64::from(uid));
    match pid.and_then(|pid| u64::try_from(pid).ok()) {
        Some(pid) => actor.known_by("pid", pid),
        None => actor,
    }
}

fn kind_of(kind: SvidKind) -> &'static str {
    match kind {
        SvidKind::X509 => "x509",
        SvidKind::Jwt => "jwt",
        SvidKind::Wit => "wit",
    }
}
