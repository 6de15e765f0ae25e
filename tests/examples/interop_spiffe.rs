//! The `spiffe` and `spiffe-rustls` crates as a workload uses them, against a running agent. Started by `tests/interop/run`,
//! whose counting relies on one line a check and on the closing `done`.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs::File;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use spiffe::x509_source::SvidPicker;
use spiffe::{
    BundleSource, JwtSource, JwtSourceError, SpiffeId, TrustDomain, WorkloadApiClient, WorkloadApiError,
    X509Context, X509Source, X509Svid,
};
use spiffe_rustls::{authorizer, mtls_client, mtls_server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_stream::StreamExt;

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

const AUDIENCE: &str = "collector";
const ONE_CHECK: Duration = Duration::from_secs(20);
const ROTATION: Duration = Duration::from_secs(80);

struct World {
    domain: TrustDomain,
    foreign: TrustDomain,
    first: SpiffeId,
    second: SpiffeId,
    stranger: SpiffeId,
    empty: String,
    client: WorkloadApiClient,
}

#[tokio::main]
async fn main() -> Outcome {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_again| "a crypto provider is installed already")?;
    let domain = TrustDomain::new(env("INTEROP_TRUST_DOMAIN")?)?;
    let id = |name: &str| SpiffeId::new(format!("spiffe://{domain}/interop/{name}"));
    let w = World {
        foreign: TrustDomain::new(env("INTEROP_FOREIGN_TRUST_DOMAIN")?)?,
        first: id("first")?,
        second: id("second")?,
        stranger: id("third")?,
        empty: env("INTEROP_EMPTY_SOCKET")?,
        client: WorkloadApiClient::connect_env().await?,
        domain,
    };

    let mut report = Report { failed: false };
    // watches from the start, so that the other checks run meanwhile
    let rotation = w.rotation();
    let checks = async {
        report
            .check("X509Source: SVID and bundles", ONE_CHECK, w.x509_source())
            .await;
        report
            .check(
                "bundles: own and federated, X.509 and JWT",
                ONE_CHECK,
                w.bundles(),
            )
            .await;
        report
            .check(
                "JwtSource: token validated by the agent",
                ONE_CHECK,
                w.jwt_source(),
            )
            .await;
        report
            .check("JWT: every identity when none is named", ONE_CHECK, w.every_jwt())
            .await;
        report
            .check(
                "JWT: an identity of somebody else is denied",
                ONE_CHECK,
                w.somebody_else(),
            )
            .await;
        report
            .check(
                "unregistered caller denied by every fetch",
                ONE_CHECK,
                w.unregistered(),
            )
            .await;
        report
            .check(
                "spiffe-rustls: mTLS between two SVIDs",
                ONE_CHECK,
                w.talk(&w.first, &w.second),
            )
            .await;
        report
            .check(
                "spiffe-rustls: mTLS refuses a peer of another ID",
                ONE_CHECK,
                w.wrong_peer(),
            )
            .await;
        report
    };
    let (seen, mut report) = tokio::join!(timeout(ROTATION, rotation), checks);
    let seen = async { seen? };
    report
        .check("rotation: the watch delivers a second SVID", ONE_CHECK, seen)
        .await;
    report
        .check(
            "spiffe-rustls: mTLS after the rotation",
            ONE_CHECK,
            w.talk(&w.first, &w.second),
        )
        .await;
    let limit = Duration::from_secs(60);
    report
        .check("the source survives a restart of the agent", limit, w.restart())
        .await;
    say("done rust spiffe");
    if report.failed {
        Err("some checks failed".into())
    } else {
        Ok(())
    }
}

impl World {
    async fn x509_source(&self) -> Outcome {
        let source = X509Source::new().await?;
        let svid = source.svid()?;
        want(
            [&self.first, &self.second].contains(&svid.spiffe_id()),
            svid.spiffe_id(),
        )?;
        for domain in [&self.domain, &self.foreign] {
            let bundle = source.bundle_for_trust_domain(domain)?.ok_or("no bundle")?;
            want(!bundle.authorities().is_empty(), domain)?;
        }
        self.whole(&*source.x509_context()?)?;
        source.shutdown().await;
        Ok(())
    }

