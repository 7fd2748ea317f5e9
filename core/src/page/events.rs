//! Server-sent events: one whenever a pair was stored, a decision was taken or the state changed.
//!
//! An event is only a wake-up: it says what to ask for again. So a client that is slow gets fewer of them, each about the
//! latest, and nothing is kept for it.

use super::news::Bulletin;
use super::{Refusal, Site};
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{Stream, unfold};
use serde_json::json;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, watch};

/// A client is told at most so often.
const PACE: Duration = Duration::from_millis(250);
/// How often a client hears something: silence tells it that the connection is lost.
const BEAT: Duration = Duration::from_secs(10);

/// `GET /events`.
pub(super) async fn events(
    State(site): State<Arc<Site>>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refusal> {
    let place = site.followers.clone().try_acquire_owned();
    let place = place.map_err(|_| Refusal::busy("too many pages follow this run; close some"))?;
    let follower = Follower::of(site.news.follow(), greeting(&site), place);
    let stream =
        unfold(
            follower,
            |mut follower| async move { Some((Ok(follower.next().await?), follower)) },
        );
    let beat = Event::default().event("beat").data("{}");
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(BEAT).event(beat)))
}

/// What a page is of: where a later connection says something else, the page is an old one.
fn greeting(site: &Site) -> Event {
    let of = json!({
        "version": env!("CARGO_PKG_VERSION"), "run": site.config.name, "state": site.config.state,
    });
    Event::default().event("hello").data(of.to_string())
}

/// One client.
struct Follower {
    news: watch::Receiver<Bulletin>,
    seen: Bulletin,
    events: VecDeque<Event>,
    _place: OwnedSemaphorePermit,
}

impl Follower {
    fn of(mut news: watch::Receiver<Bulletin>, first: Event, place: OwnedSemaphorePermit) -> Self {
        let seen = news.borrow_and_update().clone();
        Self { news, seen, events: [first].into(), _place: place }
    }

    /// The next event; nothing after the last.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            if self.seen.is_last {
                return None;
            }
            self.news.changed().await.ok()?;
            // What comes close upon it is told with it; the end does not wait.
            let rest = self.news.wait_for(|bulletin| bulletin.is_last);
            let _ = tokio::time::timeout(PACE, rest).await;
            let now = self.news.borrow_and_update().clone();
            self.events = differences(&self.seen, &now).into();
            self.seen = now;
        }
    }
}

fn differences(seen: &Bulletin, now: &Bulletin) -> Vec<Event> {
    let event = |name: &str, data: serde_json::Value| {
        Event::default().event(name).id(now.number.to_string()).data(data.to_string())
    };
    let mut events = Vec::new();
    if now.pair != seen.pair {
        events.push(event("pair", json!({"step": now.pair})));
    }
    if now.decision != seen.decision {
        events.push(event("decision", json!({"generation": now.decision})));
    }
    if now.is_last {
        events.push(event("end", json!({"over": now.standing.is_over})));
    }
    if events.is_empty() {
        events.push(event("state", json!({"number": now.number})));
    }
    events
}
