//! Checkpoints that come at a bad time: during an evaluation, on a full disk, behind better ones.

use crate::bench::{Bench, assert_says, eventually};
use crate::common::disk::SmallDisk;
use std::path::PathBuf;

/// A run whose first pair takes some ten seconds.
fn slow() -> Option<Bench> {
    let bench = Bench::empty()?;
    bench.put("slow/program.ts", "program.ts");
    Some(bench)
}

fn add_slow(bench: &Bench, step: u64) -> [PathBuf; 2] {
    ["target", "baseline"].map(|network| {
        let name = format!("{network}/step-{step:08}.safetensors");
        bench.put(&format!("slow/{name}"), &name);
        bench.path(&name)
    })
}

fn steps(bench: &Bench) -> Vec<String> {
    bench.pairs().into_iter().map(|row| row[0].clone()).collect()
}

#[test]
fn what_arrives_during_an_evaluation_survives_a_kill_and_a_trainer_that_keeps_one() {
    let Some(bench) = slow() else { return };
    let mut running = bench.follow();
    let mut last = add_slow(&bench, 1);
    running.says("variables are chosen");
    for step in [2, 3] {
        let next = add_slow(&bench, step);
        let query = format!("SELECT * FROM checkpoint WHERE step = {step} AND outcome = 'waiting'");
        eventually("both are written down", || bench.rows(&query).len() == 2);
        last.iter().for_each(|file| std::fs::remove_file(file).unwrap());
        last = next;
    }
    assert!(steps(&bench).is_empty(), "the first evaluation was over too soon to show anything");
    // SIGKILL.
    drop(running);
    // As if the kill had come before the last was written down.
    bench.change("DELETE FROM checkpoint WHERE step = 3");
    last.iter().for_each(|file| std::fs::remove_file(file).unwrap());
    bench.once().expect(0, &[]);
    assert_eq!(steps(&bench), ["1", "2", "3"]);
    bench.assert_no_pins();
    // Another start has nothing left to do.
    bench.once().expect(0, &[]);
    assert_eq!(bench.rows("SELECT DISTINCT outcome FROM checkpoint"), [["evaluated"]]);
}

#[test]
fn what_is_there_is_not_done_where_the_end_is_asked_for_before_all_is_evaluated() {
    let Some(bench) = slow() else { return };
    for step in [1, 2] {
        add_slow(&bench, step);
    }
    let mut running = bench.start(&["run", "--once", "-c", "run.yaml"]);
    running.says("variables are chosen");
    running.terminate();
    running.finish().expect(75, &["ending, after the pair at work"]);
    assert_eq!(steps(&bench), ["1"]);
    bench.once().expect(0, &[]);
    assert_eq!(steps(&bench), ["1", "2"]);
}

/// Of what was saved while it was away nothing is pinned.
#[test]
fn a_stopped_run_that_was_killed_evaluates_what_its_trainings_saved_before_they_answered() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    bench.configure(&[("step: 100", "step: 1")]);
    let mut running = bench.follow();
    running.says("decided: ");
    // SIGKILL.
    drop(running);
    for network in ["target", "baseline"] {
        bench.add_step(network, 2);
    }
    bench.end_training();
    bench.follow().finish().expect(10, &["what its trainings saved before they stopped"]);
    assert_eq!(steps(&bench), ["1", "2"]);
    // What comes after that is of no run.
    for network in ["target", "baseline"] {
        bench.add_step(network, 3);
    }
    bench.follow().finish().expect(10, &["nothing is left to do"]);
    assert_eq!(steps(&bench), ["1", "2"]);
}

/// The kernel drops signals to the first process of a container that has no handler for them yet.
#[test]
fn a_signal_that_comes_while_the_first_process_starts_waits_for_its_handler() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    for (arguments, code) in [(&["run", "-c", "run.yaml"], 0), (&["values", "-c", "run.yaml"], 143)]
    {
        let Some(running) = bench.start_as_first(arguments) else { return };
        // It has become the program with libtorch, which is loaded now.
        let mut first = None;
        eventually("it is started", || {
            first = running.child_named("convergd-torch");
            first.is_some()
        });
        let first = first.and_then(rustix::process::Pid::from_raw).unwrap();
        rustix::process::kill_process(first, rustix::process::Signal::TERM).unwrap();
        running.finish().expect(code, &[]);
        assert!(bench.pairs().is_empty());
    }
}

