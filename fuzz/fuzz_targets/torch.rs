//! A whole file of `torch.save`, archive or legacy, by all that read one.
#![no_main]

use convergd_fuzz::layout::Layout;
use convergd_fuzz::{read, write};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = write("step-1.pt", bytes);
    read(Layout::Torch, &path);
    read(Layout::Lightning, &path);
    read(Layout::Torchscript, &path);
});
