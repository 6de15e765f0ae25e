//! Whether a node comes back by its device key, and who decides that.
//!
//! Invariant: pure. A counter belongs to the key of an SVID that first asked with it; once another key asks with one that is not new, nobody comes
//! back by this device key until a person has chosen. Nor does anybody without one while what was decided may have been forgotten. Nothing here
//! ends an SVID.

use std::time::Duration;

use landfast_identity::UnixTime;

/// SHA-256 of a public key (SubjectPublicKeyInfo).
pub type KeyName = [u8; 32];

/// A node asks to be itself again, and has proved that it holds the device key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Grows with each SVID that is asked for.
    pub counter: u64,
    /// The key that the SVID is asked for.
    pub key: KeyName,
    /// From where it asked.
    pub address: String,
    /// When; of one that was let in: when that was.
    pub at: UnixTime,
}

impl Claim {
    fn is(&self, other: &Self) -> bool {
        (self.counter, self.key) == (other.counter, other.key)
    }
}

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The node was let in.
    Accepted,
    /// A person is to decide.
    Waiting,
    /// A person has let it in; it has not come for it yet.
    Approved,
    /// A person has refused it.
    Denied,
}

/// A registered device key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The key itself, as SubjectPublicKeyInfo.
    pub spki: Vec<u8>,
    /// Its name.
    pub name: KeyName,
    /// Since when it counts.
    pub at: UnixTime,
}

/// A device key that is to be registered, and may not be without a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The key itself, as SubjectPublicKeyInfo.
    pub spki: Vec<u8>,
    /// Its name.
    pub name: KeyName,
    /// From where it was offered.
    pub address: String,
    /// When.
    pub at: UnixTime,
    /// A person has refused it.
    pub denied: bool,
}

/// All there is to know about the recovery of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// When the node was first let in. Not known of nodes from before there were device keys.
    pub enrolled_at: Option<UnixTime>,
    /// When the node last got an SVID of its own.
    pub heard_at: Option<UnixTime>,
    /// By which it may come back.
    pub key: Option<Registered>,
    /// The newest claim, and what became of it.
    pub last: Option<(Claim, Decision)>,
    /// A claim that cannot be of the same node: recovery is locked.
    pub rival: Option<Claim>,
    /// The device key has been in two hands: only the claim that a person has chosen counts, and whoever made it makes another key.
    pub replace: bool,
    /// Another device key, which waits for a person.
    pub offer: Option<Offer>,
    /// The registry has gone back, and what was decided since is not known: that this key is in two hands, perhaps. Only a person's word ends it: a node
    /// that renews its SVID says nothing of who else has the key.
    pub doubted: bool,
}

/// What a node is answered that claims to be itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is let in; `again`: it was before, and has lost the answer.
    Accepted {
        /// See above.
        again: bool,
    },
    /// A person is to decide.
    Held {
        /// Nobody has heard of it yet.
        new: bool,
    },
    /// Two have claimed to be this node: a person is to decide between them.
    Locked {
        /// It is this claim that locked it.
        new: bool,
    },
    /// A person has refused it.
    Denied,
    /// There is no such device key.
    Unknown,
}

/// What a node is answered that registers a device key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// It counts; `new`: from now on.
    Registered {
        /// See above.
        new: bool,
    },
    /// A person is to decide.
    Held {
        /// Nobody has heard of it yet.
        new: bool,
    },
    /// A person has refused it.
    Denied,
    /// This key has been in two hands: make another.
    MakeAnother,
}

/// What a person is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Whether this claim is the node's, which has been silent for so long.
    Recovery {
        /// The claim.
        claim: Claim,
        /// What was said to it so far: anything but accepted.
        decision: Decision,
    },
    /// Which of two claims is the node's.
    Conflict {
        /// The one that came first.
        first: Claim,
        /// The one that locked recovery.
        rival: Claim,
    },
    /// Whether this is the node's new device key.
    Registration(Offer),
}

/// What a person has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is the node.
    Approve,
    /// It is not.
    Deny,
}

impl Recovery {
    /// Judges a claim that `proved` has signed. Up to `automatic` after it was last heard, a node comes back by itself.
    pub fn claim(&mut self, proved: &KeyName, claim: Claim, automatic: Duration) -> Verdict {
        if self.key.as_ref().is_none_or(|key| key.name != *proved) {
            return Verdict::Unknown;
        }
        if self.rival.is_some() {
            return Verdict::Locked { new: false };
        }
        let in_time = self.is_in_time(claim.at, automatic);
        let heard_at = self.heard_at;
        match &mut self.last {
            Some((last, decision)) if last.is(&claim) => {
                let next = match decision {
                    Decision::Denied => return Verdict::Denied,
                    // Perhaps it was refused since.
                    Decision::Approved if self.doubted => Decision::Waiting,
                    Decision::Approved => Decision::Accepted,
                    Decision::Accepted if heard_at == Some(last.at) && in_time => {
                        return Verdict::Accepted { again: true };
                    }
                    // It has had another SVID since, so it got that answer: this is a disk that went back, or a copy of it.
                    Decision::Accepted => Decision::Waiting,
                    Decision::Waiting if in_time => Decision::Accepted,
                    Decision::Waiting => return Verdict::Held { new: false },
                };
                self.take(claim, next)
            }
            Some((last, _)) if claim.counter <= last.counter || self.replace => {
                self.rival = Some(claim);
                Verdict::Locked { new: true }
            }
            _ if in_time => self.take(claim, Decision::Accepted),
            _ => self.take(claim, Decision::Waiting),
        }
    }