#[test]
fn a_stopped_run_leaves_nothing_that_waits_however_it_ends() {
    // Asked to end it lets go of what waits, killed it goes on there; what takes what is there evaluates nothing after a stop.
    for (is_killed, next) in [(false, "follow"), (true, "follow"), (true, "once")] {
        let Some(bench) = slow() else { return };
        bench.configure(&[("step: 100", "step: 1")]);
        let mut running = bench.follow();
        add_slow(&bench, 1);
        running.says("variables are chosen");
        for step in [2, 3] {
            add_slow(&bench, step);
        }
        let waiting = || bench.rows("SELECT step FROM checkpoint WHERE outcome = 'waiting'").len();
        eventually("it is stopped, and others wait", || steps(&bench) == ["1"] && waiting() >= 2);
        // They have answered, so nothing but the last checkpoints is waited for.
        bench.end_training();
        match is_killed {
            // SIGKILL.
            true => drop(running),
            false => {
                running.terminate();
                let finished = running.finish();
                finished.expect(10, &[]);
                assert!(!finished.err.contains("goes on here"), "{}", finished.err);
                assert_eq!(waiting(), 0);
                bench.assert_no_pins();
            }
        }
        let goes_on = is_killed && next == "follow";
        let over = match next {
            "follow" => "nothing is left to do",
            _ => "nothing is evaluated after a stop",
        };
        let finished = match next {
            "follow" => bench.follow().finish(),
            _ => bench.once(),
        };
        finished.expect(10, &[if goes_on { "early-stopped" } else { over }]);
        let skipped = "SELECT DISTINCT reason FROM checkpoint WHERE outcome = 'skipped'";
        if goes_on {
            assert_eq!(steps(&bench), ["1", "2", "3"]);
            assert!(bench.rows(skipped).is_empty());
            bench.follow().finish().expect(10, &[over]);
        } else {
            // One more may have been at work.
            assert!(steps(&bench).len() <= 2);
            assert_eq!(bench.rows(skipped), [["the run was stopped before it"]]);
        }
        assert_eq!(waiting(), 0);
        bench.assert_no_pins();
    }
}

#[test]
fn a_port_that_another_process_has_may_be_free_later() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    let listen = format!("telemetry: {{listen: '{address}'}}\ncompute:");
    bench.configure(&[("compute:", &listen)]);
    bench.follow().finish().expect(75, &["`telemetry.listen`", &address, "choose another port"]);
    let doctor = bench.command(&["doctor", "-c", "run.yaml"]);
    doctor.expect(75, &[]);
    assert_says(&doctor.out, &[&format!("BAD   telemetry: {address}: "), "`telemetry.listen`"]);
    drop(other);
    let doctor = bench.command(&["doctor", "-c", "run.yaml"]);
    doctor.expect(0, &[]);
    assert_says(&doctor.out, &[&format!("ok    telemetry: {address} can be listened on")]);
}

#[test]
fn a_full_disk_is_waited_for_and_nothing_is_lost() {
    let Some(bench) = Bench::empty() else { return };
    let Some(disk) = SmallDisk::mount(bench.path("disk"), "2m") else { return };
    bench.configure(&[
        ("state: state", "state: disk/state"),
        ("target: {checkpoints: target}", "target: {checkpoints: disk/target}"),
        ("baseline: {checkpoints: baseline}", "baseline: {checkpoints: disk/baseline}"),
    ]);
    for (network, step) in [("target", 1), ("target", 2), ("baseline", 1), ("baseline", 2)] {
        let name = format!("{network}/step-{step:08}.safetensors");
        // Not there yet by its name, and needs no room to be there.
        bench.put(&name, &format!("disk/{name}.unfinished"));
    }
    let rename = |step: u64| {
        for network in ["target", "baseline"] {
            let name = bench.path(&format!("disk/{network}/step-{step:08}.safetensors"));
            std::fs::rename(name.with_extension("safetensors.unfinished"), name).unwrap();
        }
    };
    let count = || bench.rows_of("disk/state", "SELECT step FROM pair").len();
    let mut running = bench.follow();
    rename(1);
    eventually("the first pair is evaluated", || count() == 1);
    let filler = disk.fill();
    rename(2);
    running.says("the run waits until the state can be written again");
    assert!(running.is_alive());
    let doctor = bench.command(&["doctor", "-c", "run.yaml"]);
    doctor.expect(65, &[]);
    assert_says(&doctor.out, &["BAD   state: `", "No space left on device"]);
    assert_eq!(count(), 1);
    std::fs::remove_file(filler).unwrap();
    running.says("the state can be written again");
    eventually("the second pair is evaluated", || count() == 2);
    bench.end_training();
    running.finish().expect(0, &[]);
}

