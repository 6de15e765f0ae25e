//! Takes readings from the one collector it is told. Whoever else connects fails in the handshake.

use std::sync::Arc;

use serde_json::{Value, json};
use spiffe::{TrustDomain, WorkloadApiClient, X509Source};
use spiffe_rustls::{LocalOnly, authorizer, mtls_server};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::{AUDIENCE, BoxError, DEADLINE, wire};

pub(crate) async fn run(listen: &str, collector_id: &str) -> Result<(), BoxError> {
    let source = X509Source::new().await?;
    let svid = source.svid()?;
    let trust_domain = TrustDomain::new(svid.spiffe_id().trust_domain_name())?;
    println!("receiver: I am {}", svid.spiffe_id());
    let config = mtls_server(source.clone())
        .authorize(authorizer::exact([collector_id])?)
        .trust_domain_policy(LocalOnly(trust_domain))
        .build()?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let agent = WorkloadApiClient::connect_env().await?;
    let listener = TcpListener::bind(listen).await?;
    println!("receiver: listening on {}", listener.local_addr()?);
    // One at a time: an example has one collector.
    loop {
        let (tcp, peer) = listener.accept().await?;
        match tokio::time::timeout(DEADLINE, serve(&acceptor, &agent, tcp)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => println!("receiver: refused {peer}: {error}"),
            Err(_elapsed) => println!("receiver: {peer} was too slow"),
        }
    }
}

async fn serve(acceptor: &TlsAcceptor, agent: &WorkloadApiClient, tcp: TcpStream) -> Result<(), BoxError> {
    let mut tls = acceptor.accept(tcp).await?;
    let message = wire::receive(&mut tls).await?;
    let answer = match message["token"].as_str() {
        Some(token) => judge(agent, token).await,
        None => json!({"taken": message["reading"]}),
    };
    wire::send(&mut tls, &answer).await?;
    tokio::io::AsyncWriteExt::shutdown(&mut tls).await?;
    Ok(())
}

/// The agent validates, so this program holds no keys for it.
async fn judge(agent: &WorkloadApiClient, token: &str) -> Value {
    match agent.validate_jwt_token(AUDIENCE, token).await {
        Ok(svid) => {
            println!("receiver: JWT-SVID of {} accepted", svid.spiffe_id());
            json!({"token": "accepted"})
        }
        Err(error) => {
            println!("receiver: JWT-SVID refused: {error}");
            json!({"token": "refused"})
        }
    }
}
