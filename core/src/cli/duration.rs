//! Durations as a line has room for them.

/// Seconds in the largest unit that they fill.
pub(super) fn readable(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let units = [(86_400, "d"), (3600, "h"), (60, "min")];
    let unit = units.into_iter().find(|(size, _)| seconds >= *size);
    let (size, name) = unit.unwrap_or((1, "s"));
    format!("{} {name}", seconds / size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_unit_that_is_filled_is_told() {
        assert_eq!(
            [0.9, 59.0, 61.0, 7300.0, 2e5].map(readable),
            ["0 s", "59 s", "1 min", "2 h", "2 d"]
        );
        assert_eq!(readable(-5.0), "0 s");
    }
}
