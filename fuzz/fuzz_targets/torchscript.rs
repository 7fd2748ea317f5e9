//! The pickle of a TorchScript module, in an archive that is whole.
#![no_main]

use convergd_fuzz::layout::Layout;
use convergd_fuzz::{archive, entries, read, write};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|pickle: &[u8]| {
    let constants = [("a/constants.pkl", &b"\x80\x02)."[..])];
    read(Layout::Torchscript, &write("step-1.pt", &archive(&entries(pickle, &constants))));
});
