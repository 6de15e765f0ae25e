//! What a client asked for and what it was told: the part that both ways of asking have in common.
//!
//! Invariant: nothing is told twice that has not changed in between, whether the client took it or refused it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use landfast_proto::{envoy::config::core::v3::Node, google::rpc};
use tonic::Status;

use super::{
    Sds,
    offer::{Form, Found, Named, Offer, TYPE_URL, Version},
};
use crate::{ServedX509, WorkloadView};

/// Both collections are bounded by what the caller may have and what one message holds: a name that he may not have ends his stream.
pub(super) struct Subscriber {
    form: Form,
    /// Whether all that there is is asked for.
    pub(super) all: bool,
    pub(super) names: BTreeSet<String>,
    /// The version that the client was sent of each name; `None` when it was told that there is none any more.
    pub(super) told: BTreeMap<String, Option<Version>>,
    /// Responses so far; the nonce of the last.
    sent: u64,
    /// Whether anything of the above was asked for anew since it was looked at.
    pub(super) asked: bool,
    /// The view that it was looked for in last.
    looked: Option<Arc<WorkloadView>>,
    /// SVIDs of the message that is made.
    giving: Vec<ServedX509>,
}

impl Default for Subscriber {
    fn default() -> Self {
        Self {
            form: Form::Spiffe,
            all: false,
            names: BTreeSet::new(),
            told: BTreeMap::new(),
            sent: 0,
            asked: true,
            looked: None,
            giving: Vec::new(),
        }
    }
}

/// What a request came to.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Heard {
    /// Perhaps more is wanted now.
    Asked,
    /// It answers a response that is no longer the last one.
    Stale,
    /// The client does not take what it was sent. It keeps what it had.
    Refused { reason: String, asked: bool },
}

/// What has changed for a client.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) changed: Vec<Named>,
    pub(super) removed: Vec<String>,
}

impl Subscriber {
    /// Whether nothing was heard or sent yet.
    pub(super) fn is_answered(&self) -> bool {
        self.sent > 0
    }

    /// Whether `nonce` is the last response's.
    pub(super) fn is_current(&self, nonce: &str) -> bool {
        nonce == nonce_of(self.sent)
    }

    pub(super) fn next_nonce(&mut self) -> String {
        self.sent += 1;
        nonce_of(self.sent)
    }

    /// The SVIDs that were told of since this was asked for.
    pub(super) fn given(&mut self) -> Vec<ServedX509> {
        std::mem::take(&mut self.giving)
    }

    /// A client need not say more than once who it is.
    pub(super) fn meet(&mut self, node: Option<&Node>, sds: &Sds, first: bool) {
        if node.is_some() || first {
            let form = Form::of(node, sds);
            self.asked |= form != self.form;
            self.form = form;
        }
    }

    /// Compares what the client was told with what there is, and takes it as told. Costs nothing when neither has changed since: a client may
    /// say as often as it likes what it has said before.
    pub(super) fn changes(&mut self, sds: &Sds, view: &Arc<WorkloadView>) -> Result<Changes, Status> {
        let same = self.looked.as_ref().is_some_and(|last| Arc::ptr_eq(last, view));
        if !std::mem::take(&mut self.asked) && same {
            return Ok(Changes::default());
        }
        self.looked = Some(Arc::clone(view));
        let offer = Offer::new(sds, view, self.form);
        let everything = if self.all { offer.names() } else { Vec::new() };
        let mut changes = Changes::default();
        let mut foreign = Vec::new();
        for name in self.names.iter().chain(&everything) {
            if offer.is_impossible(name) {
                return Err(impossible(name));
            }
            let told = self.told.get(name);
            match offer.find(name) {
                Found::Secret(named) if told.is_some_and(|told| told.as_ref() == Some(&named.version)) => {}
                Found::Secret(named) => {
                    self.told.insert(name.clone(), Some(named.version.clone()));
                    self.giving.extend(named.svid().cloned());
                    changes.changed.push(*named);
                }
                Found::Later => {}
                // It was the caller's, and he knows.
                Found::Nothing if told == Some(&None) => {}
                Found::Nothing if told.is_some() => {
                    self.told.insert(name.clone(), None);
                    changes.removed.push(name.clone());
                }
                Found::Nothing => foreign.push(name.clone()),
            }
        }
        if !foreign.is_empty() {
            return Err(not_authorized(&foreign));
        }
        // Of all that there was, what is no more.
        let names = &self.names;
        self.told.retain(|name, version| {
            let kept = names.contains(name) || everything.binary_search(name).is_ok();
            if !kept && version.is_some() {
                changes.removed.push(name.clone());
            }
            kept
        });
        Ok(changes)
    }
}

pub(super) fn not_authorized(names: &[String]) -> Status {
    Status::invalid_argument(format!(
        "workload is not authorized for the requested identities {names:?}"
    ))
}

pub(super) fn impossible(name: &str) -> Status {
    Status::invalid_argument(format!(
        "{name:?} needs the SPIFFE validator, which is switched off or not in this Envoy"
    ))
}

pub(super) fn check_type(type_url: &str) -> Result<(), Status> {
    if type_url.is_empty() || type_url == TYPE_URL {
        return Ok(());
    }
    Err(Status::invalid_argument(format!("only {TYPE_URL} is served")))
}

/// A client's own words, cut and escaped: they go to the log.
pub(super) fn refusal(detail: &rpc::Status) -> String {
    let words: String = detail.message.chars().take(LONGEST_REASON).collect();
    format!("an Envoy refuses its secrets: {words:?}")
}

fn nonce_of(sent: u64) -> String {
    format!("{sent:08x}")
}

const LONGEST_REASON: usize = 300;