#[test]
fn a_run_that_waits_for_its_disk_can_be_ended_and_finds_everything_later() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    let Some(disk) = SmallDisk::mount(bench.path("disk"), "2m") else { return };
    bench.configure(&[
        ("state: state", "state: disk/state"),
        ("target: {checkpoints: target}", "target: {checkpoints: disk/target}"),
        ("baseline: {checkpoints: baseline}", "baseline: {checkpoints: disk/baseline}"),
    ]);
    let names = ["target", "baseline"].map(|n| format!("disk/{n}/step-00000001.safetensors"));
    for name in &names {
        bench.put(name.trim_start_matches("disk/"), &format!("{name}.unfinished"));
    }
    let mut running = bench.follow();
    running.says("started");
    eventually("the history is there", || {
        !bench.rows_of("disk/state", "SELECT * FROM fact").is_empty()
    });
    let filler = disk.fill();
    for name in &names {
        std::fs::rename(bench.path(&format!("{name}.unfinished")), bench.path(name)).unwrap();
    }
    running.says("the run waits until the state can be written again");
    let pinned = || {
        let pins = std::fs::read_dir(bench.path("disk/state/pins")).unwrap().flatten();
        pins.filter(|pin| !pin.file_name().to_string_lossy().starts_with("held")).count()
    };
    eventually("both are pinned", || pinned() == 2);
    running.terminate();
    running.finish().expect(0, &["the next start goes on here"]);
    names.iter().for_each(|name| std::fs::remove_file(bench.path(name)).unwrap());
    std::fs::remove_file(filler).unwrap();
    bench.once().expect(0, &[]);
    assert_eq!(bench.rows_of("disk/state", "SELECT step FROM pair"), [["1"]]);
}

#[test]
fn latest_falls_back_on_an_older_pair_where_the_newest_is_bad() {
    let Some(bench) = Bench::with_steps(&[1, 2, 3]) else { return };
    bench.put("checkpoints/misshapen.safetensors", "target/step-00000003.safetensors");
    bench.configure(&[("compute:", "pairing: {order: latest}\ncompute:")]);
    bench.once().expect(0, &["quarantined"]);
    assert_eq!(steps(&bench), ["2"]);
    let outcomes = bench.rows("SELECT step, outcome FROM checkpoint WHERE network = 'target'");
    assert_eq!(outcomes, [["1", "skipped"], ["2", "evaluated"], ["3", "quarantined"]]);
    bench.assert_no_pins();
}

#[test]
fn max_step_ends_a_run_whatever_its_last_checkpoints_are_worth() {
    for (pairing, last, evaluated) in [
        ("{order: {every_n: 2}}", None, vec!["1", "2", "3"]),
        ("{order: every}", Some("checkpoints/misshapen.safetensors"), vec!["1", "2"]),
        ("{order: every}", Some("checkpoints/truncated.safetensors"), vec!["1", "2"]),
        ("{tolerance: 1}", None, vec!["1", "2", "3"]),
    ] {
        let Some(bench) = Bench::with_steps(&[1, 2, 3]) else { return };
        if let Some(last) = last {
            bench.put(last, "target/step-00000003.safetensors");
        }
        let with = format!("pairing: {pairing}\nend: {{max_step: 3}}\ncompute:");
        bench.configure(&[("compute:", &with)]);
        bench.follow().finish().expect(0, &["all trainings have reached `end.max_step` 3"]);
        assert_eq!(steps(&bench), evaluated, "{pairing}");
        bench.assert_no_pins();
    }
}

