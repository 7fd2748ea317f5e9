//! The pickle of a state dict, in an archive that is whole.
#![no_main]

use convergd_fuzz::layout::Layout;
use convergd_fuzz::{archive, entries, read, write};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|pickle: &[u8]| {
    let path = write("step-1.ckpt", &archive(&entries(pickle, &[])));
    read(Layout::Torch, &path);
    read(Layout::Lightning, &path);
});