    /// Judges a device key that the node offers over a connection that shows its SVID.
    pub fn register(&mut self, offer: Offer) -> Entered {
        let freely = match &self.key {
            Some(key) if key.name == offer.name => {
                return match self.replace {
                    true => Entered::MakeAnother,
                    false => Entered::Registered { new: false },
                };
            }
            // Whoever shows an SVID now is the one that a person has chosen; another who has claimed since does not stop him.
            Some(_) => self.replace && self.was_let_in(),
            None => self.enrolled_at.is_some_and(|at| offer.at.since(at) < WINDOW),
        };
        let freely = freely && !self.doubted;
        if freely {
            self.enter(offer);
            return Entered::Registered { new: true };
        }
        match &self.offer {
            Some(known) if known.name == offer.name && known.denied => Entered::Denied,
            Some(known) if known.name == offer.name => Entered::Held { new: false },
            _ => {
                self.offer = Some(offer);
                Entered::Held { new: true }
            }
        }
    }

    /// What a person is to decide, or may decide anew.
    #[must_use]
    pub fn questions(&self) -> Vec<Question> {
        let claim = match (&self.last, &self.rival) {
            (Some((first, _)), Some(rival)) => Some(Question::Conflict {
                first: first.clone(),
                rival: rival.clone(),
            }),
            (Some((claim, decision)), None) if *decision != Decision::Accepted => Some(Question::Recovery {
                claim: claim.clone(),
                decision: *decision,
            }),
            _ => None,
        };
        let offer = self.offer.clone().map(Question::Registration);
        claim.into_iter().chain(offer).collect()
    }

    /// Does what a person says about the request of this key: of an SVID, or a device key. `false`: there is no such request now.
    pub fn decide(&mut self, request: &KeyName, answer: Answer, now: UnixTime) -> bool {
        if let Some(rival) = self.rival.take_if(|rival| rival.key == *request) {
            return self.choose(rival, Decision::Approved, answer);
        }
        match &mut self.last {
            Some((last, decision)) if self.rival.is_some() && last.key == *request => {
                // What was let in before needs not come again.
                let decision = match decision {
                    Decision::Accepted => Decision::Accepted,
                    _ => Decision::Approved,
                };
                let last = last.clone();
                return self.choose(last, decision, answer);
            }
            Some((last, decision)) if self.rival.is_none() && last.key == *request => {
                let open = *decision != Decision::Accepted;
                if open {
                    *decision = match answer {
                        Answer::Approve => Decision::Approved,
                        Answer::Deny => Decision::Denied,
                    };
                    self.doubted &= answer == Answer::Deny;
                }
                return open;
            }
            _ => {}
        }
        match (&mut self.offer, answer) {
            (Some(offer), Answer::Deny) if offer.name == *request => offer.denied = true,
            (Some(offer), Answer::Approve) if offer.name == *request => {
                let offer = Offer {
                    at: now,
                    ..offer.clone()
                };
                self.enter(offer);
            }
            _ => return false,
        }
        true
    }

    /// Notes that the node has got an SVID of its own.
    pub fn hear(&mut self, at: UnixTime) {
        self.heard_at = self.heard_at.max(Some(at));
    }

    /// Of two, a person has named one. Who is refused is not the node, and then the other is no more trusted: the device key is forgotten.
    fn choose(&mut self, claim: Claim, approved: Decision, answer: Answer) -> bool {
        match answer {
            Answer::Approve => {
                self.last = Some((claim, approved));
                self.rival = None;
                self.replace = true;
                self.doubted = false;
            }
            Answer::Deny => {
                *self = Self {
                    heard_at: self.heard_at,
                    ..Self::default()
                }
            }
        }
        true
    }

    fn take(&mut self, claim: Claim, decision: Decision) -> Verdict {
        let accepted = decision == Decision::Accepted;
        if accepted {
            self.heard_at = Some(claim.at);
        }
        self.last = Some((claim, decision));
        match accepted {
            true => Verdict::Accepted { again: false },
            false => Verdict::Held { new: true },
        }
    }

    fn enter(&mut self, offer: Offer) {
        self.key = Some(Registered {
            spki: offer.spki,
            name: offer.name,
            at: offer.at,
        });
        self.last = None;
        self.rival = None;
        self.replace = false;
        self.offer = None;
        self.doubted = false;
        self.hear(offer.at);
    }

    fn was_let_in(&self) -> bool {
        matches!(self.last, Some((_, Decision::Accepted)))
    }

    /// With 0 no node ever is.
    fn is_in_time(&self, now: UnixTime, automatic: Duration) -> bool {
        !self.doubted && !automatic.is_zero() && self.heard_at.is_some_and(|at| now.since(at) <= automatic)
    }
}

/// How long after its first enrolment a node may register a device key by itself.
const WINDOW: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests;
