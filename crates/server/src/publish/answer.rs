//! One request, one answer. Pure. Invariant: only GET and HEAD, only what is published; nothing that a client sends comes back to it.

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;

use super::documents::{Document, Documents};

/// What to send; to HEAD, hyper sends all but the body.
pub(super) fn answer<B>(request: &Request<B>, documents: &Documents) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut refused = status(StatusCode::METHOD_NOT_ALLOWED);
        let allowed = HeaderValue::from_static("GET, HEAD");
        refused.headers_mut().insert(ALLOW, allowed);
        return refused;
    }
    let Some(document) = documents.get(request.uri().path()) else {
        return status(StatusCode::NOT_FOUND);
    };
    let mut response = if has_already(request.headers(), document) {
        status(StatusCode::NOT_MODIFIED)
    } else {
        let mut response = Response::new(Full::new(document.body.clone()));
        let kind = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    };
    let headers = response.headers_mut();
    headers.insert(ETAG, document.tag.clone());
    headers.insert(CACHE_CONTROL, document.caching.clone());
    if document.for_scripts {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    }
    response
}

/// There is nothing to show for now (RFC 9110 §15.6.4). Those who follow the bundle keep what they have.
pub(super) fn later() -> Response<Full<Bytes>> {
    let mut response = status(StatusCode::SERVICE_UNAVAILABLE);
    response
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from_static("60"));
    response
}

/// RFC 9110 §13.1.2: weak comparison, and `*` is whatever there is.
fn has_already(headers: &HeaderMap, document: &Document) -> bool {
    let lists = headers.get_all(IF_NONE_MATCH).into_iter();
    let mut tags = lists
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == document.tag.as_bytes())
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}
