//! The HTTP server: a thread of its own, so that a scrape is answered while a pair is evaluated.

use super::Metrics;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Makes the page of the run, when it is asked for.
pub type Page = Arc<dyn Fn() -> Result<String, String> + Send + Sync>;

/// A running server; it ends with this value.
pub struct Server {
    address: SocketAddr,
    ready: Arc<AtomicBool>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    /// Binds and serves.
    ///
    /// # Errors
    /// An address that cannot be bound.
    pub fn start(address: SocketAddr, metrics: Metrics, page: Page) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let ready = Arc::new(AtomicBool::new(false));
        let router = routes(metrics, ready.clone(), page);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async move {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
                tokio::select! {
                    served = axum::serve(listener, router) => if let Err(error) = served {
                        tracing::error!(%error, "the HTTP server ended");
                    },
                    _ = stopped => {}
                }
            });
        });
        Ok(Self { address, ready, stop: Some(stop), thread: Some(thread) })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets `/readyz` say yes.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn routes(metrics: Metrics, ready: Arc<AtomicBool>, page: Page) -> Router {
    let scrape = move || async move { scrape(&metrics) };
    let is_ready = move || async move { readiness(ready.load(Ordering::Acquire)) };
    let show = move || {
        let page = page.clone();
        async move {
            // On a thread of its own: a scrape does not wait for a long history to be drawn.
            match tokio::task::spawn_blocking(move || page()).await {
                Ok(Ok(page)) => Html(page).into_response(),
                Ok(Err(error)) => (StatusCode::SERVICE_UNAVAILABLE, error).into_response(),
                Err(error) => {
                    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
                }
            }
        }
    };
    Router::new()
        .route("/", get(show))
        .route("/metrics", get(scrape))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(is_ready))
}

fn scrape(metrics: &Metrics) -> Response {
    match metrics.encode() {
        Ok(text) => {
            let form = "text/plain; version=0.0.4; charset=utf-8";
            ([(header::CONTENT_TYPE, form)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn readiness(is_ready: bool) -> Response {
    match is_ready {
        true => "ready\n".into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response(),
    }
}
