//! Log lines on standard error, as text or JSON.

use convergd_core::cli::progress::Progress;
use convergd_core::cli::run::LogFormat;
use convergd_core::convergence::Monitor;
use std::fmt::{self, Debug};
use std::io::{self, IsTerminal, Write};
use tracing::field::{Field, Visit};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FormatFields, MakeWriter};

/// Starts logging: what `RUST_LOG` asks for, or from `info` on. Lines make room for themselves beside a bar.
pub(super) fn start(format: LogFormat, progress: Progress) {
    let filter =
        EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,notify=off"));
    // The address of a webhook may be a secret, and these print it.
    let silenced = ["ureq=off", "ureq_proto=off"].into_iter().filter_map(|off| off.parse().ok());
    let filter = silenced.fold(filter, EnvFilter::add_directive);
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_writer(Beside(progress));
    // A second subscriber in one process is refused; the first one serves.
    let _ = match format {
        LogFormat::Text => lines.with_ansi(is_coloured()).fmt_fields(Figures).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).with_ansi(false).try_init(),
    };
}

/// On a terminal, unless `NO_COLOR` is set and not empty (no-color.org).
fn is_coloured() -> bool {
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stderr().is_terminal() && !is_plain
}

/// Standard error, beside a bar.
struct Beside(Progress);

impl MakeWriter<'_> for Beside {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        Line(self.0.clone())
    }
}

/// One line; it comes in one piece.
struct Line(Progress);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.beside(|| io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Fields of a line of text: the message, then what it does not say already, numbers with few digits.
struct Figures;

impl<'writer> FormatFields<'writer> for Figures {
    fn format_fields<R: RecordFields>(
        &self,
        mut writer: Writer<'writer>,
        fields: R,
    ) -> fmt::Result {
        let mut said = Said::default();
        fields.record(&mut said);
        let reason = said.reason.filter(|reason| !said.message.contains(reason.as_str()));
        said.fields.extend(reason.map(|reason| format!("reason={reason:?}")));
        let message = (!said.message.is_empty()).then_some(said.message);
        let parts: Vec<String> = message.into_iter().chain(said.fields).collect();
        // What comes from files and names may hold codes for the terminal.
        for character in parts.join(" ").chars() {
            match character.is_control() && character != '\n' && character != '\t' {
                true => write!(writer, "{}", character.escape_default())?,
                false => writer.write_char(character)?,
            }
        }
        Ok(())
    }
}

/// What is in a line.
#[derive(Default)]
struct Said {
    message: String,
    /// Told where the message does not tell it.
    reason: Option<String>,
    fields: Vec<String>,
}

impl Said {
    /// Of the monitors a line of text has the chief ones; JSON has all.
    fn add(&mut self, field: &Field, value: &str) {
        let name = field.name();
        let is_hidden =
            Monitor::ALL.iter().any(|m| m.name() == name && !Monitor::CHIEF.contains(m));
        if !is_hidden {
            self.fields.push(format!("{name}={value}"));
        }
    }
}

impl Visit for Said {
    fn record_f64(&mut self, field: &Field, value: f64) {
        let text = match value.abs() {
            0.0 => "0".to_owned(),
            size if (1e-3..1e6).contains(&size) => format!("{value:.4}"),
            _ => format!("{value:.1e}"),
        };
        self.add(field, &text);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "reason" => self.reason = Some(value.to_owned()),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            _ => self.add(field, &format!("{value:?}")),
        }
    }
}
