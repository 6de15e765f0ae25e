//! The table in front of every service. Invariant: no request reaches a handler that was not judged; what changes something is done to its end.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tonic::Status;
use tonic::body::Body;

use super::caller::Asked;
use super::to_the_end::{is_change, to_the_end};
use super::{Authorizer, Class, allowance};
use crate::answers::paced;
use crate::endpoints::{Held, TlsPeer, metered};

/// Puts the table in front of every service.
#[derive(Clone)]
pub(crate) struct AuthLayer(pub(crate) Authorizer);

impl<S> tower::Layer<S> for AuthLayer {
    type Service = AuthService<S>;
    fn layer(&self, inner: S) -> AuthService<S> {
        AuthService {
            inner,
            authorizer: self.0.clone(),
        }
    }
}

/// See [`AuthLayer`].
#[derive(Clone)]
pub(crate) struct AuthService<S> {
    inner: S,
    authorizer: Authorizer,
}

impl<S> tower::Service<http::Request<Body>> for AuthService<S>
where
    S: tower::Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let authorizer = self.authorizer.clone();
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        Box::pin(async move {
            // Only what was judged is counted by name: anything else is the peer's text.
            let asked = Asked::of(&request);
            let judged = match asked {
                Ok(asked) => authorizer.judge(request.uri(), asked).await,
                Err(refused) => Err(refused),
            };
            match judged {
                Ok(caller) => {
                    metrics::counter!("landfast_server_rpc_total", "method" => caller.method).increment(1);
                    let (mut request, held) = meter(request, caller.class);
                    request.extensions_mut().insert(caller.clone());
                    let answer = match is_change(caller.method, caller.right) {
                        true => to_the_end(inner.call(request)).await,
                        false => inner.call(request).await,
                    };
                    drop(held);
                    if let Ok(answer) = &answer {
                        let status = answer.headers().get(Status::GRPC_STATUS);
                        caller.told(status.and_then(|status| status.to_str().ok()));
                    }
                    answer.map(paced)
                }
                Err(status) => {
                    metrics::counter!("landfast_server_rpc_refused_total").increment(1);
                    Ok(status.into_http())
                }
            }
        })
    }
}

/// What the peer sends is counted from here on, until what comes back is dropped: when the answer begins. Who does not read an answer would else keep
/// what all have for their requests.
fn meter(request: http::Request<Body>, class: Class) -> (http::Request<Body>, Option<Arc<Held>>) {
    let intake = request.extensions().get().map(TlsPeer::intake);
    let (Some(intake), Some(allowance)) = (intake, allowance(class, request.uri().path())) else {
        return (request, None);
    };
    let (head, body) = request.into_parts();
    let (body, held) = metered(body, intake, allowance);
    (http::Request::from_parts(head, body), Some(held))
}
