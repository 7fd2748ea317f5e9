//! The view of a real history, drawn into memory.

use super::*;
use crate::config::Config;
use crate::convergence::Monitor;
use crate::history::History;
use crate::history::invented::{BEST, history, notice, pair, stop, store};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::Color;
use std::path::Path;

const CONFIG: &str = "
name: demo
state: state
program: program.ts
probe: {file: probe.safetensors, variables: {columns: {groups: 4}}}
networks: {target: {checkpoints: target}, baseline: {checkpoints: baseline}}
control: {directory: control}
policy:
  rules:
    - {id: peak, when: {peaked: {metric: convergence_score, patience: {checks: 3}}}, then: {stop: {}}}
    - {id: budget, when: {reached: {step: 1000}}, then: {stop: {}}}
";

fn watch(directory: &Path) -> Watch {
    Watch::of(Config::parse(&directory.join("run.yaml"), CONFIG).expect("a good file"))
}

/// A pair as the rules of the configuration see it, on top of what is there.
fn decided(history: &mut History, directory: &Path, step: u64) {
    let config = Config::parse(&directory.join("run.yaml"), CONFIG).expect("a good file");
    let last = history.last_pair().expect("read");
    let state = history.policy_state(last.as_ref(), &config.policy).expect("read");
    let mut row = pair(step);
    let observation = crate::policy::Observation {
        step,
        monitors: row.monitors.clone(),
        finite: true,
        samples: None,
    };
    row.policy = crate::policy::decide(&config.policy, state, &observation, row.time).state;
    store(history, &row, None, &[]);
}

/// A run of five pairs that is two checks past its peak.
fn run(directory: &Path) -> History {
    let state = directory.join("state");
    std::fs::create_dir(&state).expect("made");
    let mut history = history(&state, &[]);
    for step in [10, 20, 30, 40, 50] {
        decided(&mut history, directory, step);
    }
    history
}

fn drawn(screen: &Screen, watch: &Watch, width: u16, height: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| screen.draw(frame, watch, 1_000_170.0)).expect("drawn");
    terminal.backend().buffer().clone()
}

fn text(buffer: &Buffer) -> String {
    let area = buffer.area;
    let line = |y| (0..area.width).map(|x| buffer[(x, y)].symbol()).collect::<String>() + "\n";
    (0..area.height).map(line).collect()
}

fn screen() -> Screen {
    Screen::new(Monitor::ConvergenceScore, Palette::with_colours(true))
}

#[track_caller]
fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
}

#[test]
fn the_smallest_terminal_shows_state_curve_monitor_patience_and_keys() {
    let directory = tempfile::tempdir().expect("a directory");
    let _history = run(directory.path());
    let mut watch = watch(directory.path());
    watch.refresh().expect("read");
    let text = text(&drawn(&screen(), &watch, 60, 15));
    assert_says(
        &text,
        &[
            " demo · not at work · phase plain, λ = 0",
            "step 50, 1 min ago · 5 pairs",
            "79 of 80 certified",
            "0 waiting",
            " convergence_score  ↑ better  ◆ best 1.0000 at step 30",
            "monitor                           now          best  at step",
            "convergence_score        0.8000±0.062  1.0000±0.062       30",
            "peak  1 check left  ",
            " q quit  ←→ monitor  ? help",
        ],
    );
    assert!(text.chars().any(|c| ('\u{2801}'..='\u{28ff}').contains(&c)), "no curve:\n{text}");
    assert_eq!(text.matches('◆').count(), 2, "one in the title, one on the curve:\n{text}");
}

#[test]
fn a_large_terminal_shows_all_monitors_decisions_and_notices() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut history = run(directory.path());
    let mut last = pair(60);
    last.policy.stopped = true;
    store(&mut history, &last, Some(&stop(60)), &[notice(60)]);
    let mut watch = watch(directory.path());
    watch.refresh().expect("read");
    for (width, height) in [(80, 50), (160, 45)] {
        let text = text(&drawn(&screen(), &watch, width, height));
        for monitor in Monitor::ALL {
            assert_says(&text, &[monitor.name()]);
        }
        let said = ["stopped early", " decisions and notices ", "stop at step 60 by rule `peak`"];
        assert_says(&text, &said);
        assert_says(&text, &["(not delivered)", "it peaked", "notify at step 60 by rule `look`"]);
        assert!(!text.contains(" left "), "a stopped run waits for nothing:\n{text}");
        let best = format!("at step {BEST}");
        assert_says(&text, &[&best]);
    }
}

