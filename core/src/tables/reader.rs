//! Value tables out of a file. Only the header is parsed at once; the values are read as they are
//! asked for.

use crate::interaction::subset::variables_of;
use safetensors::tensor::{Dtype, Metadata};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use thiserror::Error;

/// Headers above this are refused, as the format's own library does.
const LARGEST_HEADER: u64 = 100_000_000;
/// Bytes before the header; they say how long it is.
const PREFIX: u64 = 8;

/// Why there are no value tables to be had from a file.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// A directory, a pipe or a device: no place of it can be asked for.
    #[error("is no regular file")]
    NotAFile,
    /// The header is not one of safetensors.
    #[error("is no safetensors file: {0}")]
    Header(String),
    /// The file is shorter than its own header says, or longer.
    #[error("is {found} bytes long, its header wants {wanted}: truncated or still being written")]
    Length {
        /// Bytes of the file.
        found: u64,
        /// Bytes that it should have.
        wanted: u64,
    },
    /// There is no tensor of that name.
    #[error("has no tensor `values`; it has {0:?}")]
    Absent(Vec<String>),
    /// The shape is not that of value tables.
    #[error("`values` has shape {0:?}; it needs [B, 2^n] with B ≥ 1 and n from 2 to 16")]
    Shape(Vec<usize>),
    /// The numbers are of another type.
    #[error("`values` has type {0}; it needs float32 or float64")]
    Type(Dtype),
}

/// The tensor `values` [B, 2^n] of a file, from its first table to its last.
#[derive(Debug)]
pub struct Reader {
    file: File,
    /// Where the tensor starts in the file.
    start: u64,
    number: Number,
    samples: usize,
    variables: usize,
    /// The table that comes next.
    next: usize,
}

/// Tables that follow each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// The place of its first table in the file.
    pub first: usize,
    /// v(S) of table after table, 2^n each.
    pub values: Vec<f64>,
    /// Entries of a table, 2^n.
    pub length: usize,
}

impl Block {
    /// Every table with its place in the file.
    pub fn tables(&self) -> impl Iterator<Item = (usize, &[f64])> {
        (self.first..).zip(self.values.chunks_exact(self.length))
    }
}

impl Reader {
    /// Reads the header and checks everything but the values.
    ///
    /// # Errors
    /// A file that is no complete safetensors file, or whose `values` are no value tables.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let file = File::open(path)?;
        let (header, data) = read_header(&file)?;
        let values =
            header.info("values").ok_or_else(|| ReadError::Absent(header.offset_keys()))?;
        let refuse_shape = || ReadError::Shape(values.shape.clone());
        let [samples @ (1..), length] = *values.shape else { return Err(refuse_shape()) };
        let variables = variables_of(length).ok_or_else(refuse_shape)?;
        let number = Number::of(values.dtype).ok_or(ReadError::Type(values.dtype))?;
        let start = data + values.data_offsets.0 as u64;
        Ok(Self { file, start, number, samples, variables, next: 0 })
    }

    /// Number of tables B.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Number of variables n.
    pub fn variables(&self) -> usize {
        self.variables
    }

    /// The next tables, at most `most` of them; nothing after the last one.
    ///
    /// # Errors
    /// A file that cannot be read any more; the next call tries the same tables again.
    pub fn read(&mut self, most: usize) -> Result<Option<Block>, ReadError> {
        let (first, length) = (self.next, 1usize << self.variables);
        let tables = most.min(self.samples - first);
        if tables == 0 {
            return Ok(None);
        }
        let table_bytes = length * self.number.bytes();
        let mut bytes = vec![0; tables * table_bytes];
        self.file.read_exact_at(&mut bytes, self.start + (first * table_bytes) as u64)?;
        self.next += tables;
        Ok(Some(Block { first, values: self.number.decode(&bytes), length }))
    }
}

/// The types that the values may have.
#[derive(Clone, Copy, Debug)]
enum Number {
    Single,
    Double,
}

impl Number {
    fn of(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(Self::Single),
            Dtype::F64 => Some(Self::Double),
            _ => None,
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::Single => size_of::<f32>(),
            Self::Double => size_of::<f64>(),
        }
    }

    fn decode(self, bytes: &[u8]) -> Vec<f64> {
        match self {
            Self::Single => {
                let chunks = bytes.as_chunks().0.iter();
                chunks.map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect()
            }
            Self::Double => {
                bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect()
            }
        }
    }
}

