//! The body of a counted answer. Invariant: it goes to the connection in pieces, each when the one before has left, so that HTTP/2 holds no more
//! than a piece of what its peer does not take.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;
use tonic::Status;
use tonic::body::Body;

use super::Way;

/// Paces the answer, if it is one that counts.
pub(crate) fn paced(mut answer: http::Response<Body>) -> http::Response<Body> {
    match answer.extensions_mut().remove::<Way>() {
        None => answer,
        Some(way) => answer.map(|body| {
            Body::new(Paced {
                body,
                way,
                rest: Bytes::new(),
                given: false,
            })
        }),
    }
}

struct Paced {
    body: Body,
    way: Way,
    /// Of a message, what was not given to the connection yet.
    rest: Bytes,
    /// Something was since the way was last clear.
    given: bool,
}

impl http_body::Body for Paced {
    type Data = Bytes;
    type Error = Status;

    /// HTTP/2 asks when its windows are open, and by then the connection has to have sent what it had.
    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        ready!(this.way.poll_free(context.waker()));
        if this.rest.is_empty() {
            if std::mem::take(&mut this.given) {
                this.way.gone();
            }
            match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        this.given = true;
        this.way.give();
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }
}

/// What a stream that was reset had is not sent: others of its connection do not wait for it.
impl Drop for Paced {
    fn drop(&mut self) {
        if self.given {
            self.way.gone();
            self.way.let_others();
        }
    }
}

/// A frame of HTTP/2.
const PIECE: usize = 16 * 1024;
