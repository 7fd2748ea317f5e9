//! The weight λ of a loss, which moves while training.

use super::LossError;

/// λ, 0 to 1, that moves linearly to a new value over a number of steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Ramp {
    steps: u64,
    from: f64,
    to: f64,
    length: u64,
    elapsed: u64,
}

impl Ramp {
    /// Begins at `lambda`; a change takes `steps` unless [`Ramp::to`] says otherwise, 0 means at once.
    ///
    /// # Errors
    /// A λ that is not 0 to 1.
    pub fn new(lambda: f64, steps: u64) -> Result<Self, LossError> {
        check(lambda)?;
        Ok(Self { steps, from: lambda, to: lambda, length: 0, elapsed: 0 })
    }

    /// λ of the last step, between the old and the new value while it moves.
    pub fn value(&self) -> f64 {
        if self.elapsed >= self.length {
            return self.to;
        }
        self.from + (self.to - self.from) * self.elapsed as f64 / self.length as f64
    }

    /// Moves from the present value to `lambda`; nothing if it moves there already.
    ///
    /// # Errors
    /// A λ that is not 0 to 1.
    pub fn to(&mut self, lambda: f64, steps: Option<u64>) -> Result<(), LossError> {
        check(lambda)?;
        if lambda == self.to {
            return Ok(());
        }
        (self.from, self.to) = (self.value(), lambda);
        (self.length, self.elapsed) = (steps.unwrap_or(self.steps), 0);
        Ok(())
    }

    /// Goes one step, and gives the λ of it.
    pub fn step(&mut self) -> f64 {
        self.elapsed = (self.elapsed + 1).min(self.length);
        self.value()
    }
}

fn check(lambda: f64) -> Result<(), LossError> {
    match (0.0..=1.0).contains(&lambda) {
        true => Ok(()),
        false => Err(LossError::Setting(format!("`lambda` must be 0 to 1, got {lambda}"))),
    }
}

/// A loss whose λ moves; one evaluation of it is one step.
pub trait Ramped {
    /// Its λ.
    fn ramp(&self) -> &Ramp;

    /// Its λ, to change it.
    fn ramp_mut(&mut self) -> &mut Ramp;

    /// λ of the last step, between the old and the new value while it moves.
    fn lambda(&self) -> f64 {
        self.ramp().value()
    }

    /// Moves λ linearly from its present value to `lambda` over `ramp` steps; None takes the number of the
    /// settings. To ask for the value to which it already moves changes nothing, so a trainer may pass on each
    /// polled decision.
    ///
    /// # Errors
    /// A λ that is not 0 to 1.
    fn set_lambda(&mut self, lambda: f64, ramp: Option<u64>) -> Result<(), LossError> {
        self.ramp_mut().to(lambda, ramp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_moves_from_the_change_on_and_from_where_it_is() {
        let mut ramp = Ramp::new(0.0, 4).expect("in range");
        assert_eq!(ramp.step(), 0.0);
        let mut seen = Vec::new();
        for _ in 0..6 {
            ramp.to(0.8, None).expect("in range");
            seen.push((ramp.step() * 100.0).round());
        }
        assert_eq!(seen, [20.0, 40.0, 60.0, 80.0, 80.0, 80.0]);
        ramp.to(0.0, Some(2)).expect("in range");
        assert_eq!([ramp.step(), ramp.step()], [0.4, 0.0]);
        ramp.to(0.5, Some(2)).expect("in range");
        ramp.step();
        ramp.to(1.0, Some(3)).expect("in range");
        assert_eq!(ramp.step(), 0.5, "a third of the way from 0.25 to 1");
        ramp.to(0.3, Some(0)).expect("in range");
        assert_eq!(ramp.value(), 0.3, "at once");
    }

    #[test]
    fn a_weight_out_of_range_is_refused() {
        for lambda in [-0.1, 1.1, f64::NAN] {
            assert!(Ramp::new(lambda, 0).is_err());
        }
        let mut ramp = Ramp::new(0.2, 0).expect("in range");
        let error = ramp.to(2.0, None).expect_err("refused").to_string();
        assert_eq!((error.as_str(), ramp.value()), ("`lambda` must be 0 to 1, got 2", 0.2));
    }
}
