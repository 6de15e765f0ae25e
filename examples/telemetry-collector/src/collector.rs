//! Reads sensors, pushes the readings. Each push is a new connection, so that it always shows the newest SVID.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use spiffe::{JwtSource, TrustDomain, X509Source};
use spiffe_rustls::{LocalOnly, authorizer, mtls_client};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{AUDIENCE, BoxError, DEADLINE, wire};

pub(crate) async fn run(to: &str, receiver_id: &str, rotations: u32) -> Result<(), BoxError> {
    let source = X509Source::new().await?;
    let mut updates = source.updated();
    let svid = source.svid()?;
    let trust_domain = TrustDomain::new(svid.spiffe_id().trust_domain_name())?;
    println!(
        "collector: I am {}, serial {}",
        svid.spiffe_id(),
        serial(&source)?
    );
    let config = mtls_client(source.clone())
        .authorize(authorizer::exact([receiver_id])?)
        .trust_domain_policy(LocalOnly(trust_domain))
        .build()?;
    let receiver = Receiver {
        connector: TlsConnector::from(Arc::new(config)),
        address: to,
    };

    present_tokens(&receiver).await?;

    let (mut seen, mut known, mut pushed) = (0, serial(&source)?, 0_u64);
    let mut tick = tokio::time::interval(Duration::from_millis(250));
    while seen < rotations {
        tokio::select! {
            _ = tick.tick() => {
                pushed += 1;
                let answer = receiver.ask(&reading(pushed)).await?;
                if answer["taken"] != json!(pushed) {
                    return Err(format!("push {pushed} was refused: {answer}").into());
                }
            }
            changed = updates.changed() => {
                changed?;
                let new = serial(&source)?;
                if new != known {
                    seen += 1;
                    println!("collector: rotation {seen}: serial {new} after {pushed} pushes");
                    known = new;
                }
            }
        }
    }
    // The last SVID must have been used as well.
    pushed += 1;
    receiver.ask(&reading(pushed)).await?;
    println!("collector: {pushed} readings pushed across {seen} rotations, none failed");
    source.shutdown().await;
    Ok(())
}

async fn present_tokens(receiver: &Receiver<'_>) -> Result<(), BoxError> {
    let tokens = JwtSource::new().await?;
    let right = tokens.fetch_jwt_svid([AUDIENCE]).await?;
    let answer = receiver.ask(&json!({"token": right.token()})).await?;
    if answer["token"] != json!("accepted") {
        return Err(format!("a JWT-SVID for {AUDIENCE} was refused: {answer}").into());
    }
    println!("collector: JWT-SVID for {AUDIENCE} accepted");
    let wrong = tokens.fetch_jwt_svid(["somebody-else"]).await?;
    let answer = receiver.ask(&json!({"token": wrong.token()})).await?;
    if answer["token"] != json!("refused") {
        return Err(format!("a JWT-SVID for somebody-else was not refused: {answer}").into());
    }
    println!("collector: JWT-SVID for somebody-else refused");
    tokens.shutdown().await;
    Ok(())
}

/// Where readings go. The address says where; the SPIFFE ID, checked in the handshake, says who.
struct Receiver<'a> {
    connector: TlsConnector,
    address: &'a str,
}

impl Receiver<'_> {
    async fn ask(&self, message: &Value) -> Result<Value, BoxError> {
        let exchange = async {
            let tcp = TcpStream::connect(self.address).await?;
            let name = ServerName::try_from("receiver.invalid")?;
            let mut tls = self.connector.connect(name, tcp).await?;
            wire::send(&mut tls, message).await?;
            wire::receive(&mut tls).await
        };
        tokio::time::timeout(DEADLINE, exchange).await?
    }
}

/// As a sensor would give it.
fn reading(number: u64) -> Value {
    json!({"reading": number, "sensor": "line4/pump2/pressure", "bar": 6.0 + (number % 7) as f64 / 10.0})
}

/// Of the SVID that is used now.
fn serial(source: &X509Source) -> Result<String, BoxError> {
    let svid = source.svid()?;
    let leaf = svid.cert_chain().first().ok_or("an SVID without a certificate")?;
    // Enough to tell two certificates apart, without a parser: the serial number stands near the beginning of the DER.
    let start = leaf.as_bytes().get(15..23).ok_or("a certificate that is none")?;
    Ok(start.iter().map(|byte| format!("{byte:02x}")).collect())
}
