//! The index and the state of a directory of Hugging Face, beside a shard that is whole: the bytes are
//! both files, with a zero byte between them.
#![no_main]

use convergd_fuzz::layout::Layout;
use convergd_fuzz::{directory, read, write};
use libfuzzer_sys::fuzz_target;

/// A tensor `w` of one number.
const SHARD: &[u8] =
    b"\x38\0\0\0\0\0\0\0{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}  \0\0\0\0";

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(2, |&byte| byte == 0);
    write("model.safetensors.index.json", parts.next().unwrap_or_default());
    write("trainer_state.json", parts.next().unwrap_or_default());
    write("model-00001-of-00001.safetensors", SHARD);
    read(Layout::Hf, directory());
});
