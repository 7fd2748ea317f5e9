//! The live page of a run, and the interface that it stands on: `/`, `/api/v1/…`, `/events`.
//!
//! Everything is read from the history, as commands read it, and nothing changes anything. What only the process at
//! work knows comes as a [`Bulletin`] through [`News`], whose number also tells when it is time to read again: the
//! history is read once for a change, however many look on. Reading, drawing and extracting happen on threads that
//! yield to the run, a bounded number at a time.
//!
//! The page is whole without its script, which puts fresh parts in the place of old ones. The charts are those of the
//! report.

mod api;
mod choice;
mod events;
mod explained;
mod guard;
mod news;
mod refusal;
mod snapshot;
mod view;

#[cfg(test)]
mod tests;

pub use news::{Bulletin, News, Standing};

use self::explained::{Explained, Listed};
use self::refusal::Refusal;
use self::snapshot::Snapshot;
use crate::config::Config;
use crate::history::History;
use crate::telemetry::http::Served;
use axum::Router;
use axum::routing::get;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// Answers that are made at a time.
const READERS: usize = 2;
/// Pages that follow at a time; each holds a connection.
const MOST_FOLLOWERS: usize = 64;

/// The page of a run.
pub struct Site {
    config: Config,
    news: News,
    /// The last that was read.
    snapshot: Mutex<Option<Arc<Snapshot>>>,
    explained: Explained,
    readers: Arc<Semaphore>,
    /// One at a time: it takes a core.
    extractors: Arc<Semaphore>,
    followers: Arc<Semaphore>,
}

impl Site {
    /// That of the run of a configuration; `news` is told of it.
    pub fn of(config: Config, news: News) -> Self {
        Self {
            config,
            news,
            snapshot: Mutex::new(None),
            explained: Explained::default(),
            readers: Arc::new(Semaphore::new(READERS)),
            extractors: Arc::new(Semaphore::new(1)),
            followers: Arc::new(Semaphore::new(MOST_FOLLOWERS)),
        }
    }

    /// What a server serves. `address` is the one that it is bound to.
    pub fn served(self, address: std::net::SocketAddr) -> Served {
        let news = self.news.clone();
        let site = Arc::new(self);
        let routes = Router::new()
            .route("/", get(view::page))
            .route("/page.css", get(view::style))
            .route("/page.js", get(view::script))
            .route("/parts/{name}", get(view::part))
            .route("/explanation/{step}/{sample}", get(view::explanation))
            .route("/events", get(events::events))
            .route("/api/v1/events", get(events::events))
            .route("/api/v1/status", get(api::status))
            .route("/api/v1/history", get(api::history))
            .route("/api/v1/decisions", get(api::decisions))
            .route("/api/v1/samples", get(api::samples_of_best))
            .route("/api/v1/samples/{step}", get(api::samples))
            .route("/api/v1/samples/{step}/{sample}", get(api::sample))
            .fallback(|| async { Refusal::not_found("there is nothing here; `/` is the page") })
            .with_state(site);
        Served { routes: guard::guarded(routes, address), end: Box::new(move || news.end()) }
    }

    /// What the history says now; read again only where something has changed.
    fn snapshot(&self) -> Result<Arc<Snapshot>, Refusal> {
        // Held meanwhile, so that of many who ask one reads.
        let mut kept = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        let bulletin = self.news.latest();
        if let Some(snapshot) = kept.as_ref().filter(|kept| kept.bulletin == bulletin) {
            return Ok(snapshot.clone());
        }
        let snapshot = Snapshot::read(&self.config, bulletin, kept.as_deref())?;
        Ok(kept.insert(Arc::new(snapshot)).clone())
    }

    fn history(&self) -> Result<History, Refusal> {
        Ok(History::open_for_reading(&self.config.state)?)
    }
}

/// Answers on a thread that may wait, when one of `places` is free.
async fn answer<T: Send + 'static>(
    site: &Arc<Site>,
    places: &Arc<Semaphore>,
    make: impl FnOnce(&Site) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    // Who has gone away meanwhile waits no more.
    let place = places.clone().acquire_owned().await?;
    let site = site.clone();
    let made = tokio::task::spawn_blocking(move || {
        let _place = place;
        make(&site)
    });
    made.await?
}
