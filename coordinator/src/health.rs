//! `/livez`, `/readyz` and `/metrics`, over plain HTTP.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, server::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::metrics::Metrics;

/// How far the watch may be behind before this process is better started anew, in seconds.
const STALE: i64 = 120;

/// Answers for ever.
///
/// # Errors
/// When the address can't be had.
pub async fn serve(address: SocketAddr, metrics: Metrics) -> io::Result<Infallible> {
    let listener = TcpListener::bind(address).await?;
    let connections = TaskTracker::new();
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                debug!(%error, "a connection was not taken");
                tokio::task::yield_now().await;
                continue;
            }
        };
        let metrics = metrics.clone();
        connections.spawn(async move {
            let answers = service_fn(|request| {
                let response = answer(&request, &metrics);
                async move { Ok::<_, Infallible>(response) }
            });
            if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), answers).await {
                debug!(%error, %from, "a connection ended badly");
            }
        });
    }
}

fn answer(request: &Request<Incoming>, metrics: &Metrics) -> Response<Full<Bytes>> {
    let (status, text) = match request.uri().path() {
        "/livez" if metrics.stale_seconds() > STALE => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("the watch is {} s behind\n", metrics.stale_seconds()))
        }
        "/livez" | "/readyz" => (StatusCode::OK, "ok\n".to_owned()),
        "/metrics" => match metrics.text() {
            Ok(text) => (StatusCode::OK, text),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        },
        _ => (StatusCode::NOT_FOUND, "/livez, /readyz or /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}
