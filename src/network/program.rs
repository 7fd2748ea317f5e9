//! A TorchScript program: `features` up to the split layer, `head` from there to the logits.

use super::placement::Placement;
use super::{Context, Device, NetworkError, Probe, device, first_lines, memory};
use crate::failpoint;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tch::{CModule, IValue, TchError, Tensor};

/// What to try where a file is no program.
const WRITE_IT: &str = "write it with `convergd.export_program`";
/// Newest version of `attach_meta` that is understood. Programs of the first hold the device and the flags of
/// cuDNN that they were traced with.
const NEWEST_FORMAT: u64 = 2;

/// What `attach_meta()` tells; all of it may be absent.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Meta {
    format: Option<u64>,
    prefix: String,
    /// Tensors of the probe that the methods take, `inputs` first.
    inputs: Vec<String>,
}

/// A loaded program on its device.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    module: CModule,
    /// Whether the file has `features` and `head`; otherwise `forward`, masked at its input.
    is_split: bool,
    /// Parameters and buffers, by the names that checkpoints use.
    parameters: Vec<(String, Tensor)>,
    /// Names of the inputs after the first.
    further: Vec<String>,
    digest: blake3::Hash,
    device: tch::Device,
    placement: Placement,
    /// Rows that have gone through the head.
    rows: Arc<AtomicU64>,
}

impl Program {
    /// Loads a file and tries it on the first sample of a probe.
    ///
    /// # Errors
    /// A file that is no TorchScript, lacks the methods, or does not take the sample; a probe
    /// without an input that the program takes.
    pub fn load(path: &Path, device: Device, probe: &Probe) -> Result<Self, NetworkError> {
        let refuse = |message: String| NetworkError::Program { path: path.to_owned(), message };
        let bytes = std::fs::read(path)
            .map_err(|error| refuse(format!("cannot be read: {error}; {WRITE_IT}")))?;
        let mut module = load(&bytes, device).map_err(|error| {
            let said = first_lines(&error);
            if memory::is_exhausted(&said) {
                return NetworkError::Memory { device: device.to_string(), message: said };
            }
            // What can be loaded without the device is not to blame.
            match CModule::load_data_on_device(&mut bytes.as_slice(), tch::Device::Cpu) {
                Ok(_) => NetworkError::Torch {
                    context: format!("{device} does not take program `{}`", path.display()),
                    message: said,
                },
                Err(_) => refuse(format!("is no complete TorchScript file: {said}; {WRITE_IT}")),
            }
        })?;
        module.set_eval();
        let meta = read_meta(&module).map_err(&refuse)?;
        check_settled(&meta, path, device).map_err(&refuse)?;
        let parameters = named_parameters(&module, &meta.prefix).map_err(&refuse)?;
        let tensors: Vec<Tensor> =
            parameters.iter().map(|(_, tensor)| tensor.shallow_clone()).collect();
        let placement = Placement::new(&tensors, device.0)?;
        let mut program = Self {
            path: path.to_owned(),
            module,
            is_split: true,
            parameters,
            further: meta.inputs.into_iter().skip(1).collect(),
            digest: blake3::hash(&bytes),
            device: device.0,
            placement,
            rows: Arc::default(),
        };
        let sample = probe.sample(0, &program.further).map_err(|message| {
            program.refuse(format!("does not fit the probe, which {message}"))
        })?;
        program.try_on(&sample).map_err(|error| error.on(device))?;
        Ok(program)
    }

    fn try_on(&mut self, sample: &[Tensor]) -> Result<(), NetworkError> {
        let sample: Vec<Tensor> =
            sample.iter().map(|tensor| tensor.to_device(self.device)).collect();
        let features = self.features(&sample);
        if features.as_ref().is_err_and(|error| is_missing(error, "features")) {
            self.is_split = false;
        }
        let features = match self.is_split {
            true => features.map_err(|error| self.fails_on(&sample, error))?,
            false => sample[0].shallow_clone(),
        };
        match self.head(&features, &sample[1..]) {
            Ok(logits) if logits.dim() == 2 && logits.size()[0] == 1 && logits.size()[1] >= 2 => Ok(()),
            Ok(logits) if logits.dim() == 3 => Err(self.refuse(format!(
                "gives logits of shape {:?} for one sample; of a language model those of one position \
                 are needed: {WRITE_IT} and `next_token=True`",
                logits.size()
            ))),
            Ok(logits) => Err(self.refuse(format!(
                "gives logits of shape {:?} for one sample; it needs [1, classes] with 2 classes or more",
                logits.size()
            ))),
            Err(error) if is_missing(&error, "head") => {
                Err(self.refuse(format!("has the method `features` but no `head`; {WRITE_IT}")))
            }
            Err(error) if is_missing(&error, "forward") => Err(self.refuse(format!(
                "has neither the methods `features` and `head` nor `forward`; {WRITE_IT}"
            ))),
            Err(error) => Err(self.fails_on(&sample, error)),
        }
    }

    fn fails_on(&self, sample: &[Tensor], error: NetworkError) -> NetworkError {
        let is_of_device = match &error {
            NetworkError::Torch { message, .. } => device::is_failure(message),
            _ => false,
        };
        if error.lacks_memory() || is_of_device {
            return error;
        }
        let reason = match error {
            NetworkError::Torch { message, .. } => message.clone(),
            other => other.to_string(),
        };
        self.refuse(format!(
            "fails on a probe sample of shape {:?} and type {:?}: {reason}; {WRITE_IT} and inputs \
             like the probe's",
            sample[0].size(),
            sample[0].kind()
        ))
    }

