//! `convergd run`: the daemon.

use crate::config::Config;
use crate::daemon::{self, End, Options};
use anyhow::Context;
use convergd_core::cli::Exit;
use convergd_core::cli::run::Arguments;
use crossbeam_channel::bounded;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    start_logging();
    #[cfg(feature = "failpoints")]
    let _armed = crate::failpoint::arm();
    let config = Config::load_to_run(&arguments.config.config)?;
    let (interrupt, interrupts) = bounded(1);
    let (reload, reloads) = bounded(1);
    let mut signals =
        Signals::new([SIGTERM, SIGINT, SIGHUP]).context("signals cannot be handled")?;
    let handle = signals.handle();
    let listener = std::thread::spawn(move || {
        for signal in signals.forever() {
            if signal == SIGHUP {
                // One that does not fit means that one is waiting already.
                let _ = reload.try_send(());
                continue;
            }
            // The first asks; the second does not wait. The history is whole at any moment.
            if interrupt.try_send(()).is_ok() {
                tracing::info!("ending after this pair; once more ends at once");
            } else {
                std::process::exit(128 + signal);
            }
        }
    });
    let options = Options { once: arguments.once, dry_run: arguments.dry_run };
    let end = daemon::run(&config, options, &interrupts, &reloads);
    handle.close();
    let _ = listener.join();
    Ok(match end? {
        End::Done => {
            tracing::info!("done");
            Exit::Done
        }
        End::Interrupted => Exit::Done,
        End::Stopped(decision) => {
            tracing::info!(decision = decision.id, best_step = decision.best_step, "early-stopped");
            Exit::Stopped
        }
    })
}

/// Lines on standard error, as `RUST_LOG` says.
pub(super) fn start_logging() {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,notify=off"));
    // The address of a webhook may be a secret, and these print it.
    let silenced = ["ureq=off", "ureq_proto=off"].into_iter().filter_map(|off| off.parse().ok());
    let filter = silenced.fold(filter, EnvFilter::add_directive);
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // A second subscriber in one process is refused; the first one serves.
    let _ = subscriber.try_init();
}