    async fn bundles(&self) -> Outcome {
        let (x509, jwt) = (
            self.client.fetch_x509_bundles().await?,
            self.client.fetch_jwt_bundles().await?,
        );
        for domain in [&self.domain, &self.foreign] {
            want(
                x509.get(domain)
                    .is_some_and(|bundle| !bundle.authorities().is_empty()),
                format!("X.509 of {domain}"),
            )?;
            want(
                jwt.get(domain)
                    .is_some_and(|bundle| bundle.jwt_authorities().next().is_some()),
                format!("JWT of {domain}"),
            )?;
        }
        Ok(())
    }

    async fn jwt_source(&self) -> Outcome {
        let source = JwtSource::new().await?;
        let svid = source
            .fetch_jwt_svid_with_id([AUDIENCE, "historian"], Some(&self.second))
            .await?;
        want(svid.spiffe_id() == &self.second, svid.spiffe_id())?;
        let bundle = source.bundle_for_trust_domain(&self.domain)?.ok_or("no bundle")?;
        want(
            bundle.find_jwt_authority(svid.key_id()).is_some(),
            "the token's key is not in the bundle",
        )?;
        let valid = self.client.validate_jwt_token("historian", svid.token()).await?;
        want(
            valid.audience() == [AUDIENCE, "historian"],
            format!("{:?}", valid.audience()),
        )?;
        let wrong = self
            .client
            .validate_jwt_token("somebody-else", svid.token())
            .await;
        want(
            wrong.as_ref().is_err_and(WorkloadApiError::is_invalid_argument),
            format!("wrong audience: {wrong:?}"),
        )?;
        source.shutdown().await;
        Ok(())
    }

    async fn every_jwt(&self) -> Outcome {
        let svids = self.client.fetch_all_jwt_svids([AUDIENCE], None).await?;
        let hints: BTreeMap<_, _> = svids
            .iter()
            .map(|svid| (svid.spiffe_id().to_string(), svid.hint()))
            .collect();
        want(hints == self.hints(), format!("{hints:?}"))
    }

    async fn somebody_else(&self) -> Outcome {
        denied(
            "client",
            self.client
                .fetch_jwt_svid([AUDIENCE], Some(&self.stranger))
                .await
                .map(|_svid| ()),
        )?;
        let source = JwtSource::new().await?;
        let answer = source
            .fetch_jwt_svid_with_id([AUDIENCE], Some(&self.stranger))
            .await;
        let refused = matches!(&answer, Err(JwtSourceError::Source(cause) | JwtSourceError::FetchJwtSvid(cause)) if is_denied(cause));
        want(refused, format!("source: {answer:?}"))
    }

    async fn unregistered(&self) -> Outcome {
        let client = WorkloadApiClient::connect_to(&self.empty).await?;
        denied("X.509", client.fetch_x509_context().await.map(|_| ()))?;
        denied("X.509 bundles", client.fetch_x509_bundles().await.map(|_| ()))?;
        denied("JWT", client.fetch_jwt_svid([AUDIENCE], None).await.map(|_| ()))?;
        denied("JWT bundles", client.fetch_jwt_bundles().await.map(|_| ()))
    }

    async fn rotation(&self) -> Outcome {
        let mut stream = self.client.stream_x509_contexts().await?;
        let mut serials = BTreeMap::new();
        let mut rotated = BTreeSet::new();
        while rotated.len() < 2 {
            let context = stream.next().await.ok_or("the stream ended")??;
            self.whole(&context)?;
            for svid in context.svids() {
                let (_, leaf) = x509_parser::parse_x509_certificate(svid.leaf().as_bytes())?;
                let before = serials.insert(svid.spiffe_id().to_string(), leaf.raw_serial_as_string());
                if before.is_some_and(|before| before != leaf.raw_serial_as_string()) {
                    rotated.insert(svid.spiffe_id().to_string());
                }
            }
        }
        Ok(())
    }

