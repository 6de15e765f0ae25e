//! A ledger on a web server. Invariant: a read ends in its time and holds no more than its limit; what could not be read is an error, and only what
//! the server says is not there is missing.

use std::fmt;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, HOST, USER_AGENT};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use landfast_audit::verify::Source;
use landfast_daemon::error_chain;
use landfast_lifecycle::SystemClock;
use landfast_tls::{WebRoots, web_https_config};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::failure::Failure;

/// The URL of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    is_https: bool,
    host: String,
    port: u16,
    /// Begins with a slash and ends with none.
    path: String,
}

impl Base {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|error| format!("no URL: {error}"))?;
        let is_https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("give an http or https URL".to_owned()),
        };
        let authority = uri.authority().ok_or("it has no host")?;
        if authority.as_str().contains('@') || uri.query().is_some() || authority.host().is_empty() {
            return Err("give a URL of host, port and path alone".to_owned());
        }
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") if is_https => 443,
            Some("") => 80,
            _ => authority.port_u16().ok_or("its port is none")?,
        };
        Ok(Self {
            is_https,
            host: authority.host().to_owned(),
            port,
            path: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// Without the brackets of an IPv6 address.
    fn bare_host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}{}", self.host, self.port, self.path)
    }
}

/// Reads block, from threads that are not the runtime's of the program: it has one of its own.
pub(super) struct HttpSource {
    base: Base,
    tls: Option<Arc<ClientConfig>>,
    runtime: tokio::runtime::Runtime,
    /// Connections that are open and idle; as many as threads have read at once.
    idle: Mutex<Vec<Connection>>,
    /// Reads one after the other that were given up.
    given_up: AtomicU32,
}

struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    /// Does the work while an exchange waits.
    driver: Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl HttpSource {
    pub(super) fn new(base: Base, ca_file: Option<&Path>) -> Result<Self, Failure> {
        let tls = match base.is_https {
            true => Some(tls(ca_file)?),
            false => None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failure::failed(error, "the system may be out of files"))?;
        Ok(Self {
            base,
            tls,
            runtime,
            idle: Mutex::default(),
            given_up: AtomicU32::new(0),
        })
    }

    async fn get(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, Refusal> {
        if self.given_up.load(Ordering::Relaxed) >= ENOUGH {
            return Err(Refusal::Final("the web server has stopped answering".to_owned()));
        }
        let mut last = Refusal::Passing("it does not answer".to_owned());
        for pause in PAUSES {
            tokio::time::sleep(pause).await;
            let answered = tokio::time::timeout(DEADLINE, self.ask(path, limit)).await;
            let late = format!("no answer in {} s", DEADLINE.as_secs());
            match answered.unwrap_or(Err(Refusal::Passing(late))) {
                Err(Refusal::Passing(why)) => last = Refusal::Passing(why),
                answer => {
                    self.given_up.store(0, Ordering::Relaxed);
                    return answer;
                }
            }
        }
        self.given_up.fetch_add(1, Ordering::Relaxed);
        Err(last)
    }

    async fn ask(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, Refusal> {
        let known = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(mut connection) = known {
            match exchange(&self.base, &mut connection, path, limit).await {
                // The server may have closed it meanwhile: nobody is to be blamed.
                Err(Refusal::Passing(_)) => {}
                answer => return self.keep(connection, answer),
            }
        }
        let mut connection = self.connect().await?;
        let answer = exchange(&self.base, &mut connection, path, limit).await;
        self.keep(connection, answer)
    }

    fn keep<T>(&self, connection: Connection, answer: Result<T, Refusal>) -> Result<T, Refusal> {
        if answer.is_ok() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.push(connection);
        }
        answer
    }

    async fn connect(&self) -> Result<Connection, Refusal> {
        let passing = |error: &dyn std::error::Error| Refusal::Passing(error_chain(error));
        let host = self.base.bare_host();
        let tcp = TcpStream::connect((host, self.base.port))
            .await
            .map_err(|error| passing(&error))?;
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(tcp),
            Some(config) => {
                let name = ServerName::try_from(host.to_owned());
                let name = name.map_err(|error| Refusal::Final(error_chain(&error)))?;
                let connected = TlsConnector::from(Arc::clone(config)).connect(name, tcp).await;
                Box::new(connected.map_err(|error| match error.kind() {
                    // What rustls says of a peer; a broken connection is of another kind.
                    io::ErrorKind::InvalidData => Refusal::Final(error_chain(&error)),
                    _ => passing(&error),
                })?)
            }
        };
        let begun = http1::Builder::new()
            .max_buf_size(HEADERS)
            .handshake(TokioIo::new(stream))
            .await;
        let (sender, driver) = begun.map_err(|error| passing(&error))?;
        Ok(Connection {
            sender,
            driver: Box::pin(driver),
        })
    }
}

