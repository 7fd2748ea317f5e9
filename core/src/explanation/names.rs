//! What the variables are called.

use super::input::Sequence;
use crate::evaluation::{Assignment, Variables};

/// A column in a name; of more only the first ones are named.
const COLUMNS_NAMED: usize = 3;

/// One variable of the sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Variable {
    /// Its number, from 1: its bit in the bitmasks plus one.
    pub number: usize,
    /// What belongs to it.
    pub meaning: Meaning,
}

/// What belongs to a variable.
#[derive(Clone, Debug, PartialEq)]
pub enum Meaning {
    /// A patch of the grid; row and column from 1, from the top left.
    Patch {
        /// Row from 1.
        row: usize,
        /// Column from 1.
        column: usize,
    },
    /// The words at its positions.
    Words(Vec<String>),
    /// The token ids at its positions, where the probe file has no words.
    Tokens(Vec<i64>),
    /// Positions of the features, from 0.
    Positions(Vec<usize>),
    /// Every `every`-th position from `first` on, from 0.
    Columns {
        /// The first.
        first: usize,
        /// The distance, which is the number of variables.
        every: usize,
    },
    /// Nothing is known of it.
    Unknown,
}

impl Variable {
    /// The variables of one sample. `sequence` is what stands at its positions, where that is known.
    pub fn all(variables: &Variables, sample: usize, sequence: Option<&Sequence>) -> Vec<Self> {
        let meaning = |index: usize| match &variables.assignment {
            Assignment::Patches { grid, chosen } => patch(*grid, chosen.get(sample), index),
            Assignment::Columns => Meaning::Columns { first: index, every: variables.count },
            Assignment::Positions(all) => positions(all.get(sample), index, sequence),
        };
        let variable = |index| Self { number: index + 1, meaning: meaning(index) };
        (0..variables.count).map(variable).collect()
    }

    /// Short, for a list of several: the number, and the words where there are some.
    pub fn label(&self) -> String {
        match &self.meaning {
            Meaning::Words(words) => format!("{} {}", self.number, words.join(" ")),
            Meaning::Tokens(ids) => format!("{} {}", self.number, id_list(ids)),
            _ => self.number.to_string(),
        }
    }

    /// What it is, without its number.
    pub fn description(&self) -> String {
        match &self.meaning {
            Meaning::Patch { row, column } => format!("row {row}, column {column}"),
            Meaning::Words(words) => words.join(" "),
            Meaning::Tokens(ids) => id_list(ids),
            Meaning::Positions(positions) => {
                let positions: Vec<String> = positions.iter().map(usize::to_string).collect();
                let noun = if positions.len() == 1 { "position" } else { "positions" };
                format!("{noun} {}", positions.join(", "))
            }
            Meaning::Columns { first, every } => {
                let some = (0..COLUMNS_NAMED).map(|i| (first + i * every).to_string());
                format!("columns {}, …", some.collect::<Vec<_>>().join(", "))
            }
            Meaning::Unknown => format!("variable {}", self.number),
        }
    }
}

fn id_list(ids: &[i64]) -> String {
    ids.iter().map(|id| format!("#{id}")).collect::<Vec<_>>().join(" ")
}

fn patch(grid: usize, chosen: Option<&Vec<usize>>, index: usize) -> Meaning {
    let patch = chosen.and_then(|chosen| chosen.get(index)).filter(|_| grid > 0);
    patch.map_or(Meaning::Unknown, |patch| Meaning::Patch {
        row: patch / grid + 1,
        column: patch % grid + 1,
    })
}

fn positions(row: Option<&Vec<i64>>, index: usize, sequence: Option<&Sequence>) -> Meaning {
    let Some(row) = row else { return Meaning::Unknown };
    let is_own = |&(_, &variable): &(usize, &i64)| variable == index as i64;
    let own: Vec<usize> = row.iter().enumerate().filter(is_own).map(|(at, _)| at).collect();
    let Some(sequence) = sequence.filter(|sequence| sequence.length() == row.len()) else {
        return Meaning::Positions(own);
    };
    let words: Option<Vec<String>> = own.iter().map(|&at| sequence.word(at)).collect();
    let ids: Option<Vec<i64>> = own.iter().map(|&at| sequence.id(at)).collect();
    match (words, ids) {
        (Some(words), _) => Meaning::Words(words),
        (None, Some(ids)) => Meaning::Tokens(ids),
        (None, None) => Meaning::Positions(own),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptions(variables: &Variables, sequence: Option<&Sequence>) -> Vec<String> {
        let all = Variable::all(variables, 1, sequence);
        all.iter().map(Variable::description).collect()
    }

    fn variables(assignment: Assignment) -> Variables {
        Variables { count: 2, classes: vec![0, 0], assignment }
    }

    #[test]
    fn patches_are_rows_and_columns_from_the_top_left() {
        let chosen = vec![vec![0, 1], vec![2, 7]];
        let variables = variables(Assignment::Patches { grid: 5, chosen });
        assert_eq!(descriptions(&variables, None), ["row 1, column 3", "row 2, column 3"]);
        assert_eq!(Variable::all(&variables, 9, None)[1].description(), "variable 2");
    }

    #[test]
    fn columns_are_those_of_the_same_remainder() {
        let variables = variables(Assignment::Columns);
        assert_eq!(descriptions(&variables, None), ["columns 0, 2, 4, …", "columns 1, 3, 5, …"]);
    }

    #[test]
    fn positions_are_words_else_ids_else_numbers() {
        let variables = variables(Assignment::Positions(vec![vec![], vec![0, -1, 1, 0]]));
        let words = ["red", "is", "blue", "dish"].map(str::to_owned).to_vec();
        let ids = Some(vec![7, 8, 9, 10]);
        let both = Sequence { ids: ids.clone(), words: Some(words), there: vec![true; 4] };
        assert_eq!(descriptions(&variables, Some(&both)), ["red dish", "blue"]);
        assert_eq!(Variable::all(&variables, 1, Some(&both))[0].label(), "1 red dish");
        let tokens = Sequence { ids, words: None, there: vec![true; 4] };
        assert_eq!(descriptions(&variables, Some(&tokens)), ["#7 #10", "#9"]);
        assert_eq!(descriptions(&variables, None), ["positions 0, 3", "position 2"]);
        let other = Sequence { ids: Some(vec![1]), words: None, there: vec![true] };
        assert_eq!(descriptions(&variables, Some(&other)), ["positions 0, 3", "position 2"]);
    }
}
