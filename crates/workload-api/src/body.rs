//! A response body that gives its place back when it ends.
//!
//! Invariant: the stream is charged until its body is dropped, not only until the handler returns.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tonic::Status;

use crate::{connection::Probe, ledger::StreamPermit};

#[derive(Debug)]
pub(crate) struct ChargedBody {
    inner: tonic::body::Body,
    /// `None` for refusals, which are not charged.
    charge: Option<(Arc<Probe>, StreamPermit)>,
}

impl ChargedBody {
    pub(crate) fn charged(inner: tonic::body::Body, probe: Arc<Probe>, permit: StreamPermit) -> Self {
        Self {
            inner,
            charge: Some((probe, permit)),
        }
    }

    pub(crate) fn free(inner: tonic::body::Body) -> Self {
        Self { inner, charge: None }
    }
}

impl Body for ChargedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some((probe, _)) = &self.charge {
            probe.taken();
        }
        let frame = Pin::new(&mut self.inner).poll_frame(context);
        if let (Some((probe, _)), Poll::Ready(Some(_))) = (&self.charge, &frame) {
            probe.handed_over();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