#[test]
fn keys_choose_the_monitor_and_help_lies_above() {
    let directory = tempfile::tempdir().expect("a directory");
    let _history = run(directory.path());
    let mut watch = watch(directory.path());
    watch.refresh().expect("read");
    let mut screen = screen();
    let mut title = |key| {
        screen.press(key);
        text(&drawn(&screen, &watch, 60, 15))
    };
    assert_says(&title(KeyCode::Right), &[" disagreement  ↓ better"]);
    assert_says(&title(KeyCode::Tab), &[" convergent_ratio  ↑ better"]);
    assert_says(&title(KeyCode::Up), &[" disagreement  ↓ better"]);
    assert_says(&title(KeyCode::Home), &[" convergent_ratio  ↑"]);
    assert_says(&title(KeyCode::Char('?')), &["another monitor", "┌ keys "]);
    assert!(!title(KeyCode::Char('?')).contains("another monitor"));
    screen.press(KeyCode::Char('?'));
    assert!(screen.close_help() && !screen.close_help());
}

#[test]
fn without_colours_nothing_has_one_and_all_is_said() {
    let directory = tempfile::tempdir().expect("a directory");
    let _history = run(directory.path());
    let mut watch = watch(directory.path());
    watch.refresh().expect("read");
    let plain = Screen::new(Monitor::ConvergenceScore, Palette::with_colours(false));
    let [plain, coloured] = [plain, screen()].map(|screen| drawn(&screen, &watch, 100, 40));
    let is_coloured = |buffer: &Buffer| {
        buffer.content.iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset)
    };
    assert!(is_coloured(&coloured) && !is_coloured(&plain));
    assert_eq!(text(&plain), text(&coloured));
}

#[test]
fn any_size_can_be_drawn() {
    let directory = tempfile::tempdir().expect("a directory");
    let _history = run(directory.path());
    let mut watch = watch(directory.path());
    watch.refresh().expect("read");
    let mut screen = screen();
    screen.press(KeyCode::Char('?'));
    for size in [(1, 1), (3, 2), (20, 5), (59, 14), (300, 4), (4, 100), (400, 120)] {
        drawn(&screen, &watch, size.0, size.1);
    }
}

#[test]
fn a_history_is_waited_for_and_read_again_only_when_it_has_changed() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut watch = watch(directory.path());
    watch.refresh().expect("nothing is no mistake");
    assert_says(
        &text(&drawn(&screen(), &watch, 80, 15)),
        &["There is no history in", "waited for"],
    );
    let mut history = run(directory.path());
    watch.refresh().expect("read");
    let steps = |watch: &Watch| {
        let pairs = watch.seen.iter().flat_map(|seen| &seen.pairs);
        pairs.map(|(step, _)| *step).collect::<Vec<_>>()
    };
    assert_eq!(steps(&watch), [10, 20, 30, 40, 50]);
    // A mark that only another reading removes.
    watch.seen.iter_mut().for_each(|seen| seen.answered = vec!["mark".to_owned()]);
    watch.refresh().expect("nothing to read");
    assert!(watch.seen.as_ref().is_some_and(|seen| seen.answered == ["mark"]));
    decided(&mut history, directory.path(), 60);
    watch.refresh().expect("read");
    assert!(watch.seen.as_ref().is_some_and(|seen| seen.answered.is_empty()));
    assert_eq!(steps(&watch), [10, 20, 30, 40, 50, 60]);
    // Another run takes its place.
    drop(history);
    std::fs::remove_dir_all(directory.path().join("state")).expect("removed");
    watch.refresh().expect("gone");
    assert!(watch.seen.is_none());
    let state = directory.path().join("state");
    std::fs::create_dir(&state).expect("made");
    let _other = crate::history::invented::history(&state, &[5]);
    watch.refresh().expect("read");
    assert_eq!(steps(&watch), [5]);
}

#[test]
fn control_c_is_an_end_and_c_is_none() {
    let key = |code, modifiers| is_end(KeyEvent::new(code, modifiers));
    assert!(key(KeyCode::Char('c'), KeyModifiers::CONTROL));
    assert!(!key(KeyCode::Char('c'), KeyModifiers::NONE));
    assert!(key(KeyCode::Esc, KeyModifiers::NONE) && key(KeyCode::Char('q'), KeyModifiers::NONE));
}
