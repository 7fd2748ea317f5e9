//! The two programs: how `convergd` finds `convergd-torch` and libtorch, however it is called.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const CONVERGD: &str = env!("CARGO_BIN_EXE_convergd");

/// A command with nothing of this process's environment but PATH.
fn command(program: impl AsRef<Path>, path: &str) -> Command {
    let mut command = Command::new(program.as_ref());
    command.env_clear().env("PATH", path).env("OMP_WAIT_POLICY", "PASSIVE").arg("doctor");
    command
}

fn said(command: &mut Command) -> (i32, String) {
    let Output { status, stdout, stderr } = command.output().expect("started");
    let text = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    (status.code().expect("no signal"), text)
}

/// The libtorch that these programs were compiled with.
fn built_against() -> PathBuf {
    let (code, text) = said(&mut command(CONVERGD, "/usr/bin:/bin"));
    assert_eq!(code, 0, "{text}");
    let line = text.lines().find(|line| line.starts_with("ok    libtorch: ")).expect("named");
    let file = PathBuf::from(line.trim_start_matches("ok    libtorch: "));
    file.parent().expect("a directory").to_owned()
}

#[test]
fn links_are_followed_by_path_and_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let bin = directory.path().join("a bin");
    std::fs::create_dir(&bin).unwrap();
    let link = bin.join("convergd");
    symlink(CONVERGD, &link).unwrap();
    let by_path = said(&mut command(&link, "/usr/bin:/bin"));
    assert_eq!(by_path.0, 0, "{}", by_path.1);
    // As a shell does it: the name alone.
    let mut shell = Command::new("/bin/sh");
    let path = format!("{}:/usr/bin:/bin", bin.display());
    shell.env_clear().env("PATH", path).args(["-c", "convergd doctor"]);
    let by_name = said(&mut shell);
    assert_eq!(by_name.0, 0, "{}", by_name.1);
}

#[test]
fn the_program_beside_a_copy_is_looked_for_and_its_places_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("convergd");
    std::fs::copy(CONVERGD, &copy).unwrap();
    let beside = directory.path().join("convergd-torch");
    // `doctor` says so and does the rest; `run` cannot do without.
    let (code, text) = said(&mut command(&copy, "/usr/bin:/bin"));
    assert_eq!(code, 69, "{text}");
    let missing = format!("looked for `{}`", beside.display());
    assert!(text.contains("BAD   libtorch") && text.contains(&missing), "{text}");
    assert!(text.contains("inotify"), "{text}");
    // There, and no program.
    std::fs::write(&beside, "no program").unwrap();
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (code, text) = said(&mut command(&copy, "/usr/bin:/bin"));
    assert_eq!(code, 69, "{text}");
    assert!(text.contains("cannot be started"), "{text}");
}

#[test]
fn a_configuration_with_mistakes_is_told_before_libtorch_is_looked_for() {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("convergd");
    std::fs::copy(CONVERGD, &copy).unwrap();
    let mut run = Command::new(&copy);
    run.env_clear().args(["run", "-c", "/nowhere/run.yaml"]);
    let (code, text) = said(&mut run);
    assert_eq!(code, 64, "{text}");
    assert!(text.contains("/nowhere/run.yaml"), "{text}");
}

#[test]
fn the_libtorch_that_is_given_is_the_one_that_is_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let libraries = built_against();
    let given = directory.path().join("torch");
    std::fs::create_dir(&given).unwrap();
    symlink(&libraries, given.join("lib")).unwrap();
    // A version file of its own: what lies behind the link has one too.
    std::fs::write(given.join("version.py"), "__version__ = '2.11.9'\n").unwrap();
    let (code, text) = said(command(CONVERGD, "/usr/bin:/bin").env("LIBTORCH", &given));
    assert_eq!(code, 0, "{text}");
    // Not the one that was compiled in: it is damaged, and the loader says so.
    let junk = directory.path().join("junk");
    std::fs::create_dir_all(junk.join("lib")).unwrap();
    std::fs::write(junk.join("lib/libtorch_cpu.so"), "no library").unwrap();
    let (code, text) = said(command(CONVERGD, "/usr/bin:/bin").env("LIBTORCH", &junk));
    assert_ne!(code, 0, "{text}");
    assert!(text.contains("libtorch_cpu.so"), "{text}");
    let nowhere = directory.path().join("nowhere");
    let (code, text) = said(command(CONVERGD, "/usr/bin:/bin").env("LIBTORCH", &nowhere));
    assert_eq!(code, 0, "{text}");
    let warning = format!("warning: LIBTORCH is `{}`, which holds no", nowhere.display());
    assert!(text.contains(&warning), "{text}");
}

/// That it is given back to programs of the ladder is tested there.
#[test]
fn the_library_path_is_told_and_the_former_one_beside_it() {
    let directory = tempfile::tempdir().unwrap();
    let probe = directory.path().join("convergd-torch");
    let copy = directory.path().join("convergd");
    std::fs::copy(CONVERGD, &copy).unwrap();
    std::fs::write(
        &probe,
        "#!/bin/sh\necho \"now=$LD_LIBRARY_PATH former=$CONVERGD_FORMER_LD_LIBRARY_PATH\"\n",
    )
    .unwrap();
    std::fs::set_permissions(&probe, std::fs::Permissions::from_mode(0o755)).unwrap();
    let libraries = built_against();
    let (code, text) = said(command(&copy, "/usr/bin:/bin").env("LD_LIBRARY_PATH", "/opt/one:"));
    assert_eq!(code, 0, "{text}");
    let wanted = format!("now={}:/opt/one former=/opt/one:\n", libraries.display());
    assert_eq!(text, wanted);
}
