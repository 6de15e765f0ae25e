//! OTLP's logs, as far as records need them. Invariant: the field numbers are those of the public protocol (opentelemetry-proto 1.x, `logs/v1`,
//! `collector/logs/v1`); the words are ours, and what we do not send is left out.

use prost::Message as _;

use super::batch::{Batch, Message, Severity};
use super::http;
use super::sink::SinkError;
use super::wire::Peer;

/// An answer of 200 is an acknowledgement; what it says it has refused is not sent again, as the protocol has it.
pub(super) async fn deliver(peer: &Peer, path: &str, batch: &Batch) -> Result<(), SinkError> {
    let answer = http::post(peer, path, request(batch).encode_to_vec()).await?;
    let refused = Response::decode(&answer[..])
        .ok()
        .and_then(|answer| answer.partial);
    if let Some(refused) = refused.filter(|refused| refused.records > 0) {
        metrics::counter!("landfast_server_forward_refused_records_total")
            .increment(u64::try_from(refused.records).unwrap_or(0));
        tracing::error!(
            records = refused.records,
            "a collector refuses records of the ledger: its log says why"
        );
    }
    Ok(())
}

pub(super) fn request(batch: &Batch) -> Request {
    let resource = Resource {
        attributes: vec![
            text("service.name", "landfast-server"),
            text("service.version", env!("CARGO_PKG_VERSION")),
            text("landfast.ledger", &batch.origin),
        ],
    };
    let scope = Scope {
        name: "landfast.ledger".to_owned(),
        version: "1".to_owned(),
    };
    let records = batch.messages.iter().map(record).collect();
    Request {
        resources: vec![OfResource {
            resource: Some(resource),
            scopes: vec![OfScope {
                scope: Some(scope),
                records,
            }],
        }],
    }
}

fn record(message: &Message) -> Record {
    let (severity, word) = match message.severity {
        Severity::Error => (17, "ERROR"),
        Severity::Warning => (13, "WARN"),
        Severity::Information => (9, "INFO"),
    };
    let sequence = message.sequence.and_then(|sequence| i64::try_from(sequence).ok());
    let sequence = sequence.map(|sequence| Attribute {
        key: "landfast.seq".to_owned(),
        value: Some(Any {
            value: Some(Value::Number(sequence)),
        }),
    });
    let seconds = message.time.as_deref().and_then(seconds).unwrap_or(0);
    Record {
        // Zero is "unknown" in both.
        time: seconds.saturating_mul(1_000_000_000),
        severity,
        severity_word: word.to_owned(),
        body: Some(Any {
            value: Some(Value::Text(message.line.clone())),
        }),
        attributes: sequence.into_iter().collect(),
        event: message.kind.clone(),
    }
}

fn text(key: &str, value: &str) -> Attribute {
    Attribute {
        key: key.to_owned(),
        value: Some(Any {
            value: Some(Value::Text(value.to_owned())),
        }),
    }
}

/// Since 1970, of a record's time: `2026-11-26T08:00:00Z`.
fn seconds(time: &str) -> Option<u64> {
    let number = |range: std::ops::Range<usize>| time.get(range)?.parse::<u64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || year < 1970 {
        return None;
    }
    // March begins the year, so that the leap day ends it.
    let (year, month) = match month {
        1 | 2 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    let since = days.checked_sub(719_468)?;
    Some(since * 86_400 + hour * 3600 + minute * 60 + second)
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Request {
    #[prost(message, repeated, tag = "1")]
    pub(super) resources: Vec<OfResource>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct OfResource {
    #[prost(message, optional, tag = "1")]
    pub(super) resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub(super) scopes: Vec<OfScope>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub(super) attributes: Vec<Attribute>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct OfScope {
    #[prost(message, optional, tag = "1")]
    pub(super) scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    pub(super) records: Vec<Record>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Scope {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) version: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Record {
    /// Nanoseconds since 1970.
    #[prost(fixed64, tag = "1")]
    pub(super) time: u64,
    #[prost(int32, tag = "2")]
    pub(super) severity: i32,
    #[prost(string, tag = "3")]
    pub(super) severity_word: String,
    #[prost(message, optional, tag = "5")]
    pub(super) body: Option<Any>,
    #[prost(message, repeated, tag = "6")]
    pub(super) attributes: Vec<Attribute>,
    #[prost(string, tag = "12")]
    pub(super) event: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Attribute {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(message, optional, tag = "2")]
    pub(super) value: Option<Any>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Any {
    #[prost(oneof = "Value", tags = "1, 3")]
    pub(super) value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Number(i64),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Response {
    #[prost(message, optional, tag = "1")]
    pub(super) partial: Option<Refused>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Refused {
    #[prost(int64, tag = "1")]
    pub(super) records: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_records_time_is_seconds_since_1970() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T12:34:56Z", Some(951_827_696)),
            ("2026-11-26T08:00:00Z", Some(1_795_680_000)),
            ("@-5", None),
            ("1969-12-31T23:59:59Z", None),
            ("2026-13-26T08:00:00Z", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }
}
