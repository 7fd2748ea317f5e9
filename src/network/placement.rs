//! Where the weights of a program lie: on a GPU only while it is at work there.
//!
//! A sidecar waits most of the time, beside a training that wants the GPU's memory. So the weights have their home in
//! the memory of the host, where checkpoints are copied into them, and are on the device for as long as a checkpoint
//! is evaluated. On a CPU both are the same.

use super::{Context, NetworkError};
use std::collections::HashMap;
use tch::{Device, Tensor};

/// The tensors of a module, and their homes.
#[derive(Debug)]
pub(super) struct Placement {
    device: Device,
    /// Tensor and home by home; tied tensors share one.
    homes: Vec<(Vec<Tensor>, Tensor)>,
    is_home: bool,
}

/// What tells tied tensors: the place, shape and strides of the data.
type Place = (usize, Vec<i64>, Vec<i64>);

impl Placement {
    /// For tensors on a device; they stay there for now. Those that share memory without being the same would be torn
    /// apart, so all of them stay where they are for good.
    ///
    /// # Errors
    /// libtorch's.
    pub(super) fn new(tensors: &[Tensor], device: Device) -> Result<Self, NetworkError> {
        let at_home = Self { device, homes: Vec::new(), is_home: true };
        if device == Device::Cpu {
            return Ok(at_home);
        }
        let mut tied: HashMap<Place, Vec<&Tensor>> = HashMap::new();
        for tensor in tensors.iter().filter(|tensor| tensor.numel() > 0) {
            let place = (tensor.data_ptr() as usize, tensor.size(), tensor.stride());
            tied.entry(place).or_default().push(tensor);
        }
        let mut extents: Vec<(usize, usize)> = tied.values().map(|same| extent(same[0])).collect();
        extents.sort_unstable();
        if extents.windows(2).any(|pair| pair[1].0 < pair[0].1) {
            tracing::warn!(
                "weights of the program overlap in memory, so they stay on the device between two pairs"
            );
            return Ok(at_home);
        }
        let mut homes = Vec::with_capacity(tied.len());
        for tensors in tied.into_values() {
            let home = tensors[0].detach().f_to_device(Device::Cpu).context(context)?.copy();
            homes.push((tensors.into_iter().map(Tensor::shallow_clone).collect(), home));
        }
        Ok(Self { device, homes, is_home: false })
    }

    /// Brings the weights to the device, where they are not.
    ///
    /// # Errors
    /// A device that fails, or has not enough memory: they are at home again.
    pub(super) fn go(&mut self) -> Result<(), NetworkError> {
        if !self.is_home || self.homes.is_empty() {
            return Ok(());
        }
        self.is_home = false;
        for (tensors, home) in &mut self.homes {
            let there = match home.f_to_device(self.device).context(context) {
                Ok(there) => there,
                Err(error) => {
                    self.come_home()?;
                    return Err(error);
                }
            };
            place(tensors, &there)?;
        }
        Ok(())
    }

    /// Lets go of those on the device.
    ///
    /// # Errors
    /// libtorch's.
    pub(super) fn come_home(&mut self) -> Result<(), NetworkError> {
        if self.is_home {
            return Ok(());
        }
        for (tensors, home) in &mut self.homes {
            place(tensors, home)?;
        }
        self.is_home = true;
        Ok(())
    }
}

/// As a module's own `to` does it.
fn place(tensors: &mut [Tensor], data: &Tensor) -> Result<(), NetworkError> {
    tch::no_grad(|| {
        tensors.iter_mut().try_for_each(|tensor| tensor.f_set_data(data).context(context))
    })
}

/// First byte, and the one after the last.
fn extent(tensor: &Tensor) -> (usize, usize) {
    let start = tensor.data_ptr() as usize;
    let steps = tensor.size().into_iter().zip(tensor.stride());
    let last: i64 = steps.map(|(size, stride)| (size - 1) * stride).sum();
    let elements = usize::try_from(last).unwrap_or(0) + 1;
    (start, start + elements * tensor.kind().elt_size_in_bytes())
}

fn context() -> String {
    "moving the weights".to_owned()
}

#[cfg(test)]
#[allow(clippy::print_stderr)]
mod tests {
    use super::*;
    use tch::Kind;

    /// The homes of tensors, as if the device were another than theirs.
    fn placement(tensors: &[Tensor]) -> Placement {
        let mut placement = Placement::new(tensors, Device::Cuda(0)).expect("placed");
        placement.device = Device::Cpu;
        placement
    }

    #[test]
    fn weights_go_and_come_and_what_is_copied_at_home_goes_along() {
        let weight = Tensor::from_slice(&[1.0f32, 2.0]);
        let tied = weight.shallow_clone();
        let tensors = [weight, tied, Tensor::from_slice(&[7i64])];
        let mut placement = placement(&tensors);
        let there = tensors[0].data_ptr();
        placement.come_home().expect("at home");
        assert_ne!(tensors[0].data_ptr(), there);
        assert_eq!(tensors[0].data_ptr(), tensors[1].data_ptr(), "still tied");
        let mut own = tensors[0].shallow_clone();
        own.copy_(&Tensor::from_slice(&[3.0f32, 4.0]));
        placement.go().expect("there");
        let values = |tensor: &Tensor| Vec::<f64>::try_from(tensor.to_kind(Kind::Double)).unwrap();
        assert_eq!(values(&tensors[1]), [3.0, 4.0]);
        placement.come_home().expect("at home");
        placement.come_home().expect("at home");
        assert_eq!(values(&tensors[0]), [3.0, 4.0]);
        assert_eq!(values(&tensors[2]), [7.0]);
    }

    #[test]
    fn weights_that_overlap_stay_where_they_are() {
        for offset in [0, 1] {
            let all = Tensor::from_slice(&[1.0f32, 2.0]);
            let tensors = [all.narrow(0, offset, 1), all];
            let mut placement = placement(&tensors);
            let there = tensors[0].data_ptr();
            placement.come_home().expect("at home");
            assert_eq!(tensors[0].data_ptr(), there);
        }
        // Neighbours do not.
        let all = Tensor::from_slice(&[1.0f32, 2.0, 3.0, 4.0]).view([2, 2]);
        let tensors = [all.narrow(0, 0, 1), all.narrow(0, 1, 1)];
        let mut placement = placement(&tensors);
        let there = tensors[0].data_ptr();
        placement.come_home().expect("at home");
        assert_ne!(tensors[0].data_ptr(), there);
    }

    #[test]
    fn a_gpu_has_its_memory_back() {
        if crate::network::device::cuda_devices() == 0 {
            eprintln!("skipped: libtorch sees no CUDA device");
            return;
        }
        let device = Device::Cuda(0);
        let weight = Tensor::ones([1 << 24], (Kind::Float, device));
        let tensors = [weight];
        let mut placement = Placement::new(&tensors, device).expect("placed");
        let own = crate::network::Device(device);
        let held = || {
            crate::network::memory::release();
            crate::network::memory::held(own).expect("told")
        };
        let with = held();
        placement.come_home().expect("at home");
        assert!(tensors[0].device() == Device::Cpu && held() + (64 << 20) <= with);
        placement.go().expect("there");
        assert!(tensors[0].device() == device);
        assert_eq!(tensors[0].sum(Kind::Double).double_value(&[]), f64::from(1 << 24));
    }
}
