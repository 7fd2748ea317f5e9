//! Other layouts through the real program: the same weights give the same pairs, and what is wrong is said.

use crate::bench::{Bench, assert_says, eventually};
use serde_json::json;

/// Writes the good run's checkpoints in another layout, and removes the originals.
const CONVERT: &str = "\
import json, os, pathlib, sys, torch
from safetensors.torch import load_file, save_file
layout, project = sys.argv[1:]
sys.path += [project + '/tests/fixtures', project + '/python']
def write(directory, step, state):
    if layout == 'nested':
        model = {'module.' + name: tensor for name, tensor in state.items()}
        torch.save({'epoch': 99, 'model': model}, directory / f'model_{step}.pt')
    elif layout == 'inside':
        torch.save({'step': step, 'net': state}, directory / f'{\"zyx\"[step - 1]}.pt')
    elif layout == 'lightning':
        model = {'model.' + name: tensor for name, tensor in state.items()}
        file = directory / f'epoch=0-val_loss=0.{step}.ckpt'
        torch.save({'global_step': step, 'epoch': 0, 'state_dict': model, 'callbacks': {}}, file)
        (directory / 'last.ckpt').unlink(missing_ok=True)
        (directory / 'last.ckpt').symlink_to(file.name)
    elif layout == 'hf':
        for name in (f'checkpoint-{step}', f'tmp-checkpoint-{step + 10}'):
            (directory / name).mkdir()
            save_file(state, directory / name / 'model.safetensors')
            torch.save({}, directory / name / 'optimizer.pt')
            (directory / name / 'trainer_state.json').write_text(json.dumps({'global_step': step}))
    elif layout == 'torchscript':
        from make_bad_input import Net
        net = Net().eval()
        net.load_state_dict(state)
        torch.jit.script(net).save(str(directory / f'net-{step}.pt'))
for directory in (pathlib.Path('target'), pathlib.Path('baseline')):
    for file in sorted(directory.glob('step-*.safetensors')):
        state = load_file(file)
        file.unlink()
        write(directory, int(file.stem[5:]), state)
";

fn configure(bench: &Bench, settings: &str) {
    let of = |name: &str| format!("{{checkpoints: {name}, {settings}}}");
    bench.configure(&[
        ("{checkpoints: target}", &of("target")),
        ("{checkpoints: baseline}", &of("baseline")),
    ]);
}

fn convert(bench: &Bench, layout: &str) {
    bench.python(CONVERT, &[layout, env!("CARGO_MANIFEST_DIR")]);
}

#[test]
fn every_layout_gives_the_pairs_that_safetensors_give() {
    let Some(bench) = Bench::with_steps(&[1, 2, 3]) else { return };
    bench.once().expect(0, &[]);
    let wanted = bench.pairs();
    assert_eq!(wanted.len(), 3);
    for (layout, settings) in [
        ("nested", "layout: torch, steps: 'model_{step}.pt'"),
        ("nested", "layout: torch"),
        ("inside", "layout: torch"),
        ("lightning", "layout: lightning"),
        ("hf", "layout: hf"),
        ("hf", "layout: hf, steps: inside"),
        ("torchscript", "layout: torchscript"),
    ] {
        let bench = Bench::with_steps(&[1, 2, 3]).unwrap();
        convert(&bench, layout);
        configure(&bench, settings);
        bench.once().expect(0, &[]);
        assert_eq!(bench.pairs(), wanted, "{settings}");
        let status = bench.status();
        let counts = (&status["quarantined"], &status["skipped"]);
        assert_eq!(counts, (&json!(0), &json!(0)), "{settings}: {status}");
        bench.assert_no_pins();
    }
}

#[test]
fn another_layout_in_the_directory_is_said() {
    for (layout, settings, parts) in [
        ("hf", "layout: safetensors", ["a directory of Hugging Face", "`layout: hf`"]),
        ("nested", "layout: safetensors", ["a file of `torch.save`", "`layout: torch`"]),
        ("lightning", "layout: hf", ["a Lightning checkpoint", "`layout: lightning`"]),
        ("torchscript", "layout: hf", ["a TorchScript file", "`layout: torchscript`"]),
        (
            "nested",
            "layout: torch, steps: 'net_{step}.pt'",
            ["the pattern `net_{step}.pt`", "`steps`"],
        ),
    ] {
        let Some(bench) = Bench::with_steps(&[1]) else { return };
        convert(&bench, layout);
        configure(&bench, settings);
        bench
            .once()
            .expect(65, &["network: `", "holds no checkpoint of `layout: "])
            .expect(65, &parts);
    }
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    convert(&bench, "nested");
    let mut running = bench.follow();
    running.says("write `layout: torch`");
    assert!(running.is_alive(), "it goes on, and waits for checkpoints");
}

#[test]
fn a_distributed_checkpoint_is_refused_with_its_conversion() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    let save = "\
import pathlib, torch
from torch.distributed import checkpoint
for name in ('target', 'baseline'):
    next(pathlib.Path(name).glob('*.safetensors')).unlink()
    checkpoint.save({'w': torch.zeros(3)}, checkpoint_id=f'{name}/step-1', no_dist=True)";
    bench.python(save, &[]);
    bench.once().expect(65, &["`step-1`", "format_utils dcp_to_torch", "`layout: torch`"]);
}

