//! The programs of Prometheus.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Where a program is, or nothing, with a word about it.
pub(crate) fn find(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|place| place.join(name)).find(|p| p.is_file());
    if found.is_none() {
        eprintln!(
            "skipped: there is no `{name}`; `apt-get install prometheus prometheus-alertmanager` installs it"
        );
    }
    found
}

/// What promtool says, standard output and error together, and whether it is content.
pub(crate) fn promtool(
    arguments: &[&str],
    directory: &Path,
    input: &str,
) -> Option<(bool, String)> {
    let mut command = Command::new(find("promtool")?);
    command.args(arguments).current_dir(directory);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8(said).unwrap()))
}

/// The same, which must be content.
#[track_caller]
pub(crate) fn promtool_agrees(arguments: &[&str], directory: &Path, input: &str) -> Option<String> {
    let (is_content, said) = promtool(arguments, directory, input)?;
    assert!(is_content, "promtool {arguments:?}:\n{said}");
    Some(said)
}
