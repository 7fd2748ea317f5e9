//! Mistakes of a configuration file.

use std::fmt;
use std::path::{Path, PathBuf};

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Line, from 1, and column, from 1, where they are known.
    pub place: Option<(usize, usize)>,
    /// Path inside the document, such as `policy.rules[0].id`.
    pub path: String,
    /// What is wrong and what to try.
    pub message: String,
}

/// All mistakes of a file, in the order of their lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    /// The file.
    pub file: PathBuf,
    /// At least one.
    pub list: Vec<Problem>,
}

impl Problems {
    pub(super) fn of(file: &Path, message: String) -> Self {
        let problem = Problem { place: None, path: String::new(), message };
        Self { file: file.to_owned(), list: vec![problem] }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Problem { place, path, message }) in self.list.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{}", self.file.display())?;
            if let Some((line, column)) = place {
                write!(f, ":{line}:{column}")?;
            }
            match path.as_str() {
                "" => write!(f, ": {message}")?,
                path => write!(f, ": `{path}`: {message}")?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