impl Source for HttpSource {
    fn read(&self, path: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let read = self.runtime.block_on(self.get(path, limit));
        read.map_err(|refusal| match refusal {
            Refusal::Passing(why) | Refusal::Final(why) => io::Error::other(why),
        })
    }

    fn describe(&self, path: &str) -> String {
        format!("{}/{path}", self.base)
    }
}

/// Why something was not read, in words.
enum Refusal {
    /// Another attempt may have it.
    Passing(String),
    Final(String),
}

async fn exchange(
    base: &Base,
    connection: &mut Connection,
    path: &str,
    limit: u64,
) -> Result<Option<Vec<u8>>, Refusal> {
    let request = Request::get(format!("{}/{path}", base.path))
        .header(HOST, format!("{}:{}", base.host, base.port))
        .header(ACCEPT_ENCODING, "identity")
        .header(USER_AGENT, concat!("landfast/", env!("CARGO_PKG_VERSION")))
        .body(Empty::new())
        .map_err(|error| Refusal::Final(error.to_string()))?;
    let (sender, driver) = (&mut connection.sender, &mut connection.driver);
    let answered = async {
        let ready = sender.ready().await;
        ready.map_err(|error| Refusal::Passing(error_chain(&error)))?;
        let response = sender.send_request(request).await;
        take(
            response.map_err(|error| Refusal::Passing(error_chain(&error)))?,
            limit,
        )
        .await
    };
    let mut answered = std::pin::pin!(answered);
    tokio::select! {
        answer = &mut answered => answer,
        // Its last bytes may not have been read yet. What has ended is not driven again.
        _ended = driver => {
            connection.driver = Box::pin(std::future::pending());
            answered.await
        }
    }
}

async fn take(response: Response<Incoming>, limit: u64) -> Result<Option<Vec<u8>>, Refusal> {
    let status = response.status();
    match status {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND | StatusCode::GONE => return drained(response).await.map(|()| None),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
            return Err(Refusal::Passing(format!("the web server answers {status}")));
        }
        _ if status.is_server_error() => {
            return Err(Refusal::Passing(format!("the web server answers {status}")));
        }
        _ if status.is_redirection() => {
            let why = format!("the web server answers {status}: give the URL to which it redirects");
            return Err(Refusal::Final(why));
        }
        _ => return Err(Refusal::Final(format!("the web server answers {status}"))),
    }
    // We have asked for none: what unpacks to more than it weighs is not unpacked.
    let packed = response.headers().get(CONTENT_ENCODING);
    if packed.is_some_and(|coding| coding != "identity") {
        return Err(Refusal::Final("it is packed, and was not asked to be".to_owned()));
    }
    body(response, limit).await.map(Some)
}

/// So that the connection can be used again.
async fn drained(response: Response<Incoming>) -> Result<(), Refusal> {
    body(response, PAGE).await.map(drop)
}

async fn body(response: Response<Incoming>, limit: u64) -> Result<Vec<u8>, Refusal> {
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Refusal::Passing(error_chain(&error)))?;
        let Ok(data) = frame.into_data() else { continue };
        if (bytes.len() + data.len()) as u64 > limit {
            return Err(Refusal::Final(format!("it is larger than {limit} bytes")));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

fn tls(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, Failure> {
    let hint = "--ca-file names the authorities of the web server's certificate";
    let path = ca_file.map(Path::to_owned).or_else(landfast_tls::system_roots);
    let path =
        path.ok_or_else(|| Failure::failed("this system has no file of authorities for https", hint))?;
    let shown = path.display();
    let text = std::fs::read(&path)
        .map_err(|error| Failure::failed(format!("cannot read {shown}: {error}"), hint))?;
    let roots = WebRoots::from_pem(&text);
    let roots = roots.map_err(|error| Failure::failed(format!("{shown}: {}", error_chain(&error)), hint))?;
    web_https_config(&roots, Arc::new(SystemClock))
        .map_err(|error| Failure::failed(error_chain(&error), "please report this"))
}

/// Before each attempt.
const PAUSES: [Duration; 3] = [Duration::ZERO, Duration::from_millis(200), Duration::from_secs(1)];
/// So many reads that were given up, and no more are tried: a server that is away must not be waited for at each of a million records.
const ENOUGH: u32 = 4;
/// For one attempt, connection and document.
const DEADLINE: Duration = Duration::from_secs(30);
const HEADERS: usize = 64 * 1024;
/// The page that says that there is nothing.
const PAGE: u64 = 1024 * 1024;

#[cfg(test)]
mod tests;