    /// Holds a source open while the harness restarts the agent, and waits for what only the new one can have sent.
    async fn restart(&self) -> Outcome {
        let folder = PathBuf::from(env("INTEROP_RESTART")?);
        let source = source_of(&self.first).await?;
        File::create(folder.join("rust.ready"))?;
        let mut before = None;
        loop {
            // withdrawn for a moment is as good as unchanged: it must come back
            let current = source.try_svid().map(|svid| svid.leaf().as_bytes().to_vec());
            if !folder.join("restarted").exists() {
                before = current;
            } else if current.is_some() && current != before {
                return Ok(());
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Every answer must carry both identities, with the hints that tell them apart.
    fn whole(&self, context: &X509Context) -> Outcome {
        let hints: BTreeMap<_, _> = context
            .svids()
            .iter()
            .map(|svid| (svid.spiffe_id().to_string(), svid.hint()))
            .collect();
        want(hints == self.hints(), format!("{hints:?}"))
    }

    fn hints(&self) -> BTreeMap<String, Option<&'static str>> {
        BTreeMap::from([
            (self.first.to_string(), Some("first")),
            (self.second.to_string(), Some("second")),
        ])
    }

    async fn wrong_peer(&self) -> Outcome {
        want(
            self.talk(&self.stranger, &self.second).await.is_err(),
            "the client took the server for somebody else",
        )?;
        want(
            self.talk(&self.first, &self.stranger).await.is_err(),
            "the server took the client for somebody else",
        )
    }

    /// The second identity calls the first over mutual TLS, each demanding of the other the ID given.
    async fn talk(&self, server: &SpiffeId, client: &SpiffeId) -> Outcome {
        let accept = mtls_server(source_of(&self.first).await?)
            .authorize(authorizer::exact([client.to_string()])?)
            .build()?;
        let connect = mtls_client(source_of(&self.second).await?)
            .authorize(authorizer::exact([server.to_string()])?)
            .build()?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let serve = async {
            let (stream, _) = listener.accept().await?;
            let mut stream = TlsAcceptor::from(Arc::new(accept)).accept(stream).await?;
            let mut said = [0; 7];
            stream.read_exact(&mut said).await?;
            stream.write_all(&said).await?;
            stream.flush().await
        };
        let call = async {
            let stream = TcpStream::connect(address).await?;
            let name = ServerName::try_from("ignored.invalid").map_err(std::io::Error::other)?;
            let mut stream = TlsConnector::from(Arc::new(connect))
                .connect(name, stream)
                .await?;
            stream.write_all(b"reading").await?;
            let mut answer = [0; 7];
            stream.read_exact(&mut answer).await?;
            if &answer == b"reading" {
                Ok(())
            } else {
                Err(std::io::Error::other("another answer"))
            }
        };
        tokio::try_join!(serve, call)?;
        Ok(())
    }
}

struct Pick(SpiffeId);

impl SvidPicker for Pick {
    fn pick_svid(&self, svids: &[Arc<X509Svid>]) -> Option<usize> {
        svids.iter().position(|svid| svid.spiffe_id() == &self.0)
    }
}

async fn source_of(id: &SpiffeId) -> Result<X509Source, Box<dyn Error + Send + Sync>> {
    Ok(X509Source::builder().picker(Pick(id.clone())).build().await?)
}

const fn is_denied(cause: &WorkloadApiError) -> bool {
    matches!(
        cause,
        WorkloadApiError::PermissionDenied(_) | WorkloadApiError::NoIdentityIssued
    )
}

fn denied(what: &str, answer: Result<(), WorkloadApiError>) -> Outcome {
    want(
        answer.as_ref().is_err_and(is_denied),
        format!("{what}: {answer:?}"),
    )
}

fn want(condition: bool, what: impl std::fmt::Display) -> Outcome {
    if condition {
        Ok(())
    } else {
        Err(what.to_string().into())
    }
}

struct Report {
    failed: bool,
}

impl Report {
    async fn check(&mut self, name: &str, limit: Duration, check: impl Future<Output = Outcome>) {
        let outcome = timeout(limit, check)
            .await
            .unwrap_or_else(|_late| Err(format!("took more than {limit:?}").into()));
        match outcome {
            Ok(()) => say(&format!("ok   rust spiffe: {name}")),
            Err(cause) => {
                self.failed = true;
                say(&format!(
                    "FAIL rust spiffe: {name}: {}",
                    cause.to_string().replace('\n', " | ")
                ));
            }
        }
    }
}

#[expect(clippy::print_stdout, reason = "a program whose output is its purpose")]
fn say(line: &str) {
    println!("{line}");
}

#[expect(
    clippy::disallowed_methods,
    reason = "the harness hands its world over in the environment, as it does to every client"
)]
fn env(name: &str) -> Result<String, String> {
    std::env::var(name)
        .map_err(|cause| format!("{name}: {cause}; this program is started by tests/interop/run"))
}
