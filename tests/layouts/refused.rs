//! What is recognised and not read is refused with what to do about it.

use crate::common;
use crate::fixture::{Fixture, difference, fixture, reading};
use convergd::layout::{Found, Layout, Limits, recognise};
use std::path::Path;

#[test]
fn another_layout_or_a_module_is_refused_with_what_to_do() {
    let Some(fixture) = fixture() else { return };
    let (good, bad) = (|name| fixture.good(name), |name| fixture.bad(name));
    for (layout, path, part) in [
        (Layout::Torch, bad("module.pt"), "`torch.save(model.state_dict(), …)`"),
        (Layout::Torch, bad("module.pt"), "class `small_net.Net`"),
        (Layout::Torch, bad("module_legacy.pt"), "class `small_net.Net`"),
        (Layout::Torch, bad("evil_top.pt"), "class `posix.system`"),
        (Layout::Torch, good("traced-7.pt"), "write `layout: torchscript`"),
        (Layout::Torch, good("checkpoint-7/model.safetensors"), "write `layout: safetensors`"),
        (Layout::Torch, good("checkpoint-7/config.json"), "is no file of `torch.save`"),
        (Layout::Lightning, good("nested.pth"), "write `layout: torch`"),
        (Layout::Lightning, good("scripted-7.pt"), "write `layout: torchscript`"),
        (Layout::Torchscript, good("plain.pt"), "write `layout: torch`"),
        (Layout::Torchscript, good("last.ckpt"), "write `layout: lightning`"),
        (Layout::Torchscript, good("legacy.pt"), "write `layout: torch`"),
        (Layout::Safetensors, good("plain.pt"), "is no safetensors file"),
        (Layout::Hf, bad("dcp/step-7"), "torch.distributed.checkpoint.format_utils dcp_to_torch"),
        (Layout::Hf, bad("orbax/7"), "of Orbax"),
        (Layout::Hf, bad("dcp"), "holds neither `model.safetensors`"),
    ] {
        let found = layout.check(&path, &Limits::default());
        let message = found.expect_err(&path.display().to_string()).to_string();
        assert!(message.contains(part), "{}: {message}", path.display());
    }
    let list = Layout::Torch.open(&bad("list.pt"), &Limits::default());
    let message = list.expect_err("no dict").to_string();
    assert!(message.contains("Expected a dictionary"), "{message}");
}

/// Runs Python in the place of the user, who has the class of the network.
fn python(code: &str, arguments: &[&Path]) {
    let packages = [common::root().join("python"), common::root().join("tests/fixtures")];
    let mut command = common::python();
    command.env("PYTHONPATH", std::env::join_paths(packages).unwrap());
    common::succeed(command.args(["-c", code]).args(arguments));
}

/// A converted checkpoint gives the values of the network that was saved.
fn assert_is_network_a(fixture: &Fixture, converted: &Path) {
    let networks = fixture.evaluator("program.ts", reading(Layout::Torch, None));
    let found = networks.evaluate(converted).unwrap();
    let error = difference(&found.values, &fixture.rows("values_a"));
    assert!(error <= 1e-4, "off by {error}");
}

/// The command in a refusal, between backticks, behind some words.
fn advice<'a>(message: &'a str, behind: &str) -> &'a str {
    let (_, rest) = message.split_once(behind).unwrap();
    rest.split('`').nth(1).unwrap()
}

#[test]
fn the_conversion_of_a_distributed_checkpoint_works_as_it_is_named() {
    let Some(fixture) = fixture() else { return };
    let directory = tempfile::tempdir().unwrap();
    let (source, converted) = (fixture.bad("dcp/step-7"), directory.path().join("step-7.pt"));
    let message = Layout::Hf.check(&source, &Limits::default()).unwrap_err().to_string();
    let mut words = advice(&message, "convert it with").split(' ');
    assert_eq!(words.next(), Some("python"));
    let mut command = common::python();
    command.args(words.map(|word| match word {
        "DIRECTORY" => source.clone().into_os_string(),
        "step-N.pt" => converted.clone().into_os_string(),
        word => word.into(),
    }));
    common::succeed(&mut command);
    assert_is_network_a(fixture, &converted);
}

#[test]
fn the_conversion_of_a_pickled_module_works_as_it_is_named() {
    let Some(fixture) = fixture() else { return };
    let directory = tempfile::tempdir().unwrap();
    for name in ["module.pt", "module_legacy.pt"] {
        let source = fixture.bad(name);
        let message = Layout::Torch.check(&source, &Limits::default()).unwrap_err().to_string();
        let advice = advice(&message, "save its weights alone:");
        assert_eq!(advice, "torch.save(model.state_dict(), …)");
        let converted = directory.path().join(name);
        let code = format!(
            "import sys, torch\nmodel = torch.load(sys.argv[1], weights_only=False)\n{}",
            advice.replace('…', "sys.argv[2]")
        );
        python(&code, &[&source, &converted]);
        assert_is_network_a(fixture, &converted);
    }
}

/// Directories as versions of Orbax leave them, made by hand: its packages need jax.
#[test]
fn a_directory_of_orbax_is_recognised_by_what_stands_in_it() {
    let directory = tempfile::tempdir().unwrap();
    for (version, names) in [
        ("old", &["commit_success.txt", "checkpoint"][..]),
        ("tensorstore", &["_METADATA", "_sharding", "d/", "manifest.ocdbt", "ocdbt.process_0/"]),
        ("handlers", &["_CHECKPOINT_METADATA", "default/", "metrics/"]),
    ] {
        let step = directory.path().join(version).join("7");
        for name in names {
            let path = step.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            match name.strip_suffix('/') {
                Some(name) => std::fs::create_dir(step.join(name)).unwrap(),
                None => std::fs::write(path, "{}").unwrap(),
            }
        }
        assert_eq!(recognise(&step), Some(Found::Orbax), "{version}");
        let message = Layout::Hf.check(&step, &Limits::default()).unwrap_err().to_string();
        assert!(message.contains("is a directory of Orbax"), "{version}: {message}");
        assert!(message.contains("`layout: safetensors`"), "{version}: {message}");
    }
}
