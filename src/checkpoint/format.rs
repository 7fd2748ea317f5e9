//! The structural check of the safetensors layout.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use thiserror::Error;

/// Headers above this are refused, as the format's own library does.
const LARGEST_HEADER: u64 = 100_000_000;

/// Why a file is no complete checkpoint.
#[derive(Debug, Error)]
pub enum FormatError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// The file is shorter than its own header says, or longer.
    #[error("is {found} bytes long, its header wants {wanted}: truncated or still being written")]
    Length {
        /// Bytes of the file.
        found: u64,
        /// Bytes that it should have.
        wanted: u64,
    },
    /// The header is not one of safetensors.
    #[error("is no safetensors file: {0}")]
    Header(String),
}

/// Whether the file is complete: `8 + header + max(data_offsets) == length`. Reads the header alone.
///
/// # Errors
/// A file that cannot be read, a header that is none, a length that does not fit.
pub fn check_structure(path: &Path) -> Result<(), FormatError> {
    let mut file = File::open(path)?;
    let found = file.metadata()?.len();
    let mut length = [0; 8];
    if found < 8 {
        return Err(FormatError::Length { found, wanted: 8 });
    }
    file.read_exact(&mut length)?;
    let header_length = u64::from_le_bytes(length);
    if header_length > LARGEST_HEADER {
        let message = format!("its header would be {header_length} bytes long");
        return Err(FormatError::Header(message));
    }
    if found < 8 + header_length {
        return Err(FormatError::Length { found, wanted: 8 + header_length });
    }
    let mut header = vec![0; header_length as usize];
    file.read_exact(&mut header)?;
    let header: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&header).map_err(|error| FormatError::Header(error.to_string()))?;
    let tensors = header.iter().filter(|(name, _)| *name != "__metadata__");
    let mut end = 0;
    for (name, tensor) in tensors {
        let offset = tensor["data_offsets"][1].as_u64();
        let missing = || FormatError::Header(format!("`{name}` has no `data_offsets`"));
        end = end.max(offset.ok_or_else(missing)?);
    }
    let wanted = (8 + header_length).saturating_add(end);
    if found == wanted { Ok(()) } else { Err(FormatError::Length { found, wanted }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_of(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), bytes).expect("written");
        file
    }

    fn good() -> Vec<u8> {
        let header = br#"{"__metadata__":{"step":"1"},"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header);
        bytes.extend_from_slice(&[0; 8]);
        bytes
    }

    #[test]
    fn a_complete_file_passes_and_no_truncation_of_it_does() {
        let bytes = good();
        assert!(check_structure(file_of(&bytes).path()).is_ok());
        for length in 0..bytes.len() {
            assert!(check_structure(file_of(&bytes[..length]).path()).is_err(), "{length} bytes");
        }
        let mut longer = bytes;
        longer.push(0);
        assert!(matches!(
            check_structure(file_of(&longer).path()),
            Err(FormatError::Length { .. })
        ));
    }

    #[test]
    fn a_header_that_lies_about_its_length_is_refused() {
        let mut bytes = good();
        bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(matches!(check_structure(file_of(&bytes).path()), Err(FormatError::Header(_))));
    }
}
