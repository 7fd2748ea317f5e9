//! `convergd run`: the daemon.

use super::logs;
use crate::config::Config;
use crate::daemon::{self, End, Options};
use convergd_core::cli::progress::{Progress, Stand};
use convergd_core::cli::run::{Arguments, LogFormat};
use convergd_core::cli::{Exit, ending};
use crossbeam_channel::bounded;
use signal_hook::consts::SIGHUP;
use std::io::IsTerminal;

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let progress = progress(arguments);
    logs::start(arguments.log_format, progress.clone());
    #[cfg(feature = "failpoints")]
    let _armed = crate::failpoint::arm();
    let config = Config::load_to_run(&arguments.config.config)?;
    let (interrupt, interrupts) = bounded(1);
    let (reload, reloads) = bounded(1);
    let mut signals = ending::caught(&[SIGHUP])?;
    let handle = signals.handle();
    let listener = std::thread::spawn(move || {
        let mut is_asked = false;
        for signal in signals.forever() {
            if signal == SIGHUP {
                // One that does not fit means that one is waiting already.
                let _ = reload.try_send(());
                continue;
            }
            // The first asks; the second does not wait. The history is whole at any moment.
            if !std::mem::replace(&mut is_asked, true) {
                let _ = interrupt.try_send(());
                tracing::info!(
                    "ending, after the pair at work if there is one; once more ends at once"
                );
            } else {
                // At once: other threads are within libtorch, which must not be taken down under them.
                signal_hook::low_level::exit(128 + signal);
            }
        }
    });
    let options = Options { once: arguments.once, dry_run: arguments.dry_run };
    let end = daemon::run(&config, options, &interrupts, &reloads, &progress);
    progress.end();
    handle.close();
    let _ = listener.join();
    Ok(match end? {
        End::Done => {
            tracing::info!("done");
            Exit::Done
        }
        // Whoever takes what is there waits for all of it.
        End::Interrupted if arguments.once => Exit::Later,
        End::Interrupted => Exit::Done,
        End::Stopped(decision) => {
            tracing::info!(decision = decision.id, best_step = decision.best_step, "early-stopped");
            if arguments.exit_zero { Exit::Done } else { Exit::Stopped }
        }
    })
}

/// How far `--once` has come: a bar under log lines for people, else lines among them.
fn progress(arguments: &Arguments) -> Progress {
    let is_for_people = arguments.log_format == LogFormat::Text && std::io::stderr().is_terminal();
    match arguments.once {
        true if is_for_people => Progress::bar("pairs"),
        true => Progress::lines("pairs", |stand| {
            let Stand { done, total, rate, left, .. } = stand;
            let left = left.map(|left| left.as_secs_f64());
            tracing::info!(done, total, rate, left, "progress: {stand}");
        }),
        false => Progress::nothing(),
    }
}
