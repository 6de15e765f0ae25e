//! Conversations as bytes: gRPC messages as they were sent and answered, whatever the definitions have become since.

mod known;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf as _, BufMut as _, Bytes};
use serde_json::{Value, json};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::{AsciiMetadataKey, KeyAndValueRef, MetadataMap};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

pub use known::{Kind, METHODS, Method, method};

/// Metadata: `landfast-…`.
pub type Said = BTreeMap<String, String>;

/// One call.
#[derive(Clone, Debug)]
pub struct Spoken {
    /// As in `:path`.
    pub method: String,
    /// Who called: `anybody`, `node` or `operator`.
    pub by: String,
    /// Metadata of the caller's that has a meaning here.
    pub asked_with: Said,
    /// The same of the answer.
    pub answered_with: Said,
    /// Messages of the caller.
    pub requests: Vec<Bytes>,
    /// Messages of the answer; of a stream without end the first.
    pub responses: Vec<Bytes>,
    /// How it ended.
    pub code: Code,
}

/// Reads a file.
pub fn read(path: &Path) -> Vec<Spoken> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let calls: Value = serde_json::from_str(&text).expect("JSON");
    let calls = calls.as_array().expect("calls").iter();
    calls.map(Spoken::of_json).collect()
}

/// Writes a file. With each message stands what it says, for people; nothing reads that.
pub fn write(path: &Path, calls: &[Spoken]) {
    let calls: Vec<Value> = calls.iter().map(Spoken::json).collect();
    super::put(path, &format!("{:#}\n", json!(calls)));
}

impl Spoken {
    fn of_json(value: &Value) -> Self {
        let text = |name: &str| value[name].as_str().expect("a text").to_owned();
        let message = |one: &Value| STANDARD.decode(one["bytes"].as_str().expect("bytes"));
        let messages = |name: &str| {
            let all = value[name].as_array().expect("messages").iter();
            all.map(|one| message(one).expect("base64").into()).collect()
        };
        let said = |name: &str| serde_json::from_value(value[name].clone()).expect("metadata");
        let code = value["code"].as_i64().and_then(|code| i32::try_from(code).ok());
        Self {
            method: text("method"),
            by: text("by"),
            asked_with: said("asked_with"),
            answered_with: said("answered_with"),
            requests: messages("requests"),
            responses: messages("responses"),
            code: Code::from_i32(code.expect("a code")),
        }
    }

    fn json(&self) -> Value {
        let method = method(&self.method);
        let messages = |all: &[Bytes], says: fn(&Bytes) -> String| {
            let all = all
                .iter()
                .map(|one| json!({ "bytes": STANDARD.encode(one), "says": says(one) }));
            all.collect::<Vec<_>>()
        };
        json!({
            "method": self.method, "by": self.by, "code": i32::from(self.code),
            "asked_with": self.asked_with, "answered_with": self.answered_with,
            "requests": messages(&self.requests, method.request.says),
            "responses": messages(&self.responses, method.response.says),
        })
    }

    /// Messages of the answer that are sure to come when it is asked again.
    pub fn sure(&self) -> &[Bytes] {
        match method(&self.method).goes_on {
            true => self.responses.get(..1).unwrap_or_default(),
            false => &self.responses,
        }
    }

    /// The same call, today. So many messages of the answer are waited for.
    pub async fn again(&self, channel: &Channel, wanted: usize) -> Self {
        let mut responses = Vec::new();
        let mut answered_with = Said::new();
        let calling = self.converse(channel, wanted, &mut responses, &mut answered_with);
        let code = match tokio::time::timeout(ANSWERED_WITHIN, calling).await {
            Ok(Ok(())) => Code::Ok,
            Ok(Err(status)) => status.code(),
            Err(_elapsed) => Code::DeadlineExceeded,
        };
        Self {
            responses,
            answered_with,
            code,
            ..self.clone()
        }
    }

    async fn converse(
        &self,
        channel: &Channel,
        wanted: usize,
        answered: &mut Vec<Bytes>,
        said: &mut Said,
    ) -> Result<(), Status> {
        let mut grpc = tonic::client::Grpc::new(channel.clone());
        let ready = grpc.ready().await;
        ready.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = self.method.parse().expect("a path");
        // Some hear their caller's end as the end of the call: theirs stays open.
        let (send, receive) = tokio::sync::mpsc::channel(self.requests.len().max(1));
        for request in &self.requests {
            send.try_send(request.clone()).expect("there is room for all");
        }
        let _open = method(&self.method).streams.then_some(send);
        let mut request = Request::new(tokio_stream::wrappers::ReceiverStream::new(receive));
        *request.metadata_mut() = metadata(&self.asked_with);
        let answer = grpc.streaming(request, path, Plain).await?;
        *said = said_in(answer.metadata());
        let mut stream = answer.into_inner();
        while let Some(message) = stream.message().await? {
            answered.push(message);
            if answered.len() == wanted {
                break;
            }
        }
        Ok(())
    }
}

/// What of it has a meaning here.
pub fn said_in(metadata: &MetadataMap) -> Said {
    let all = metadata.iter().filter_map(|pair| match pair {
        KeyAndValueRef::Ascii(name, value) => {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        }
        KeyAndValueRef::Binary(..) => None,
    });
    all.filter(|(name, _)| name.starts_with("landfast-")).collect()
}

/// The other way round.
pub fn metadata(said: &Said) -> MetadataMap {
    let mut all = MetadataMap::new();
    for (name, value) in said {
        let name: AsciiMetadataKey = name.parse().expect("a name");
        all.insert(name, value.parse().expect("a value"));
    }
    all
}

/// Fields of a message: their numbers, and what is in them.
type Fields<'a> = Vec<(u64, &'a [u8], bool)>;

/// Reads a message without its definition; a field with others in it, or text, is true.
fn fields(mut message: &[u8]) -> Option<Fields<'_>> {
    let mut found = Vec::new();
    while !message.is_empty() {
        let key = prost::encoding::decode_varint(&mut message).ok()?;
        let before = message;
        let (skip, is_long) = match key & 7 {
            0 => {
                prost::encoding::decode_varint(&mut message).ok()?;
                found.push((key, &before[..before.len() - message.len()], false));
                continue;
            }
            1 => (8, false),
            2 => (
                usize::try_from(prost::encoding::decode_varint(&mut message).ok()?).ok()?,
                true,
            ),
            5 => (4, false),
            _ => return None,
        };
        found.push((key, message.get(..skip)?, is_long));
        message = &message[skip..];
    }
    Some(found)
}

/// Whether a message says all that another one said, and perhaps more. Lists may be in another order.
pub fn says_all_of(now: &[u8], then: &[u8]) -> bool {
    if now == then {
        return true;
    }
    let (Some(now), Some(then)) = (fields(now), fields(then)) else {
        return false;
    };
    then.iter().all(|(key, then, is_long)| {
        let mut same = now.iter().filter(|(other, ..)| other == key);
        same.any(|(_, now, _)| now == then || (*is_long && says_all_of(now, then)))
    })
}

/// Whether a message has every field that another one had, whatever is in them.
pub fn has_all_of(now: &[u8], then: &[u8]) -> bool {
    let (Some(now), Some(then)) = (fields(now), fields(then)) else {
        return false;
    };
    then.iter()
        .all(|(key, ..)| now.iter().any(|(other, ..)| other == key))
}

/// Messages as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

const ANSWERED_WITHIN: Duration = Duration::from_secs(20);
