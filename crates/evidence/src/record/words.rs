//! Records in words. Invariant: words of ours around what the record holds; a type that is not known here is told by its own name.

use serde_json::Value;

use super::{Actor, Record};
use crate::tally::counted;

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
                "person {subject}: {}{}{}",
                self.says("action").unwrap_or("changed"),
                self.given(),
                self.alone()
            ),
            "person.proposed" => format!(
                "proposed about person {subject}: {}{}",
                self.says("action").unwrap_or("a change"),
                self.given()
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
            "operator.denied" | "call.denied" => format!(
                "not let call {}{}",
                self.says("method").unwrap_or("something"),
                self.target
                    .as_ref()
                    .map(|target| format!(" on {target}"))
                    .unwrap_or_default()
            ),
            "login.denied" => "a login was refused, as its person is not active".to_owned(),
            "attestation.failed" | "connection.failed" | "call.failed" | "login.failed" => format!(
                "{} before anybody was known ({})",
                counted(self.counts("times").max(1), "failure"),
                self.kind.replace('.', " ")
            ),
            "backup.made" => "a backup was made".to_owned(),
            "log.gap" => self.gap(),
            "log.pruned" => format!(
                "the records before {} were taken to an archive",
                self.counts("first_record")
            ),
            "log.fills" => format!("the ledger has {} % of its room", self.counts("used_percent")),
            "agent.handed-out" => format!(
                "the node gave {} for {subject} to a process{}",
                self.document(),
                self.process()
            ),
            "agent.denied" => format!("the node had nothing for a process{}", self.process()),
            "selftest.tried" => format!(
                "a self-test tried {}, and it was {}",
                self.says("name").unwrap_or("something"),
                match self.decision.as_str() {
                    "deny" => "refused",
                    "allow" => "LET THROUGH",
                    _ => "not tried after all",
                }
            ),
            "selftest.done" => format!(
                "a self-test of {} tries: {} let through, {} not tried",
                self.counts("tries"),
                self.counts("let_through"),
                self.counts("not_tried")
            ),
            kind if kind.starts_with("authority.") => {
                let named = [self.says("kind"), Some("authority"), self.says("authority")];
                let named: Vec<_> = named.into_iter().flatten().collect();
                format!("{}: {}", named.join(" "), &kind["authority.".len()..])
            }
            kind if kind.starts_with("agent.") => {
                format!("the node says: {}", kind["agent.".len()..].replace('-', " "))
            }
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

    /// A time in which the ledger could not be written, and what came of what happened then.
    fn gap(&self) -> String {
        let since = self.says("since").unwrap_or("an unknown time");
        let mut parts = vec![format!(
            "the ledger can be written again: since {since} it could not"
        )];
        let said = [
            (
                "refused",
                "found no room, and what they would have told did not happen",
            ),
            (
                "written_after",
                "of what went on without a record stand directly behind",
            ),
            ("late", "of what went on stand where they were written, late"),
            ("lost", "of what went on are LOST: nobody has kept them"),
        ];
        let counts = said.iter().filter(|(name, _)| self.counts(name) > 0);
        parts.extend(counts.map(|(name, what)| format!("{} {what}", counted(self.counts(name), "record"))));
        if self.is("uncounted") {
            parts.push("the server died meanwhile, and nobody has counted what went on".to_owned());
        }
        if parts.len() == 1 {
            parts.push("nothing was asked for meanwhile".to_owned());
        }
        parts.join("; ")
    }

    /// To which process something was given.
    fn process(&self) -> String {
        let of = |name: &str| match self.detail.get(name) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Number(number)) => Some(number.to_string()),
            _ => None,
        };
        let parts = [("uid", "to_uid"), ("pid", "to_pid"), ("program", "to_path")];
        let parts = parts
            .iter()
            .filter_map(|(word, name)| of(name).map(|value| format!("{word} {value}")));
        let parts: Vec<_> = parts.collect();
        match parts.is_empty() {
            true => String::new(),
            false => format!(" ({})", parts.join(", ")),
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

    /// What was given to a person, or taken, where the record says it.
    fn given(&self) -> String {
        let list = |name: &str| -> Vec<&str> {
            let all = self.detail.get(name).and_then(Value::as_array);
            all.into_iter().flatten().filter_map(Value::as_str).collect()
        };
        let parts = [("role", list("roles")), ("login", list("logins"))];
        let parts = parts.iter().filter(|(_, all)| !all.is_empty());
        let mut parts: Vec<_> = parts
            .map(|(word, all)| format!("{word} {}", all.join(" and ")))
            .collect();
        parts.extend(self.is("activate").then(|| "active again".to_owned()));
        parts.extend(self.is("deactivate").then(|| "not active any more".to_owned()));
        match parts.is_empty() {
            true => String::new(),
            false => format!(" ({})", parts.join(", ")),
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Ref;

    #[test]
    fn a_gap_says_what_was_refused_what_came_late_and_what_is_lost() {
        let sentence = |detail: &str| {
            let line = format!(r#"{{"seq":0,"type":"log.gap","result":"failed","detail":{{{detail}}}}}"#);
            Record::parse(Ref { ledger: 1, record: 0 }, &line)
                .unwrap()
                .sentence()
        };
        let closed = sentence(r#""refused":3,"since":"2026-11-27T10:00:00Z""#);
        assert!(
            closed.contains("since 2026-11-27T10:00:00Z") && closed.contains("3 records found no room"),
            "{closed}"
        );
        let open = sentence(r#""refused":0,"late":1,"lost":7,"written_after":4096"#);
        for part in [
            "4096 records of what went on",
            "1 record of what went on stand where",
            "7 records of what went on are LOST",
        ] {
            assert!(open.contains(part), "{part}: {open}");
        }
        assert!(!open.contains("found no room"), "{open}");
        assert!(sentence(r#""uncounted":true"#).contains("nobody has counted"));
    }
}
