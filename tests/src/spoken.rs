//! Conversations as bytes: gRPC messages as they were sent and answered, whatever the definitions have become since.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf as _, BufMut as _, Bytes};
use serde_json::{Value, json};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// One call.
#[derive(Clone, Debug)]
pub struct Spoken {
    /// As in `:path`.
    pub method: String,
    /// Who called: `anybody`, `node`, `local` or `workload`.
    pub by: String,
    /// Messages of the caller.
    pub requests: Vec<Bytes>,
    /// Messages of the answer; of a stream without end the first.
    pub responses: Vec<Bytes>,
    /// How it ended, if it ended.
    pub code: Code,
}

impl Spoken {
    /// Reads a file.
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).expect("a conversation");
        let value: Value = serde_json::from_str(&text).expect("JSON");
        let messages = |name: &str| {
            let all = value[name].as_array().expect("messages").iter();
            all.map(|one| STANDARD.decode(one.as_str().expect("base64")).expect("base64").into())
                .collect()
        };
        Self {
            method: value["method"].as_str().expect("a method").to_owned(),
            by: value["by"].as_str().expect("a caller").to_owned(),
            requests: messages("requests"),
            responses: messages("responses"),
            code: Code::from_i32(value["code"].as_i64().and_then(|code| i32::try_from(code).ok()).expect("a code")),
        }
    }

    /// As a file.
    pub fn text(&self) -> String {
        let messages = |all: &[Bytes]| all.iter().map(|one| STANDARD.encode(one)).collect::<Vec<_>>();
        let value = json!({
            "method": self.method, "by": self.by, "code": i32::from(self.code),
            "requests": messages(&self.requests), "responses": messages(&self.responses),
        });
        format!("{value:#}\n")
    }

    /// The same call, today. Of the answer as many messages are waited for as there were.
    pub async fn again(&self, channel: &Channel) -> Self {
        let (responses, code) = call(channel, &self.method, self.requests.clone(), self.responses.len()).await;
        Self {
            responses,
            code,
            ..self.clone()
        }
    }
}

/// Sends these messages, and waits for so many, or for the end.
pub async fn call(channel: &Channel, method: &str, requests: Vec<Bytes>, wanted: usize) -> (Vec<Bytes>, Code) {
    let mut answered = Vec::new();
    let calling = converse(channel, method, requests, wanted, &mut answered);
    let ended = tokio::time::timeout(Duration::from_secs(20), calling).await;
    let code = match ended {
        Ok(Ok(())) => Code::Ok,
        Ok(Err(status)) => status.code(),
        Err(_elapsed) => Code::DeadlineExceeded,
    };
    (answered, code)
}

async fn converse(
    channel: &Channel,
    method: &str,
    requests: Vec<Bytes>,
    wanted: usize,
    answered: &mut Vec<Bytes>,
) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = method.parse().map_err(|_invalid| Status::invalid_argument("no path"))?;
    // A stream that stays open, as an agent's does.
    let (send, receive) = tokio::sync::mpsc::channel(requests.len().max(1));
    for request in requests {
        send.send(request).await.map_err(|_closed| Status::cancelled("closed"))?;
    }
    let streams = STREAMED.iter().any(|streamed| method.ends_with(streamed));
    let _open = streams.then_some(send);
    let mut request = Request::new(tokio_stream::wrappers::ReceiverStream::new(receive));
    request
        .metadata_mut()
        .insert("workload.spiffe.io", tonic::metadata::MetadataValue::from_static("true"));
    let mut stream = grpc.streaming(request, path, Plain).await?.into_inner();
    while let Some(message) = stream.message().await? {
        answered.push(message);
        if answered.len() == wanted {
            break;
        }
    }
    Ok(())
}

/// Calls whose caller may say more.
const STREAMED: &[&str] = &["/AttestAgent", "/SyncAuthorizedEntries"];

/// The numbers of the fields that a message has.
pub fn fields(mut message: &[u8]) -> Option<std::collections::BTreeSet<u64>> {
    let mut found = std::collections::BTreeSet::new();
    while !message.is_empty() {
        let key = prost::encoding::decode_varint(&mut message).ok()?;
        found.insert(key >> 3);
        let skip = match key & 7 {
            0 => {
                prost::encoding::decode_varint(&mut message).ok()?;
                0
            }
            1 => 8,
            2 => usize::try_from(prost::encoding::decode_varint(&mut message).ok()?).ok()?,
            5 => 4,
            _ => return None,
        };
        message = message.get(skip..)?;
    }
    Some(found)
}

/// Messages as they are.
#[derive(Clone, Copy, Debug, Default)]
struct Plain;

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