/// The header and where the data behind it start. Parsing it checks that the tensors lie side by
/// side and that each has the bytes that its shape and type need.
fn read_header(file: &File) -> Result<(Metadata, u64), ReadError> {
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(ReadError::NotAFile);
    }
    let found = about.len();
    let check_length = |wanted: u64, fits: bool| {
        if fits { Ok(()) } else { Err(ReadError::Length { found, wanted }) }
    };
    check_length(PREFIX, found >= PREFIX)?;
    let mut length = [0; PREFIX as usize];
    file.read_exact_at(&mut length, 0)?;
    let length = u64::from_le_bytes(length);
    if length > LARGEST_HEADER {
        return Err(ReadError::Header(format!("its header would be {length} bytes long")));
    }
    let data = PREFIX + length;
    check_length(data, found >= data)?;
    let mut header = vec![0; length as usize];
    file.read_exact_at(&mut header, PREFIX)?;
    let header: Metadata =
        serde_json::from_slice(&header).map_err(|error| ReadError::Header(error.to_string()))?;
    let wanted = data.saturating_add(header.data_len() as u64);
    check_length(wanted, found == wanted)?;
    Ok((header, data))
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::tensor::TensorInfo;
    use tempfile::NamedTempFile;

    fn file_of(bytes: &[u8]) -> NamedTempFile {
        let file = NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), bytes).expect("written");
        file
    }

    fn file_with(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    }

    fn refusal(bytes: &[u8]) -> String {
        Reader::open(file_of(bytes).path()).expect_err("a bad file").to_string()
    }

    /// `values` [5, 4] with 0, 1, 2, … between two other tensors, at a place that is not aligned.
    fn five_tables(dtype: Dtype, data: Vec<u8>) -> Vec<u8> {
        let end = 3 + data.len();
        let info = |dtype, shape, data_offsets| TensorInfo { dtype, shape, data_offsets };
        let tensors = vec![
            ("first".to_owned(), info(Dtype::U8, vec![3], (0, 3))),
            ("values".to_owned(), info(dtype, vec![5, 4], (3, end))),
            ("last".to_owned(), info(Dtype::U8, vec![2], (end, end + 2))),
        ];
        let header = serde_json::to_string(&Metadata::new(None, tensors).expect("a good header"));
        file_with(&header.expect("text"), &[&[255; 3][..], &data, &[255; 2]].concat())
    }

    fn single() -> Vec<u8> {
        five_tables(Dtype::F32, (0..20u8).flat_map(|v| f32::from(v).to_le_bytes()).collect())
    }

    fn double() -> Vec<u8> {
        five_tables(Dtype::F64, (0..20u8).flat_map(|v| f64::from(v).to_le_bytes()).collect())
    }

    #[test]
    fn blocks_of_any_size_give_every_table_once_with_its_place() {
        for bytes in [single(), double()] {
            let file = file_of(&bytes);
            for most in [1, 2, 3, 5, 6, usize::MAX] {
                let mut reader = Reader::open(file.path()).expect("a good file");
                assert_eq!((reader.samples(), reader.variables()), (5, 2));
                let mut places = Vec::new();
                while let Some(block) = reader.read(most).expect("readable") {
                    assert!(block.values.len() <= 4 * most.min(5));
                    for (place, table) in block.tables() {
                        let first = 4.0 * places.len() as f64;
                        assert_eq!(table, [first, first + 1.0, first + 2.0, first + 3.0]);
                        places.push(place);
                    }
                }
                assert_eq!(places, [0, 1, 2, 3, 4], "blocks of {most}");
                assert_eq!(reader.read(most).expect("still the end"), None);
            }
        }
    }

    #[test]
    fn no_truncation_of_a_good_file_is_taken_and_nothing_longer() {
        let bytes = single();
        for length in 0..bytes.len() {
            let error = refusal(&bytes[..length]);
            assert!(
                error.contains(&format!("is {length} bytes long, its header wants")),
                "{error}"
            );
        }
        assert!(refusal(&[&bytes[..], &[0]].concat()).contains("its header wants"));
    }

    #[test]
    fn a_file_that_shrinks_while_it_is_read_is_an_error() {
        let file = file_of(&double());
        let mut reader = Reader::open(file.path()).expect("a good file");
        file.as_file().set_len(200).expect("truncated");
        assert!(matches!(reader.read(5), Err(ReadError::Read(_))));
    }

    #[test]
    fn headers_that_lie_are_refused_before_anything_is_allocated() {
        let tensor = |shape: &str, offsets: &str| {
            format!(r#"{{"values":{{"dtype":"F64","shape":{shape},"data_offsets":{offsets}}}}}"#)
        };
        let whole = "18446744073709551615";
        for (header, part) in [
            ("[]".to_owned(), "no safetensors file"),
            ("{".to_owned(), "no safetensors file"),
            (tensor("[1,4]", "[0,24]"), "invalid shape"),
            (tensor("[1,4]", "[8,40]"), "invalid offset"),
            (tensor("[1,4]", "[32,0]"), "invalid offset"),
            (tensor(&format!("[{whole},4]"), "[0,32]"), "overflow"),
            (tensor("[1152921504606846976,4]", "[0,32]"), "overflow"),
            (tensor("[1125899906842624,4]", "[0,36028797018963968]"), "its header wants"),
            (tensor("[4]", "[0,32]"), "shape [4]; it needs [B, 2^n]"),
            (tensor("[1,1,4]", "[0,32]"), "shape [1, 1, 4]; it needs [B, 2^n]"),
            (tensor("[2,2]", "[0,32]"), "shape [2, 2]; it needs [B, 2^n]"),
            ("{}".to_owned(), "has no tensor `values`; it has []"),
        ] {
            let data = if header == "{}" { &[][..] } else { &[0; 32] };
            let error = refusal(&file_with(&header, data));
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
        assert!(refusal(&u64::MAX.to_le_bytes()).contains("18446744073709551615 bytes long"));
        assert!(refusal(&(LARGEST_HEADER).to_le_bytes()).contains("wants 100000008"));
    }

    #[test]
    fn what_is_no_regular_file_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        for path in [directory.path(), Path::new("/dev/null")] {
            assert!(matches!(Reader::open(path), Err(ReadError::NotAFile)));
        }
    }
}
