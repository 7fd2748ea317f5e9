//! What a run has been, from its history: the same for commands, the page and its interface.

mod objects;
pub mod report;
mod status;
mod told;

pub use objects::{decision, facts, pair};
pub use status::{SetAside, Status};
pub use told::Told;
