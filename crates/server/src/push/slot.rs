//! The way to one agent. Invariant: there is room for one message; whoever wants to say more waits until HTTP/2 has taken it, so what one
//! agent makes the server hold is bounded.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use landfast_proto::landfast::sync::v1::SubscribeResponse;
use tokio::sync::Notify;
use tokio_stream::Stream;
use tonic::Status;

/// Both ends of a way.
pub(crate) fn slot() -> (Slot, Answers) {
    let shared = Arc::new(Shared::default());
    (Slot(Arc::clone(&shared)), Answers(shared))
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// There is room again, or nobody listens any more.
    room: Notify,
}

#[derive(Default)]
struct State {
    message: Option<SubscribeResponse>,
    /// What is said when the message is gone.
    end: Option<Result<(), Status>>,
    /// The agent has let go.
    left: bool,
    reader: Option<Waker>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where it is said. Dropping it ends the stream well.
pub(crate) struct Slot(Arc<Shared>);

/// The agent has let go.
#[derive(Debug)]
pub(crate) struct Left;

impl Slot {
    /// Says it, once there is room.
    pub(crate) async fn put(&self, message: SubscribeResponse) -> Result<(), Left> {
        let mut message = Some(message);
        loop {
            {
                let mut state = self.0.state();
                if state.left {
                    return Err(Left);
                }
                if state.message.is_none() {
                    state.message = message.take();
                    state.wake();
                    return Ok(());
                }
            }
            self.0.room.notified().await;
        }
    }

    /// Ends when the agent has let go.
    pub(crate) async fn left(&self) {
        while !self.0.state().left {
            self.0.room.notified().await;
        }
    }

    /// What has been said is still heard, then this.
    pub(crate) fn end(self, end: Result<(), Status>) {
        let mut state = self.0.state();
        state.end.get_or_insert(end);
        state.wake();
    }

    /// What has been said and not taken is forgotten.
    pub(crate) fn break_off(self, why: Status) {
        self.0.state().message = None;
        self.end(Err(why));
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.end.get_or_insert(Ok(()));
        state.wake();
    }
}

impl State {
    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

/// Where it is heard: the body of the answer.
pub(crate) struct Answers(Arc<Shared>);

impl Stream for Answers {
    type Item = Result<SubscribeResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.0.state();
        if let Some(message) = state.message.take() {
            self.0.room.notify_one();
            return Poll::Ready(Some(Ok(message)));
        }
        let Some(end) = state.end.take() else {
            state.reader = Some(context.waker().clone());
            return Poll::Pending;
        };
        state.end = Some(Ok(()));
        Poll::Ready(end.err().map(Err))
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.left = true;
        state.message = None;
        self.0.room.notify_one();
    }
}
