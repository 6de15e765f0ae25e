//! Records in words. Invariant: words of ours around what the record holds; a type that is not known here is told by its own name.

use serde_json::Value;

use super::{Actor, Record};

impl Actor {
    /// Who, as shortly as it can be said.
    #[must_use]
    pub fn name(&self) -> String {
        match (&self.id, self.how.get("uid"), self.class.as_str()) {
            (Some(id), _, "person") => format!("person {id}"),
            (Some(id), ..) => id.clone(),
            (None, Some(uid), _) => format!("uid {uid}, no person known"),
            (None, None, "server") => "the server itself".to_owned(),
            (None, None, "") => "nobody is named".to_owned(),
            (None, None, class) => format!("a {class} that is not named"),
        }
    }
}

impl Record {
    /// What happened, in a sentence without a full stop.
    #[must_use]
    pub fn sentence(&self) -> String {
        let subject = self.subject.as_deref().unwrap_or("(nobody named)");
        let said = match self.kind.as_str() {
            "svid.issued" => format!("{} for {subject}, {}", self.document(), self.validity()),
            "rung.issued" => format!(
                "{} for {subject}, ahead, for when the node is cut off, {}",
                self.document(),
                self.validity()
            ),
            "authority.issued" => format!(
                "certificate {} of a server below, for {subject}, {}",
                self.serial(),
                self.validity()
            ),
            "svid.denied" => format!("refused to {subject}"),
            "node.attested" if self.is("returned") => format!("node {subject} came back by its device key"),
            "node.attested" => format!("node {subject} was let in"),
            "node.approved" => format!("node {subject} may come back"),
            "node.refused" => format!("node {subject} may not come back"),
            "node.banned" => format!("node {subject} was banned"),
            "node.evicted" => format!("node {subject} was evicted"),
            "token.made" => format!(
                "a join token was made, valid until {}",
                self.says("expires_at").unwrap_or("an unknown time")
            ),
            "entry.created" => format!("entry {} gives {subject} to {}", self.entry(), self.selectors()),
            "entry.changed" => format!(
                "entry {} now gives {subject} to {}",
                self.entry(),
                self.selectors()
            ),
            "entry.deleted" => format!("entry {} was deleted", self.entry()),
            "policy.changed" => format!(
                "the policy of entry {} was changed{}",
                self.entry(),
                self.class_words()
            ),
            "person.changed" => format!(
                "person {subject}: {}{}",
                self.says("action").unwrap_or("changed"),
                self.alone()
            ),
            "person.proposed" => format!(
                "proposed about person {subject}: {}",
                self.says("action").unwrap_or("a change")
            ),
            "person.rejected" => format!(
                "rejected about person {subject}: {}",
                self.says("action").unwrap_or("a change")
            ),
            "log.started" => format!(
                "the server began to write (version {})",
                self.says("version").unwrap_or("unknown")
            ),
            "log.stopped" => "the server ended in order".to_owned(),
            "log.gap" => format!(
                "the ledger can be written again: since {} it could not, and {} records found no room",
                self.says("since").unwrap_or("an unknown time"),
                self.counts("refused")
            ),
            kind if kind.starts_with("authority.") => format!(
                "authority {} ({}): {}",
                self.says("authority").unwrap_or("unknown"),
                self.says("kind").unwrap_or("unknown kind"),
                &kind["authority.".len()..]
            ),
            kind if kind.starts_with("federation.") || kind.starts_with("bundle.") => {
                format!("{kind} about {subject}")
            }
            kind => match &self.subject {
                Some(subject) => format!("{kind}: {subject}"),
                None => kind.to_owned(),
            },
        };
        match (&self.reason, self.result.as_str()) {
            (Some(reason), _) => format!("{said}: {reason}"),
            (None, "failed") => format!("{said}; it failed"),
            _ => said,
        }
    }

    fn document(&self) -> String {
        let kind = match self.says("kind") {
            Some("x509") | None => "X.509-SVID",
            Some("jwt") => "JWT-SVID",
            Some("wit") => "WIT-SVID",
            Some(_) => "SVID",
        };
        format!("{kind} {}", self.serial())
    }

    fn serial(&self) -> &str {
        self.says("serial").unwrap_or("without a number")
    }

    fn validity(&self) -> String {
        let time = |name| self.says(name).unwrap_or("an unknown time");
        format!("valid from {} to {}", time("not_before"), time("not_after"))
    }

    fn entry(&self) -> &str {
        self.says("entry").unwrap_or("without an ID")
    }

    fn alone(&self) -> &str {
        if self.is("alone") {
            ", by fewer than two persons"
        } else {
            ""
        }
    }

    fn class_words(&self) -> String {
        match (self.says("class"), self.says("sponsor")) {
            (Some(class), Some(sponsor)) => format!(": class {class}, sponsor {sponsor}"),
            (Some(class), None) => format!(": class {class}"),
            _ => String::new(),
        }
    }

    /// What the entry asks of a workload.
    pub(crate) fn selectors(&self) -> String {
        let selectors = self.detail.get("selectors").and_then(Value::as_array);
        let selectors: Vec<&str> = selectors
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let parent = self.says("parent").unwrap_or("an unknown node");
        match selectors.is_empty() {
            true => format!("whoever {parent} takes for it"),
            false => format!("{} on {parent}", selectors.join(" and ")),
        }
    }
}
