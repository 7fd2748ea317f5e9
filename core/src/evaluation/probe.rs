//! What identifies a probe file.

/// Key of the file's metadata under which the words of its samples stand, as JSON: a list of strings for each
/// sample, one for each position.
pub const WORDS: &str = "words";

/// Hash of a probe file and of how many of its samples are taken: a fact of the run.
pub fn digest(bytes: &[u8], samples: u64) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(bytes).update(&samples.to_le_bytes());
    hasher.finalize()
}
