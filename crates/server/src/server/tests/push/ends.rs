//! How a subscription ends, and the connection with it.

use super::*;

/// Tells when the server has closed the connection.
struct Watched<S> {
    stream: S,
    closed: watch::Sender<bool>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, into);
        if let Poll::Ready(result) = &read
            && (result.is_err() || into.filled().len() == before)
        {
            self.closed.send_replace(true);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, from)
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The node's connection of which one learns that the server has closed it.
async fn watched(rig: &Rig, node: &Node) -> (Channel, watch::Receiver<bool>) {
    let bundles = BundleStore::new(BundleSet::from_iter([(*rig.handle.bundle()).clone()]));
    let store = IdentityStore::new();
    store.set(Arc::clone(&node.svid));
    let expect = Expect::Exactly(SpiffeId::server(&td()));
    let tls = client_config(expect, bundles, Some(store), Arc::new(SystemClock)).unwrap();
    let stream = TcpStream::connect(rig.address()).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("server.invalid").unwrap();
    let stream = TlsConnector::from(tls).connect(name, stream).await.unwrap();
    let (closed, is_closed) = watch::channel(false);
    let mut only = Some(TokioIo::new(Watched { stream, closed }));
    let connector = tower::service_fn(move |_: http::Uri| {
        let only = only.take();
        async move { only.ok_or_else(|| io::Error::other("the connection was closed")) }
    });
    let endpoint = Endpoint::from_static("http://server.invalid");
    let channel = endpoint.connect_with_connector(connector).await.unwrap();
    (channel, is_closed)
}

/// T-20.
#[tokio::test]
async fn a_ban_and_an_eviction_are_said_and_end_stream_and_connection() {
    let rig = Rig::new().await;
    for (standing, why) in [
        (Standing::Banned, Reason::AgentBanned),
        (Standing::Evicted, Reason::AgentNotAttested),
    ] {
        let node = rig.node().await;
        let (channel, mut closed) = watched(&rig, &node).await;
        let mut ear = subscribe(&channel, SubscribeRequest::default()).await.unwrap();
        ear.next().await;
        // Another one that reads nothing: it is no reason to keep the connection.
        let _deaf = subscribe(&channel, SubscribeRequest::default()).await.unwrap();
        assert!(!*closed.borrow());
        let (mut operator, id) = (AgentClient::new(rig.admin().await), Some(wire(&node.id)));
        match standing {
            Standing::Banned => drop(operator.ban_agent(agent::BanAgentRequest { id }).await.unwrap()),
            _ => drop(
                operator
                    .delete_agent(agent::DeleteAgentRequest { id })
                    .await
                    .unwrap(),
            ),
        }
        let last = ear.next().await;
        assert_eq!(last.standing(), standing);
        let status = ear.heard().await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status)),
            (Code::PermissionDenied, Some(why))
        );
        let gone = tokio::time::timeout(Duration::from_secs(60), closed.wait_for(|closed| *closed));
        gone.await.expect("the connection stays").unwrap();
        let again = subscribe(&node.channel, SubscribeRequest::default()).await;
        assert_eq!(reason(&again.err().unwrap()), Some(why), "as any other call");
    }
    rig.tear_down().await;
}

/// T-20, of an agent that does not subscribe.
#[tokio::test]
async fn a_banned_agent_that_calls_loses_its_connection_after_the_answer() {
    let rig = Rig::new().await;
    let node = rig.node().await;
    let (channel, mut closed) = watched(&rig, &node).await;
    authorised(&channel).await.unwrap();
    let id = Some(wire(&node.id));
    let mut operator = AgentClient::new(rig.admin().await);
    operator.ban_agent(agent::BanAgentRequest { id }).await.unwrap();
    let status = authorised(&channel).await.unwrap_err();
    assert_eq!(reason(&status), Some(Reason::AgentBanned));
    let gone = tokio::time::timeout(Duration::from_secs(60), closed.wait_for(|closed| *closed));
    gone.await.expect("the connection stays").unwrap();
    rig.tear_down().await;
}

#[tokio::test]
async fn the_third_subscription_of_an_agent_ends_the_first_and_too_many_are_refused() {
    let rig = Rig::new().await;
    let node = rig.node().await;
    let (mut oldest, _) = begin(&node).await;
    let (mut older, _) = begin(&node).await;
    let (mut newest, _) = begin(&node).await;
    let status = oldest.heard().await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted, "{status:?}");
    let made = rig.entry(&node.id, "/one", |_| {}).await;
    assert_eq!(ids(&older.next().await), [made.id.as_str()]);
    assert_eq!(ids(&newest.next().await), [made.id.as_str()]);
    let mut refused = None;
    for _ in 0..100 {
        match subscribe(&node.channel, SubscribeRequest::default()).await {
            Ok(_) => {}
            Err(status) => {
                refused = Some(status);
                break;
            }
        }
    }
    assert_eq!(refused.expect("all were taken").code(), Code::ResourceExhausted);
    rig.tear_down().await;
}

#[tokio::test]
async fn a_server_that_stops_lets_go_of_its_subscribers() {
    let rig = Rig::new().await;
    let node = rig.node().await;
    let (mut ear, _) = begin(&node).await;
    // It would wait for them, and not end in time.
    let (heard, ()) = tokio::join!(ear.heard(), rig.tear_down());
    assert!(heard.is_ok_and(|said| said.is_none()));
}
