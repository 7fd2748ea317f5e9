//! `convergd top`: a run in the terminal, as it goes on.

mod chart;
mod events;
mod number;
mod palette;
mod screen;
mod table;
mod watch;

use self::palette::Palette;
use self::screen::Screen;
use self::watch::Watch;
use super::{ConfigArgument, Exit, Misuse};
use anyhow::Context;
use clap::Args;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::{DefaultTerminal, Frame};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long a key is waited for before signals are looked at.
const TICK: Duration = Duration::from_millis(100);
/// How often the history is asked whether it has changed.
const REFRESH: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigArgument,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let config = arguments.config.load()?;
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        let message = "`top` needs a terminal for its keys and its output; `convergd status` says the same once, \
                       with `--json` for programs";
        return Err(Misuse(message.to_owned()).into());
    }
    let mut watch = Watch::of(config);
    // What is wrong with the history is said as any command says it.
    watch.refresh()?;
    let signal = Arc::new(AtomicUsize::new(0));
    for number in [SIGTERM, SIGINT, SIGHUP] {
        signal_hook::flag::register_usize(number, Arc::clone(&signal), number as usize)
            .context("signals cannot be handled")?;
    }
    // Also where this panics.
    let mut terminal = ratatui::try_init().context("the terminal cannot be taken over")?;
    let shown = show(&mut terminal, &mut watch, &signal);
    // It shows the cursor again.
    drop(terminal);
    let restored = ratatui::try_restore();
    match signal.load(Ordering::Relaxed) {
        0 => {
            shown.and(restored).context("the terminal")?;
            Ok(Exit::Done)
        }
        number => std::process::exit(128 + i32::try_from(number).unwrap_or(0)),
    }
}

/// Shows the run until a key or a signal ends it.
fn show(
    terminal: &mut DefaultTerminal,
    watch: &mut Watch,
    signal: &AtomicUsize,
) -> std::io::Result<()> {
    let mut screen = Screen::new(watch.primary(), Palette::of_environment());
    let mut refreshed = Instant::now();
    loop {
        terminal.draw(|frame: &mut Frame<'_>| screen.draw(frame, watch, crate::clock::now()))?;
        loop {
            if signal.load(Ordering::Relaxed) != 0 {
                return Ok(());
            }
            if event::poll(TICK)? {
                match event::read()? {
                    Event::Key(key) if key.kind == KeyEventKind::Press => {
                        if is_end(key) && !screen.close_help() {
                            return Ok(());
                        }
                        screen.press(key.code);
                        break;
                    }
                    Event::Resize(..) => break,
                    _ => continue,
                }
            }
            if refreshed.elapsed() >= REFRESH {
                refreshed = Instant::now();
                // It may be busy or replaced at this moment; the screen says so and shows what it had.
                screen.trouble = watch.refresh().err().map(|error| format!("{error:#}"));
                break;
            }
        }
    }
}

fn is_end(key: KeyEvent) -> bool {
    let is_control_c =
        key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    is_control_c || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc)
}

#[cfg(test)]
mod tests;
