//! Where networks are evaluated, and what that may take from a training beside it.

use super::Check;
use crate::config::file;
use crate::evaluation::{DeviceChoice, IoPriority, MEMORY_SHARE, Precision, Priority};
use std::fmt::Display;
use std::str::FromStr;

const MOST_DEVICES: usize = 64;

/// What `compute` says.
pub(super) struct Compute {
    pub(super) devices: Vec<DeviceChoice>,
    pub(super) precision: Precision,
    pub(super) threads: usize,
    pub(super) batch: Option<usize>,
    pub(super) memory: f64,
    pub(super) priority: Priority,
}

impl Check {
    pub(super) fn compute(&mut self, file: file::Compute) -> Option<Compute> {
        let devices = self.devices(file.device, file.devices);
        let precision = self.named("compute.precision", file.precision, Precision::default());
        let threads = self.count("compute.threads", file.threads, 1..=1024, 1);
        let batch = match file.batch {
            None => Some(None),
            given => self.count("compute.batch", given, 1..=1 << 20, 1).map(Some),
        };
        let memory = file.memory.map(|file::Factor(share)| share);
        let memory = match memory {
            // It may have been written either way.
            Some(share) if share > 1.0 && share.is_finite() => {
                let percent = (1e4 * share).round() / 1e2;
                let message = format!(
                    "is {share} (`{percent}%`), but must lie above 0, at most 1 (`100%`), such as `50%`"
                );
                self.checked.report("compute.memory", message);
                None
            }
            memory => self.number("compute.memory", memory, f64::MIN_POSITIVE..=1.0, MEMORY_SHARE),
        };
        let usual = Priority::default();
        let nice = self.count("compute.nice", file.nice, 0..=19, usize::from(usual.nice));
        let nice = nice.and_then(|nice| u8::try_from(nice).ok());
        let io: Option<IoPriority> = self.named("compute.io", file.io, usual.io);
        Some(Compute {
            devices: devices?,
            precision: precision?,
            threads: threads?,
            batch: batch?,
            memory: memory?,
            priority: Priority { nice: nice?, io: io? },
        })
    }

    fn devices(
        &mut self,
        device: Option<file::OneDevice>,
        devices: Option<Vec<String>>,
    ) -> Option<Vec<DeviceChoice>> {
        let device = device.map(|file::OneDevice::Name(name)| name);
        let Some(devices) = devices else {
            return self.named("compute.device", device, DeviceChoice::Auto).map(|one| vec![one]);
        };
        let at = "compute.devices";
        if device.is_some() {
            // Not at `devices`, so that a mistake in one of them is said too.
            let message = "stands beside `devices`; take the one or the other";
            self.checked.report("compute.device", message);
        }
        if devices.is_empty() || devices.len() > MOST_DEVICES {
            let count = devices.len();
            self.checked.report(at, format!("has {count} devices; name 1 to {MOST_DEVICES}"));
            return None;
        }
        let mut choices = Vec::new();
        for (index, device) in devices.iter().enumerate() {
            let at = format!("{at}[{index}]");
            let choice: DeviceChoice = self.parsed(&at, device)?;
            if devices.len() > 1 && choice == DeviceChoice::Auto {
                self.checked.report(&at, "is `auto` among several; name each, such as `cuda:0`");
                return None;
            }
            let is_cpu = |choice: &DeviceChoice| *choice == DeviceChoice::Cpu;
            if choices.first().is_some_and(|first| is_cpu(first) != is_cpu(&choice)) {
                let message = format!(
                    "is `{device}`, but the first is `{}`: their values differ by rounding; take devices of one kind",
                    devices[0]
                );
                self.checked.report(&at, message);
                return None;
            }
            if !is_cpu(&choice) && choices.contains(&choice) {
                self.checked.report(&at, format!("is `{device}`, which is there already"));
                return None;
            }
            choices.push(choice);
        }
        Some(choices)
    }

    /// A value that is written as its name.
    fn named<T>(&mut self, at: &str, text: Option<String>, usual: T) -> Option<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        match text {
            Some(text) => self.parsed(at, &text),
            None => Some(usual),
        }
    }

    fn parsed<T>(&mut self, at: &str, text: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.checked.report(at, format!("is `{text}`; {error}"));
                None
            }
        }
    }
}
