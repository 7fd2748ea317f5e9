//! A whole safetensors file.
#![no_main]

use convergd_fuzz::layout::Layout;
use convergd_fuzz::{read, write};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    read(Layout::Safetensors, &write("step-1.safetensors", bytes));
});
