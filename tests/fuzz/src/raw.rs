//! gRPC calls whose messages are bytes. Invariant: a status that this side made up is told apart from one that came over the wire.

use bytes::{Buf, BufMut, Bytes};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// What came back: the messages, and the status that ended them unless it was fine.
#[derive(Debug)]
pub struct Answer {
    /// The messages, [`MAX_MESSAGES`] at most.
    pub messages: Vec<Bytes>,
    /// The end, when it was not `Ok`.
    pub refused: Option<Status>,
}

impl Answer {
    /// How it ended.
    pub fn code(&self) -> Code {
        self.refused.as_ref().map_or(Code::Ok, Status::code)
    }
}

/// Calls a method with these messages, and reads what comes until its end, or as many messages as wanted.
pub async fn call(
    channel: &Channel,
    path: &'static str,
    metadata: MetadataMap,
    messages: Vec<Bytes>,
    wanted: usize,
) -> Answer {
    let mut client = tonic::client::Grpc::new(channel.clone());
    let mut answer = Answer {
        messages: Vec::new(),
        refused: None,
    };
    if let Err(error) = client.ready().await {
        answer.refused = Some(Status::from_error(error.into()));
        return answer;
    }
    let mut request = Request::new(tokio_stream::iter(messages));
    *request.metadata_mut() = metadata;
    let path = http::uri::PathAndQuery::from_static(path);
    let mut stream = match client.streaming(request, path, Raw).await {
        Ok(response) => response.into_inner(),
        Err(status) => {
            answer.refused = Some(status);
            return answer;
        }
    };
    while answer.messages.len() < wanted.min(MAX_MESSAGES) {
        match stream.message().await {
            Ok(Some(message)) => answer.messages.push(message),
            Ok(None) => break,
            Err(status) => {
                answer.refused = Some(status);
                break;
            }
        }
    }
    answer
}

/// No service answers more to one request of the sizes we send.
pub const MAX_MESSAGES: usize = 64;

/// A status that says that the server, not the caller, is at fault. What broke on this side has a source; what the server said has none.
pub fn blames_the_server(status: &Status) -> bool {
    use std::error::Error as _;
    let ours = matches!(
        status.code(),
        Code::Internal | Code::Unknown | Code::DataLoss | Code::Unavailable | Code::DeadlineExceeded
    );
    ours && status.source().is_none()
}

/// A connection that has ended of age, which is nobody's fault.
pub fn connection_lost(status: &Status) -> bool {
    use std::error::Error as _;
    status.source().is_some()
}

/// The codec that leaves everything as it is.
#[derive(Clone, Copy, Default, Debug)]
pub struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        *self
    }
    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;
    fn decode(&mut self, input: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(input.copy_to_bytes(input.remaining())))
    }
}
