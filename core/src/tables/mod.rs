//! Value tables and their interactions as safetensors files, block by block: the memory that is
//! taken depends on the block and not on the number of tables.

mod reader;
mod writer;

pub use reader::{Block, ReadError, Reader};
pub use writer::Writer;
