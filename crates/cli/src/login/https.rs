//! One request to an OIDC provider. Invariant: HTTPS with a verified host, a deadline, a bound on what is read, and no redirects.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST};
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use landfast_daemon::error_chain;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Gets a JSON document; with a form it is posted. What went wrong, in words.
pub(super) async fn ask(url: &str, form: Option<String>, tls: &Arc<ClientConfig>) -> Result<Vec<u8>, String> {
    match tokio::time::timeout(DEADLINE, exchange(url, form, tls)).await {
        Ok(Ok(document)) => Ok(document),
        Ok(Err(why)) => Err(format!("{url}: {why}")),
        Err(_elapsed) => Err(format!("{url}: no answer in {} s", DEADLINE.as_secs())),
    }
}

async fn exchange(url: &str, form: Option<String>, tls: &Arc<ClientConfig>) -> Result<Vec<u8>, String> {
    let uri: Uri = url.parse().map_err(|error| format!("{error}"))?;
    let (Some("https"), Some(host)) = (uri.scheme_str(), uri.host()) else {
        return Err("it is no https URL".to_owned());
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(bare.clone()).map_err(|error| error.to_string())?;
    let tcp = TcpStream::connect((bare, uri.port_u16().unwrap_or(443))).await;
    let tcp = tcp.map_err(|error| error.to_string())?;
    let stream = TlsConnector::from(Arc::clone(tls)).connect(name, tcp).await;
    let stream = stream.map_err(|error| error_chain(&error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error_chain(&error))?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
    let request = match &form {
        None => Request::get(path),
        Some(_) => Request::post(path).header(CONTENT_TYPE, "application/x-www-form-urlencoded"),
    };
    let request = request
        .header(HOST, authority)
        .header(ACCEPT, "application/json")
        .body(Full::new(Bytes::from(form.unwrap_or_default())))
        .map_err(|error| error.to_string())?;
    let answer = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| error_chain(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MOST).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        match status.is_success() {
            true => Ok(body.to_vec()),
            false => Err(format!(
                "status {status}: {}",
                crate::output::clean_line(&String::from_utf8_lossy(&body))
            )),
        }
    };
    let mut answer = std::pin::pin!(answer);
    // The connection does the work while the exchange waits; it may end before its last bytes have been read.
    tokio::select! {
        answered = &mut answer => answered,
        _ended = connection => answer.await,
    }
}

const DEADLINE: Duration = Duration::from_secs(30);
const MOST: usize = 1024 * 1024;
