//! After the end: what the run has left is served a little longer, so that a scrape finds it.

use super::Daemon;
use crate::telemetry::http::Server;
use crossbeam_channel::Receiver;
use std::time::Duration;

impl Daemon<'_> {
    /// Says in the metrics that the run is over, and hands over who serves them; nobody where the end was asked for.
    pub(super) fn leave(&mut self) -> Option<Server> {
        self.metrics.run_ended.set(1);
        self.news.stand(|standing| standing.is_over = true);
        self.server.take().filter(|_| !self.is_interrupted)
    }
}

/// Serves until the grace is over or the end is asked for. The state is free by then.
pub(super) fn linger(server: Option<Server>, grace: Duration, interrupts: &Receiver<()>) {
    let Some(server) = server.filter(|_| !grace.is_zero()) else { return };
    let address = server.address();
    tracing::info!(%address, "the run is over, and is served for `telemetry.grace` {grace:?} more");
    // Whether time has passed or somebody does not want to wait.
    let _ = interrupts.recv_timeout(grace);
}