#[test]
fn a_training_that_falls_silent_ends_the_run_after_idle() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    bench.configure(&[("compute:", "end: {idle: 1s}\ncompute:")]);
    bench.follow().finish().expect(0, &["no new checkpoint for `end.idle` 1s"]);
    assert_eq!(steps(&bench), ["1"]);
}

#[test]
fn weights_that_are_not_finite_choose_neither_variables_nor_classes() {
    let (Some(bench), Some(good)) = (Bench::with_steps(&[2, 3]), Bench::with_steps(&[2, 3])) else {
        return;
    };
    for bench in [&bench, &good] {
        bench.put("probes/unlabelled.safetensors", "probe.safetensors");
    }
    bench.put("checkpoints/nan.safetensors", "target/step-00000001.safetensors");
    bench.put("baseline/step-00000001.safetensors", "baseline/step-00000001.safetensors");
    bench.once().expect(0, &["no convergence: outputs are not finite", "at a later pair"]);
    good.once().expect(0, &[]);
    let chosen = "SELECT value FROM fact WHERE name = 'variables'";
    assert_eq!(bench.rows(chosen), good.rows(chosen));
    assert_eq!(bench.rows("SELECT step, finite FROM pair"), [["1", "0"], ["2", "1"], ["3", "1"]]);
    assert_eq!(bench.pairs()[1..], good.pairs());
}

#[test]
fn what_was_quarantined_is_looked_at_again_with_other_settings() {
    let Some(bench) = Bench::with_steps(&[1, 2]) else { return };
    bench.configure(&[("compute:", "limits: {checkpoint: 1KiB}\ncompute:")]);
    bench.once().expect(65, &["raise `limits.checkpoint` if that is right"]);
    assert_eq!(bench.status()["quarantined"], 4);
    bench.configure(&[]);
    bench.once().expect(0, &[]);
    assert_eq!(steps(&bench), ["1", "2"]);
    assert_eq!(bench.status()["quarantined"], 0);
}

#[test]
fn a_run_that_evaluated_nothing_is_no_success() {
    let Some(bench) = Bench::empty() else { return };
    for network in ["target", "baseline"] {
        std::fs::create_dir(bench.path(network)).unwrap();
    }
    bench.once().expect(65, &["no checkpoint is there: `", "/target`"]);
    for network in ["target", "baseline"] {
        let name = format!("{network}/step-00000001.safetensors");
        bench.put("checkpoints/misshapen.safetensors", &name);
    }
    bench.configure(&[("compute:", "end: {max_step: 1}\ncompute:")]);
    bench.follow().finish().expect(65, &["no pair could be evaluated: ", "of shape [3, 9]"]);
    // Without a pair, nothing binds the state to its settings.
    bench.configure(&[("noise: 0.01", "noise: 0.02")]);
    bench.add_step("target", 1);
    bench.add_step("baseline", 1);
    bench.once().expect(0, &[]);
    bench.configure(&[("noise: 0.01", "noise: 0.03")]);
    bench.once().expect(64, &["was begun with noise 0.02"]);
}

#[test]
fn checkpoints_below_the_directory_are_pointed_out() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    let below = "target: {checkpoints: runs}";
    std::fs::create_dir_all(bench.path("runs/lightning_logs/version_0")).unwrap();
    std::fs::rename(bench.path("target"), bench.path("runs/lightning_logs/version_0/ckpts"))
        .unwrap();
    bench.configure(&[("target: {checkpoints: target}", below)]);
    bench.once().expect(65, &["runs/lightning_logs/version_0/ckpts` below it does; give that"]);
}

#[test]
fn one_network_twice_is_told() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    bench.put("target/step-00000001.safetensors", "baseline/step-00000001.safetensors");
    bench.once().expect(0, &["both networks give the same outputs", "different seeds"]);
}
