//! The way to one agent. Invariant: there is room for one message; whoever wants to say more waits until HTTP/2 has taken it, so what one
//! agent makes the server hold is bounded.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use landfast_proto::landfast::sync::v1::SubscribeResponse;
use tokio::sync::Notify;
use tokio_stream::Stream;
use tonic::Status;

use crate::answers::{Reservation, Way};

/// Both ends of a way.
pub(crate) fn slot(way: Way) -> (Slot, Answers) {
    let shared = Arc::new(Shared {
        state: Mutex::default(),
        moved: Notify::new(),
        way,
    });
    (Slot(Arc::clone(&shared)), Answers(shared))
}

struct Shared {
    state: Mutex<State>,
    /// What was said is taken, or nobody listens any more.
    moved: Notify,
    /// Where what is taken goes on.
    way: Way,
}

#[derive(Default)]
struct State {
    /// With the room that it has; what ends a stream has none.
    message: Option<(SubscribeResponse, Option<Reservation>)>,
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

/// How the other end is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ear {
    /// What was said is taken.
    Open,
    /// It is not.
    Busy,
    /// The agent has let go.
    Gone,
}

impl Slot {
    pub(crate) fn ear(&self) -> Ear {
        let state = self.0.state();
        match (state.left, &state.message) {
            (true, _) => Ear::Gone,
            (false, Some(_)) => Ear::Busy,
            (false, None) => Ear::Open,
        }
    }

    /// Ends when that may have changed. Nothing is missed between two calls.
    pub(crate) async fn moved(&self) {
        self.0.moved.notified().await;
    }

    /// Room for a message of about so many bytes, for an open ear.
    ///
    /// # Errors
    /// See [`Way::room`].
    pub(crate) async fn room(&self, bytes: usize) -> Result<Reservation, Status> {
        self.0.way.room(bytes).await
    }

    /// Says it; for an open ear.
    pub(crate) fn put(&self, message: SubscribeResponse, room: Option<Reservation>) {
        let mut state = self.0.state();
        state.message = Some((message, room)).filter(|_| !state.left);
        state.wake();
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
        if let Some((message, room)) = state.message.take() {
            room.into_iter().for_each(|room| self.0.way.hold(room));
            self.0.moved.notify_one();
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
        self.0.moved.notify_one();
    }
}
