//! safetensors files: the structural check, and their tensors.

use super::weights::{Data, Stored};
use super::{Flaw, Limits, Weights};
use ::safetensors::tensor::Metadata;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// Whether the file is complete: `8 + header + max(data_offsets) == length`. Reads the header alone.
pub(super) fn check(path: &Path, limits: &Limits) -> Result<(), Flaw> {
    read(path, limits).map(|_| ())
}

/// The tensors of a file.
pub(super) fn open(path: &Path, limits: &Limits) -> Result<Weights, Flaw> {
    let Header { file, start, metadata } = read(path, limits)?;
    let file = Arc::new(file);
    let stored = |(name, info): (String, &::safetensors::tensor::TensorInfo)| {
        let (from, to) = info.data_offsets;
        let data =
            Data::Range { file: file.clone(), offset: start + from as u64, length: to - from };
        Stored { name, dtype: info.dtype, shape: info.shape.clone(), data }
    };
    Ok(Weights::new(metadata.tensors().into_iter().map(stored).collect()))
}

struct Header {
    file: File,
    /// Where the data begins.
    start: u64,
    metadata: Metadata,
}

fn read(path: &Path, limits: &Limits) -> Result<Header, Flaw> {
    let mut file = File::open(path)?;
    let found = file.metadata()?.len();
    let mut length = [0; 8];
    if found < 8 {
        return Err(Flaw::Length { found, wanted: 8 });
    }
    file.read_exact(&mut length)?;
    let header_length = u64::from_le_bytes(length);
    if header_length > limits.header {
        return Err(no_safetensors(&format!(
            "its header would be {header_length} bytes long, the limit is {} (`limits.header`)",
            limits.header
        )));
    }
    if found < 8 + header_length {
        return Err(Flaw::Length { found, wanted: 8 + header_length });
    }
    let mut header = vec![0; header_length as usize];
    file.read_exact(&mut header)?;
    // This also checks that shapes, types and offsets fit each other, without gaps.
    let metadata: Metadata =
        serde_json::from_slice(&header).map_err(|error| no_safetensors(&error.to_string()))?;
    let end = metadata.tensors().values().map(|info| info.data_offsets.1).max();
    let start = 8 + header_length;
    let wanted = start.saturating_add(end.unwrap_or(0) as u64);
    match found == wanted {
        true => Ok(Header { file, start, metadata }),
        false => Err(Flaw::Length { found, wanted }),
    }
}

fn no_safetensors(reason: &str) -> Flaw {
    Flaw::new(format!("is no safetensors file: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_of(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), bytes).expect("written");
        file
    }

    fn of(header: &str) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes
    }

    fn good() -> Vec<u8> {
        of(r#"{"__metadata__":{"step":"1"},"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#)
    }

    fn checked(bytes: &[u8]) -> Result<(), Flaw> {
        check(file_of(bytes).path(), &Limits::default())
    }

    #[test]
    fn a_complete_file_passes_and_no_truncation_of_it_does() {
        let bytes = good();
        assert!(checked(&bytes).is_ok());
        for length in 0..bytes.len() {
            assert!(checked(&bytes[..length]).is_err(), "{length} bytes");
        }
        let mut longer = bytes;
        longer.push(0);
        assert!(matches!(checked(&longer), Err(Flaw::Length { .. })));
    }

    #[test]
    fn a_header_that_lies_is_refused() {
        let mut bytes = good();
        bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(matches!(checked(&bytes), Err(Flaw::Wrong(_))));
        for header in [
            r#"{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,8]}}"#,
            r#"{"w":{"dtype":"F32","shape":[18446744073709551615,2],"data_offsets":[0,8]}}"#,
            r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[8,4]}}"#,
            r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
            r#"{"w":{"dtype":"F99","shape":[2],"data_offsets":[0,8]}}"#,
            r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}}"#,
            r#"{"w":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}"#,
            r#"{"w":{"dtype":"F64","shape":[2],"data_offsets":[0,8]}}"#,
            r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551615]}}"#,
            r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[18446744073709551608,18446744073709551615]}}"#,
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
            r#"{"w":{"shape":[2],"data_offsets":[0,8]}}"#,
            r#"{"w":3}"#,
            "[]",
        ] {
            assert!(checked(&of(header)).is_err(), "{header}");
        }
    }
}
