//! What is recognised and not read is refused with what to do about it.

use crate::fixture::{difference, fixture, python, reading};
use convergd::layout::{Layout, Limits};
use std::process::Command;

#[test]
fn another_layout_or_a_module_is_refused_with_what_to_do() {
    let Some(fixture) = fixture() else { return };
    let (good, bad) = (|name| fixture.good(name), |name| fixture.bad(name));
    for (layout, path, part) in [
        (Layout::Torch, bad("module.pt"), "`torch.save(model.state_dict(), …)`"),
        (Layout::Torch, bad("module.pt"), "class `__main__.Net`"),
        (Layout::Torch, bad("module_legacy.pt"), "class `__main__.Net`"),
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

#[test]
fn the_conversion_that_is_named_works() {
    let Some(fixture) = fixture() else { return };
    let directory = tempfile::tempdir().unwrap();
    let converted = directory.path().join("step-7.pt");
    let command = Command::new(python())
        .args(["-m", "torch.distributed.checkpoint.format_utils", "dcp_to_torch"])
        .args([&fixture.bad("dcp/step-7"), &converted])
        .status();
    assert!(command.unwrap().success());
    let networks = fixture.worker("program.ts", reading(Layout::Torch, None));
    let found = networks.evaluate(&converted).unwrap();
    let error = difference(&found.values, &fixture.rows("values_a"));
    assert!(error <= 1e-4, "off by {error}");
}