#[test]
fn a_pinned_directory_is_evaluated_after_its_trainer_has_removed_it() {
    let Some(bench) = Bench::with_steps(&[1, 2]) else { return };
    convert(&bench, "hf");
    configure(&bench, "layout: hf");
    std::fs::rename(bench.path("baseline"), bench.path("away")).unwrap();
    let running = bench.follow();
    let waiting = || bench.rows("SELECT step FROM checkpoint WHERE outcome = 'waiting'").len();
    eventually("both directories are pinned", || waiting() == 2);
    std::fs::remove_dir_all(bench.path("target/checkpoint-1")).unwrap();
    std::fs::remove_dir_all(bench.path("target/checkpoint-2")).unwrap();
    std::fs::rename(bench.path("away"), bench.path("baseline")).unwrap();
    eventually("both pairs are evaluated", || bench.pairs().len() == 2);
    bench.end_training();
    running.finish().expect(0, &[]);
    bench.assert_no_pins();
}

#[test]
fn an_incomplete_directory_waits_for_its_shard() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    convert(&bench, "hf");
    configure(&bench, "layout: hf");
    let weights = bench.path("target/checkpoint-1/model.safetensors");
    let shard = bench.path("target/checkpoint-1/model-00001-of-00001.safetensors");
    std::fs::rename(&weights, bench.path("late")).unwrap();
    let index = json!({"weight_map": {"first.weight": "model-00001-of-00001.safetensors"}});
    let file = bench.path("target/checkpoint-1/model.safetensors.index.json");
    std::fs::write(file, index.to_string()).unwrap();
    let mut running = bench.follow();
    running.says("quarantined: lacks `model-00001-of-00001.safetensors`, which");
    assert!(bench.pairs().is_empty());
    std::fs::rename(bench.path("late"), &shard).unwrap();
    // A scan of the directory above sees it; such an event comes with every new checkpoint.
    std::fs::create_dir(bench.path("target/checkpoint-2")).unwrap();
    eventually("the pair is evaluated", || bench.pairs().len() == 1);
    bench.end_training();
    running.finish().expect(0, &[]);
}

#[test]
fn ten_thousand_files_a_thousand_of_them_damaged_hide_no_checkpoint() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    convert(&bench, "nested");
    configure(&bench, "layout: torch");
    for number in 0..9_000 {
        std::fs::write(bench.path(&format!("target/event.{number}")), "x").unwrap();
    }
    for number in 0..1_000 {
        std::fs::write(bench.path(&format!("target/broken-{}.pt", 100 + number)), "x").unwrap();
    }
    bench.once().expect(0, &[]);
    assert_eq!(bench.pairs().len(), 1);
    assert_eq!(bench.status()["quarantined"], json!(1_000));
}

#[test]
fn a_bomb_costs_no_memory_and_no_other_checkpoint() {
    let Some(bench) = Bench::with_steps(&[1]) else { return };
    convert(&bench, "nested");
    configure(&bench, "layout: torch");
    bench.once().expect(0, &[]);
    let usual = bench.peak_memory(&["run", "--once", "-c", "run.yaml"]);
    let bombs = "\
import struct, zipfile
source = zipfile.ZipFile('target/model_1.pt')
def archive(name, pickle, method):
    with zipfile.ZipFile(name, 'w', method) as out:
        for entry in source.namelist():
            out.writestr(entry, pickle if entry.endswith('data.pkl') else source.read(entry))
archive('target/model_2.pt', b'N' * (16 << 20), zipfile.ZIP_STORED)
archive('target/model_3.pt', bytes(3 << 30), zipfile.ZIP_DEFLATED)
open('target/model_4.pt', 'wb').write(bytes.fromhex('80028a0a6cfc9c46f9206aa850192e80024de9032e') + b'N' * (64 << 20))";
    bench.python(bombs, &[]);
    let peak = bench.peak_memory(&["run", "--once", "-c", "run.yaml"]);
    for (step, reason) in
        [(2, "`limits.objects`"), (3, "has a compressed entry"), (4, "`limits.objects`")]
    {
        let (outcome, found) = bench.checkpoint("target", step);
        assert_eq!(outcome, "quarantined");
        assert_says(&found, &[reason]);
    }
    let more = peak.saturating_sub(usual) >> 20;
    assert!(more < 64, "the bombs cost {more} MiB");
}

#[test]
fn names_that_the_program_does_not_know_are_said_once() {
    let Some(bench) = Bench::with_steps(&[1, 2]) else { return };
    let add = "\
import pathlib, torch
from safetensors.torch import load_file, save_file
for file in pathlib.Path('target').glob('*.safetensors'):
    save_file({**load_file(file), 'teacher.weight': torch.zeros(2)}, file)";
    bench.python(add, &[]);
    let finished = bench.once();
    finished.expect(0, &["does not use: `teacher.weight`"]);
    assert_eq!(finished.err.matches("teacher.weight").count(), 1, "{}", finished.err);
    assert_eq!(bench.pairs().len(), 2);
}

#[test]
fn mistakes_of_these_settings_are_reported_together() {
    let Some(bench) = Bench::empty() else { return };
    bench.configure(&[
        ("{checkpoints: target}", "{checkpoints: target, layout: lightnin}"),
        ("{checkpoints: baseline}", "{checkpoints: baseline, steps: insde}"),
        ("interactions:", "limits: {checkpoint: 0GiB, header: 16}\ninteractions:"),
    ]);
    let finished = bench.command(&["check", "-c", "run.yaml"]);
    finished.expect(
        64,
        &[
            "`networks.target.layout`: unknown variant `lightnin`",
            "did you mean `lightning`?",
            "`networks.baseline.steps`: is `insde`",
            "did you mean `inside`?",
            "`limits.header`: invalid type: integer `16`, expected a size with its unit",
            "`limits.checkpoint`: is 0, so that every checkpoint would be refused",
        ],
    );
    bench.configure(&[("{checkpoints: target}", "{checkpoints: target, steps: inside}")]);
    let finished = bench.command(&["check", "-c", "run.yaml"]);
    finished.expect(64, &["`layout: safetensors` do not tell their step"]);
}
