//! Subsets of at most [`MAX_VARIABLES`] variables as bitmasks: bit i is set when variable i is in
//! the subset.

/// Fewest variables that an extraction accepts.
pub const MIN_VARIABLES: usize = 2;
/// Most variables that an extraction accepts: a table of 2^16 doubles is 512 KiB.
pub const MAX_VARIABLES: usize = 16;

/// The order of a subset: how many variables it holds.
#[inline]
pub fn order(subset: usize) -> usize {
    subset.count_ones() as usize
}

/// The number of variables n of a table of length 2^n, or `None` where the length is no power of
/// two or n lies outside [`MIN_VARIABLES`]..=[`MAX_VARIABLES`].
pub fn variables_of(table_length: usize) -> Option<usize> {
    let n = table_length.trailing_zeros() as usize;
    let in_range = (MIN_VARIABLES..=MAX_VARIABLES).contains(&n);
    (table_length.is_power_of_two() && in_range).then_some(n)
}

/// The variables of a subset, ascending.
pub fn members(subset: usize) -> impl Iterator<Item = usize> {
    (0..usize::BITS as usize).filter(move |&variable| subset >> variable & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_other_lengths_are_no_tables() {
        assert_eq!(variables_of(256), Some(8));
        assert_eq!(variables_of(1 << 16), Some(16));
        for length in [0, 1, 2, 3, 255, 257, 1 << 17] {
            assert_eq!(variables_of(length), None, "{length}");
        }
    }

    #[test]
    fn members_are_the_set_bits() {
        assert_eq!(members(0b10110).collect::<Vec<_>>(), [1, 2, 4]);
        assert_eq!(order(0b10110), 3);
    }
}
