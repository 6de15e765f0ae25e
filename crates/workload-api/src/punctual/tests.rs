//! Where one message ends and the next begins, however the bytes are cut.

use super::*;

fn message(length: u32) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.resize(bytes.len() + length as usize, 7);
    bytes
}

#[test]
fn messages_end_where_their_lengths_say_however_they_are_cut() {
    let bytes = [message(3), message(0), message(300)].concat();
    let ends = [8, 13, bytes.len()];
    for size in 1..bytes.len() {
        let (mut framing, mut read) = (Framing::default(), 0);
        for part in bytes.chunks(size) {
            let before = read;
            read += part.len();
            let completed = ends.iter().any(|end| (before + 1..=read).contains(end));
            assert_eq!(framing.advance(part), completed, "cut to {size}, {read} read");
            assert_eq!(
                framing.is_within(),
                !ends.contains(&read),
                "cut to {size}, {read} read"
            );
        }
    }
}

/// A body that gives one piece each time it is told to.
fn pieces() -> (tokio::sync::mpsc::UnboundedSender<Vec<u8>>, tonic::body::Body) {
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel::<Vec<u8>>();
    let stream = futures_util::stream::poll_fn(move |context| {
        let piece = receiver.poll_recv(context);
        piece.map(|piece| piece.map(|bytes| Ok::<_, Status>(Frame::data(Bytes::from(bytes)))))
    });
    (sender, tonic::body::Body::new(Streamed(Box::pin(stream))))
}

struct Streamed(Pin<Box<dyn futures_util::Stream<Item = Result<Frame<Bytes>, Status>> + Send>>);

impl Body for Streamed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.0.as_mut().poll_next(context)
    }
}

async fn frame(body: &mut PunctualBody) -> Result<(), Status> {
    let next = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await;
    next.expect("it has not ended").map(drop)
}

const PATIENCE: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn between_messages_there_is_no_hurry_and_no_turn_is_held() {
    let arriving = Arc::new(Semaphore::new(4));
    let (sender, inner) = pieces();
    let mut body = PunctualBody::many(inner, PATIENCE, arriving.clone(), 3).unwrap();
    assert_eq!(
        arriving.available_permits(),
        1,
        "the headers begin the first message"
    );
    sender.send(message(2)).unwrap();
    frame(&mut body).await.unwrap();
    assert_eq!(arriving.available_permits(), 4);
    let quiet = tokio::time::timeout(Duration::from_secs(3600), frame(&mut body)).await;
    assert!(quiet.is_err(), "a client may say nothing for an hour");
    // Half a message takes the turns again, and has its time only.
    sender.send(message(2)[..6].to_vec()).unwrap();
    frame(&mut body).await.unwrap();
    assert_eq!(arriving.available_permits(), 1);
    let late = frame(&mut body).await.unwrap_err();
    assert_eq!(late.code(), tonic::Code::DeadlineExceeded);
    drop(body);
    assert_eq!(arriving.available_permits(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_message_in_drops_is_late_all_the_same_and_one_that_has_waited_is_not() {
    let (sender, inner) = pieces();
    let arriving = Arc::new(Semaphore::new(1));
    let mut body = PunctualBody::many(inner, PATIENCE, arriving.clone(), 1).unwrap();
    sender.send(message(9)[..6].to_vec()).unwrap();
    frame(&mut body).await.unwrap();
    sender.send(message(9)[6..].to_vec()).unwrap();
    tokio::time::sleep(PATIENCE * 2).await;
    frame(&mut body).await.expect("it came, and the reader was away");
    sender.send(message(9)[..6].to_vec()).unwrap();
    frame(&mut body).await.unwrap();
    tokio::time::sleep(PATIENCE * 2).await;
    sender.send(vec![7]).unwrap();
    let late = frame(&mut body).await.unwrap_err();
    assert_eq!(late.code(), tonic::Code::DeadlineExceeded);
}

#[tokio::test(start_paused = true)]
async fn without_a_turn_the_next_message_is_refused() {
    let arriving = Arc::new(Semaphore::new(2));
    let (sender, inner) = pieces();
    let mut body = PunctualBody::many(inner, PATIENCE, arriving.clone(), 2).unwrap();
    sender.send(message(1)).unwrap();
    frame(&mut body).await.unwrap();
    let _taken = arriving.clone().try_acquire_owned().unwrap();
    sender.send(message(1)[..3].to_vec()).unwrap();
    let refused = frame(&mut body).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    assert!(PunctualBody::one(tonic::body::Body::empty(), PATIENCE, arriving, 2).is_none());
}