    fn refuse(&self, message: String) -> NetworkError {
        NetworkError::Program { path: self.path.clone(), message }
    }

    /// Brings the weights to the device; after [`load`](Self::load) they are there.
    ///
    /// # Errors
    /// A device that fails, or has not enough memory.
    pub fn go(&mut self) -> Result<(), NetworkError> {
        self.placement.go()
    }

    /// Keeps the weights in the memory of the host until the device is at work again.
    ///
    /// # Errors
    /// libtorch's.
    pub fn come_home(&mut self) -> Result<(), NetworkError> {
        self.placement.come_home()
    }

    /// Names of the inputs after the first, as the probe has them.
    pub fn further(&self) -> &[String] {
        &self.further
    }

    /// The features h at the split layer of inputs, the first and the further ones, [B, …] each.
    pub fn features(&self, inputs: &[Tensor]) -> Result<Tensor, NetworkError> {
        if !self.is_split {
            return Ok(inputs[0].shallow_clone());
        }
        let result = tch::no_grad(|| self.module.method_ts("features", inputs));
        result.context(|| format!("`features` of program `{}`", self.path.display()))
    }

    /// Rows that have gone through the head, for whoever looks on from another thread.
    pub fn rows(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.rows)
    }

    /// The logits [B, classes] of features h [B, …] and the further inputs [B, …].
    pub fn head(&self, features: &Tensor, further: &[Tensor]) -> Result<Tensor, NetworkError> {
        let inputs: Vec<&Tensor> = std::iter::once(features).chain(further).collect();
        let method = if self.is_split { "head" } else { "forward" };
        let result = tch::no_grad(|| match self.is_split {
            true => self.module.method_ts(method, &inputs),
            false => self.module.forward_ts(&inputs),
        });
        if result.is_ok() {
            let rows = features.size().first().map_or(0, |rows| rows.unsigned_abs());
            self.rows.fetch_add(rows, Ordering::Relaxed);
        }
        result.context(|| format!("`{method}` of program `{}`", self.path.display()))
    }

    /// Parameters and buffers by the names that checkpoints use.
    pub fn parameters(&self) -> &[(String, Tensor)] {
        &self.parameters
    }

    /// Hash of the file.
    pub fn digest(&self) -> blake3::Hash {
        self.digest
    }
}

fn load(mut bytes: &[u8], device: Device) -> Result<CModule, TchError> {
    if failpoint::fails("device-load") {
        return Err(TchError::Torch("CUDA error: a test lets it fail".to_owned()));
    }
    CModule::load_data_on_device(&mut bytes, device.0)
}

fn is_missing(error: &NetworkError, method: &str) -> bool {
    let NetworkError::Torch { message, .. } = error else { return false };
    message.contains(&format!("'{method}'")) && message.contains("is not defined")
}

fn read_meta(module: &CModule) -> Result<Meta, String> {
    // A program without metadata is a plain one: no prefix.
    let Ok(IValue::String(text)) = module.method_is::<IValue>("attach_meta", &[]) else {
        return Ok(Meta::default());
    };
    let meta: Meta = serde_json::from_str(&text)
        .map_err(|error| format!("has metadata that cannot be read: {error}"))?;
    match meta.format {
        Some(format) if format > NEWEST_FORMAT => Err(format!(
            "was written by a newer exporter (format {format}, this convergd reads {NEWEST_FORMAT}); \
             update convergd"
        )),
        _ => Ok(meta),
    }
}

/// On a GPU a program must not hold what the machine that traced it was set to.
fn check_settled(meta: &Meta, path: &Path, device: Device) -> Result<(), String> {
    match meta.format {
        _ if device.is_cpu() => Ok(()),
        Some(format) if format < NEWEST_FORMAT => Err(
            "was written by an older exporter, whose convolutions are in TF32 on a GPU; export it again, or take \
             the device `cpu`"
                .to_owned(),
        ),
        Some(_) => Ok(()),
        None => {
            tracing::warn!(
                program = %path.display(),
                "not written by `convergd.export_program`: convolutions take TF32 and tensors their device from \
                 where it was traced, whatever `compute` says"
            );
            Ok(())
        }
    }
}

fn named_parameters(module: &CModule, prefix: &str) -> Result<Vec<(String, Tensor)>, String> {
    let all = module.named_parameters().map_err(|error| first_lines(&error))?;
    let plain = |name: String| name.strip_prefix(prefix).map(str::to_owned).unwrap_or(name);
    Ok(all.into_iter().map(|(name, tensor)| (plain(name), tensor)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_a_gpu_a_program_must_not_hold_what_it_was_traced_with() {
        let cuda = Device(tch::Device::Cuda(0));
        let check = |format, device| {
            let meta = Meta { format, ..Meta::default() };
            check_settled(&meta, Path::new("program.ts"), device)
        };
        let error = check(Some(1), cuda).expect_err("refused");
        assert!(error.contains("TF32") && error.contains("export it again"), "{error}");
        for (format, device) in [(Some(2), cuda), (None, cuda), (Some(1), Device::CPU)] {
            check(format, device).expect("taken");
        }
    }
}
