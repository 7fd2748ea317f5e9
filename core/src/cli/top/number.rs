//! Numbers as a narrow column holds them.

use crate::convergence::Estimate;

/// Five digits at most, with an exponent where those do not tell enough.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    match size {
        0.0 => "0".to_owned(),
        _ if !(1e-3..1e5).contains(&size) => format!("{value:.1e}"),
        _ => {
            let digits = if size < 10.0 { 4 } else { 5 - (size.log10() as usize + 1).min(5) };
            format!("{value:.digits$}")
        }
    }
}

/// A value and its standard error, which has one digit that counts, or two.
pub(super) fn estimate(estimate: Estimate) -> String {
    let Estimate { value, standard_error } = estimate;
    match standard_error > 0.0 {
        true => format!("{}±{}", number(value), short(standard_error)),
        false => number(value),
    }
}

fn short(error: f64) -> String {
    match error {
        _ if !(1e-3..1e3).contains(&error) => format!("{error:.0e}"),
        _ if error < 0.1 => format!("{error:.3}"),
        _ if error < 10.0 => format!("{error:.2}"),
        _ => format!("{error:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fit_their_column_and_keep_what_tells() {
        let said = [0.0, -0.775_21, 1.5, 12.345_6, 1234.56, 54_321.9, 1e5, 2.5e-10, f64::MAX];
        let said = said.map(number);
        let wanted =
            ["0", "-0.7752", "1.5000", "12.346", "1234.6", "54322", "1.0e5", "2.5e-10", "1.8e308"];
        assert_eq!(said, wanted);
        let estimate = |value, standard_error| estimate(Estimate { value, standard_error });
        assert_eq!(estimate(-0.5, 0.0123), "-0.5000±0.012");
        assert_eq!(estimate(3.0, 0.0), "3.0000");
        assert_eq!(estimate(1e-7, 2e-8), "1.0e-7±2e-8");
    }
}
