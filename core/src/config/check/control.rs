//! `control:` → [`control::Settings`].

use super::Check;
use crate::config::file;
use crate::control::{self, Ladder, Measure, Rung, Signal};
use std::path::PathBuf;
use std::time::Duration;

const DEFAULT_ACKNOWLEDGE: Duration = Duration::from_secs(300);
const DEFAULT_EXEC: Duration = Duration::from_secs(60);
/// A program that takes longer belongs beside the run, not into its ladder.
const LONGEST_EXEC: Duration = Duration::from_secs(3600);

/// What a ladder may use.
struct Means {
    exec: bool,
    /// Names of the webhooks; nothing where there are mistakes among them.
    webhooks: Option<Vec<String>>,
}

impl Check {
    pub(super) fn control(
        &mut self,
        control: file::Control,
        pid_files: [Option<PathBuf>; 2],
        webhooks: Option<Vec<String>>,
    ) -> Option<control::Settings> {
        let what = "the directory of `control.json`, which the trainers poll";
        let directory = self.path("control.directory", control.directory, what);
        let acknowledge = control.acknowledge.map_or(DEFAULT_ACKNOWLEDGE, |duration| duration.0);
        let means = Means { exec: control.exec.unwrap_or(false), webhooks };
        let escalate = self.ladder(control.escalate.unwrap_or_default(), &means);
        let (directory, escalate) = (directory?, escalate?);
        Some(control::Settings { directory, acknowledge, escalate, pid_files })
    }

    pub(super) fn pid_files(&mut self, networks: &file::Networks) -> [Option<PathBuf>; 2] {
        let file = |network: &Option<file::Network>| {
            network.as_ref().and_then(|network| network.pid_file.clone())
        };
        let files = [file(&networks.target), file(&networks.baseline)];
        let is_fixed = networks.baseline.as_ref().is_some_and(|network| network.fixed.is_some());
        if is_fixed && files[1].is_some() {
            let message = "belongs to a training, but `fixed` is one checkpoint; leave it out";
            self.checked.report("networks.baseline.pid_file", message);
        }
        files.map(|file| file.map(|file| super::join(&self.base, &file)))
    }

    fn ladder(&mut self, files: Vec<Option<file::Rung>>, means: &Means) -> Option<Ladder> {
        let wanted = files.len();
        let mut rungs: Vec<Rung> = Vec::new();
        for (index, file) in files.into_iter().enumerate() {
            let at = format!("control.escalate[{index}]");
            let rung = file.and_then(|file| self.rung(&at, file, means));
            let Some(rung) = rung else { continue };
            if let Some(before) = rungs.last().filter(|before| before.after >= rung.after) {
                let message = format!(
                    "is {:?}, but the rung before it has {:?}; rungs stand by ascending time",
                    rung.after, before.after
                );
                self.checked.report(&format!("{at}.after"), message);
            }
            rungs.push(rung);
        }
        (rungs.len() == wanted).then_some(Ladder { rungs })
    }

    fn rung(&mut self, at: &str, rung: file::Rung, means: &Means) -> Option<Rung> {
        let after = self.required(
            &format!("{at}.after"),
            rung.after,
            "the time since the control file was written, such as `30s`",
        );
        let measure = self.required(
            &format!("{at}.do"),
            rung.r#do,
            "what is done then, such as `{signal: {name: SIGUSR2}}`",
        );
        let measure = measure.and_then(|measure| self.measure(&format!("{at}.do"), measure, means));
        Some(Rung { after: after?.0, measure: measure? })
    }

    fn measure(&mut self, at: &str, measure: file::Measure, means: &Means) -> Option<Measure> {
        match measure {
            file::Measure::Signal(file::SignalMeasure { name, group }) => {
                let what = "the name of a signal, such as `SIGTERM`";
                let signal = self.required(&format!("{at}.signal.name"), name, what)?;
                let (signal, group) = (named(signal), group.unwrap_or(false));
                if group && signal.is_nudge() {
                    let message = format!(
                        "is `true`, but {} would end every process of the group that does not handle it; leave \
                         `group` out, and the trainer alone gets it",
                        signal.name()
                    );
                    self.checked.report(&format!("{at}.signal.group"), message);
                }
                Some(Measure::Signal { signal, group })
            }
            file::Measure::Webhook(file::WebhookMeasure { name }) => {
                let at = format!("{at}.webhook.name");
                let name = self.required(&at, name, "the name of a webhook under `notify`")?;
                let known = means.webhooks.as_ref();
                if let Some(known) = known.filter(|known| !known.contains(&name)) {
                    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                    let message = format!("is `{name}`, but `notify` has {known}");
                    self.checked.report(&at, message);
                }
                Some(Measure::Webhook { name })
            }
            file::Measure::Exec(file) => self.exec(&format!("{at}.exec"), file, means.exec),
        }
    }

    fn exec(&mut self, at: &str, file: file::ExecMeasure, exec: bool) -> Option<Measure> {
        if !exec {
            let message = "runs a program, which is off by default; allow it with `control.exec: true`, or take \
                           this rung out";
            self.checked.report(at, message);
            return None;
        }
        let command = file.command.filter(|command| command.first().is_some_and(|p| !p.is_empty()));
        let what = "the program and its arguments as a list, such as `[scancel, \"123\"]`";
        let command = self.required(&format!("{at}.command"), command, what)?;
        let timeout = file.timeout.map_or(DEFAULT_EXEC, |timeout| timeout.0);
        if timeout.is_zero() || timeout > LONGEST_EXEC {
            let message =
                format!("is {timeout:?}, but must be above 0 and at most {LONGEST_EXEC:?}");
            self.checked.report(&format!("{at}.timeout"), message);
        }
        Some(Measure::Exec { command, timeout })
    }
}

fn named(signal: file::Signal) -> Signal {
    match signal {
        file::Signal::Usr1 => Signal::Usr1,
        file::Signal::Usr2 => Signal::Usr2,
        file::Signal::Hup => Signal::Hup,
        file::Signal::Int => Signal::Int,
        file::Signal::Term => Signal::Term,
        file::Signal::Kill => Signal::Kill,
    }
}
