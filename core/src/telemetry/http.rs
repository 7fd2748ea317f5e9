//! The HTTP server: a thread of its own, so that a scrape is answered while a pair is evaluated.

use super::Metrics;
use crate::evaluation::priority::stand_back_to;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use std::future::{Future, IntoFuture};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Niceness of the threads that answers are made on: the run comes first.
const NICENESS: i32 = 10;
/// How long the end waits for those who are being told of it.
const FAREWELL: Duration = Duration::from_millis(500);

/// Connections at a time. More wait: each holds an open file, and the run needs some itself.
const MOST_CONNECTIONS: usize = 200;

/// A connection on which nothing comes or goes for so long is closed: its place is for others. The events of the page
/// have a sign of life more often.
const IDLE: Duration = Duration::from_secs(60);

/// What is served beside the metrics.
pub struct Served {
    /// Its paths.
    pub routes: Router,
    /// Tells those who follow that the server ends.
    pub end: Box<dyn FnOnce() + Send>,
}

/// A running server; it ends with this value.
pub struct Server {
    address: SocketAddr,
    ready: Arc<AtomicBool>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    /// Binds and serves; `serve` says what, for the address that is bound.
    ///
    /// # Errors
    /// An address that cannot be bound.
    pub fn start(
        address: SocketAddr,
        metrics: Metrics,
        serve: impl FnOnce(SocketAddr) -> Served,
    ) -> io::Result<Self> {
        Self::start_limited(address, metrics, serve, IDLE)
    }

    fn start_limited(
        address: SocketAddr,
        metrics: Metrics,
        serve: impl FnOnce(SocketAddr) -> Served,
        idle: Duration,
    ) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .on_thread_start(yield_to_the_run)
            .build()?;
        let ready = Arc::new(AtomicBool::new(false));
        let Served { routes, end } = serve(address);
        let router = routes.merge(own_routes(metrics, ready.clone()));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("http".to_owned());
        let thread = thread.spawn(move || {
            runtime.block_on(async move {
                let Ok(listener) = TcpListener::from_std(listener) else { return };
                let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
                let listener = Limited { listener, places, idle };
                let (leave, left) = tokio::sync::oneshot::channel::<()>();
                let left = async move { left.await.unwrap_or_default() };
                let serve = axum::serve(listener, router).with_graceful_shutdown(left);
                let mut serve = std::pin::pin!(serve.into_future());
                tokio::select! {
                    served = &mut serve => if let Err(error) = served {
                        tracing::error!(%error, "the HTTP server ended");
                    },
                    _ = stopped => {
                        end();
                        let _ = leave.send(());
                        // Who does not listen is not waited for.
                        let _ = tokio::time::timeout(FAREWELL, serve).await;
                    }
                }
            });
            // An answer that is still made only reads.
            runtime.shutdown_background();
        })?;
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

/// A listener with so many places.
struct Limited {
    listener: TcpListener,
    places: Arc<Semaphore>,
    idle: Duration,
}

impl axum::serve::Listener for Limited {
    type Io = Placed;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Placed, SocketAddr) {
        // Nobody closes it.
        let place = self.places.clone().acquire_owned().await.ok();
        let (stream, address) = axum::serve::Listener::accept(&mut self.listener).await;
        let closes = Box::pin(tokio::time::sleep(self.idle));
        (Placed { stream, closes, idle: self.idle, _place: place }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection with its place, for as long as something comes or goes.
struct Placed {
    stream: TcpStream,
    closes: Pin<Box<tokio::time::Sleep>>,
    idle: Duration,
    _place: Option<OwnedSemaphorePermit>,
}

impl Placed {
    /// Something came or went; or nothing did, for too long.
    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.closes.as_mut().reset(tokio::time::Instant::now() + self.idle);
            return polled;
        }
        self.closes.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Placed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.watch(context, polled)
    }
}

impl AsyncWrite for Placed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Threads have a niceness of their own on Linux.
fn yield_to_the_run() {
    if let Err(error) = stand_back_to(NICENESS) {
        tracing::debug!(%error, "answers are made as fast as the run");
    }
}

fn own_routes(metrics: Metrics, ready: Arc<AtomicBool>) -> Router {
    let scrape = move || async move { scrape(&metrics) };
    let is_ready = move || async move { readiness(ready.load(Ordering::Acquire)) };
    Router::new()
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::time::Instant;

    const SHORT: Duration = Duration::from_millis(300);

    fn server(idle: Duration) -> Server {
        let metrics = Metrics::new("cpu").expect("registered");
        let nothing = |_| Served { routes: Router::new(), end: Box::new(|| ()) };
        let address = "127.0.0.1:0".parse().expect("an address");
        Server::start_limited(address, metrics, nothing, idle).expect("bound")
    }

    fn connect(server: &Server) -> std::net::TcpStream {
        let stream = std::net::TcpStream::connect(server.address()).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        stream
    }

    fn is_served(stream: &mut std::net::TcpStream) -> bool {
        write!(stream, "GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).is_ok() && answer.ends_with("ok\n")
    }

    #[test]
    fn who_says_nothing_gives_its_place_to_others() {
        let server = server(SHORT);
        let mut silent: Vec<_> = (0..MOST_CONNECTIONS).map(|_| connect(&server)).collect();
        for stream in silent.iter_mut().skip(1).step_by(2) {
            // Half a request is no request.
            stream.write_all(b"GET /healthz HTTP/1.1\r\n").expect("sent");
        }
        let begun = Instant::now();
        assert!(is_served(&mut connect(&server)), "there are places again");
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        for mut stream in silent {
            let mut rest = Vec::new();
            // Closed, with or without an answer.
            let _ = stream.read_to_end(&mut rest);
            assert!(!String::from_utf8_lossy(&rest).contains("ok\n"));
        }
    }

    #[test]
    fn who_goes_on_keeps_its_place() {
        let server = server(SHORT);
        let mut stream = connect(&server);
        // Longer in all than nothing may come.
        for part in ["GET /healthz ", "HTTP/1.0\r\n", "Host: localhost\r\n", "\r\n"] {
            stream.write_all(part.as_bytes()).expect("sent");
            std::thread::sleep(SHORT / 2);
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        assert!(answer.ends_with("ok\n"), "{answer}");
    }
}
