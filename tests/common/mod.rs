//! What several test programs need: Python of the virtual environment, and what it makes.
// Each test program uses a part of this.
#![allow(dead_code, clippy::print_stderr)]

pub(crate) mod disk;
pub(crate) mod process;
pub(crate) mod scrape;

use convergd::evaluation::DeviceChoice;
use convergd::network::device::cuda_devices;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Python of the virtual environment, which need not be there.
pub(crate) fn python_path() -> PathBuf {
    root().join(".venv/bin/python")
}

/// Whether there is a Python for the tests that need one; says so where there is none, or fails where `make test`
/// has just made it.
pub(crate) fn has_python() -> bool {
    let found = python_path().exists();
    if !found {
        let is_made = std::env::var_os("CONVERGD_TEST_PYTHON").is_some();
        assert!(!is_made, "there is no {}", python_path().display());
        eprintln!("skipped: there is no {}; `make setup` makes it", python_path().display());
    }
    found
}

/// Python that finds this repository's own package, and looks for nothing in the network.
pub(crate) fn python() -> Command {
    let mut command = Command::new(python_path());
    command.env("PYTHONPATH", root().join("python"));
    command.env("HF_HUB_OFFLINE", "1").env("OMP_WAIT_POLICY", "PASSIVE");
    command
}

/// The devices that networks are compared with PyTorch on: the CPU, and the first CUDA device where there is
/// one; says so where there is none.
pub(crate) fn devices() -> Vec<DeviceChoice> {
    let cuda = cuda_devices();
    if cuda == 0 {
        eprintln!("skipped on CUDA: libtorch sees no device");
    }
    [DeviceChoice::Cpu].into_iter().chain((cuda > 0).then_some(DeviceChoice::Cuda(0))).collect()
}

/// A script of `tests/fixtures`.
pub(crate) fn script(name: &str) -> Command {
    let mut command = python();
    command.arg(root().join("tests/fixtures").join(name));
    command
}

/// Runs a command to its end, which must be a good one; gives its standard output.
#[track_caller]
pub(crate) fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {message}");
    String::from_utf8(output.stdout).unwrap()
}

/// Where this process keeps fixtures of a name: one a process, since two may run at a time. What ended
/// processes have left is removed.
pub(crate) fn own_directory(name: &str) -> PathBuf {
    let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    for entry in std::fs::read_dir(&all).into_iter().flatten().flatten() {
        if !Path::new("/proc").join(entry.file_name()).exists() {
            // Another process may be removing it too.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    all.join(std::process::id().to_string())
}
