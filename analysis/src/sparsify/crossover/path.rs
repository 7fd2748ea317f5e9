//! Quantities on the way of θ, and which of them breaks its condition first.

/// Rates below this do not move anything.
const LEAST_RATE: f64 = 1e-12;
/// Entries of a direction below this cannot be pivots.
pub(super) const LEAST_PIVOT: f64 = 1e-7;
/// How far a condition may be overstepped so that the largest of nearly equal pivots is taken.
const SLACK: f64 = 1e-10;
/// What a condition may be broken by at θ = 0, so that rounding causes no exchanges. Highly symmetric
/// tables would go round in circles there.
const ROUNDING: f64 = 1e-11;

/// A quantity and its rate: at θ it is `at_zero + θ·rate`.
#[derive(Default)]
pub(super) struct Path {
    pub(super) at_zero: Vec<f64>,
    pub(super) rate: Vec<f64>,
}

impl Path {
    #[inline(always)]
    pub(super) fn at(&self, index: usize, theta: f64) -> f64 {
        self.at_zero[index] + theta * self.rate[index]
    }

    pub(super) fn set(&mut self, index: usize, at_zero: f64) {
        (self.at_zero[index], self.rate[index]) = (at_zero, 0.0);
    }

    /// self ← self + (amount[0] + θ·amount[1])·direction.
    #[inline(always)]
    pub(super) fn move_along(&mut self, amount: [f64; 2], direction: &[f64]) {
        super::basis::subtract(&mut self.at_zero, -amount[0], direction);
        super::basis::subtract(&mut self.rate, -amount[1], direction);
    }

    pub(super) fn swap_remove(&mut self, index: usize) {
        self.at_zero.swap_remove(index);
        self.rate.swap_remove(index);
    }

    pub(super) fn push(&mut self, [at_zero, rate]: [f64; 2]) {
        self.at_zero.push(at_zero);
        self.rate.push(rate);
    }
}

/// The largest θ above 0 at which a quantity that is kept at its sign vanishes as θ falls, if it then
/// goes on beyond rounding.
#[inline(always)]
pub(super) fn vanishing(path: &Path, signs: &[f64]) -> Option<(f64, usize)> {
    let mut best = (0.0, None);
    for (place, sign) in signs.iter().enumerate() {
        let (at_zero, rate) = (path.at_zero[place], path.rate[place]);
        let breaks = sign * at_zero < -ROUNDING && sign * rate > LEAST_RATE;
        if breaks && -at_zero / rate > best.0 {
            best = (-at_zero / rate, Some(place));
        }
    }
    best.1.map(|place| (best.0, place))
}

/// The largest θ above 0 at which some |at_zero + θ·rate| reaches its bound, coming from larger θ, if
/// it then goes on beyond rounding. What has no bound is left out.
#[inline(always)]
pub(super) fn reaching(path: &Path, bounds: &[f64], times: &mut Vec<f64>) -> Option<(f64, usize)> {
    let count = bounds.len();
    let (at_zero, rate) = (&path.at_zero[..count], &path.rate[..count]);
    times.resize(count, 0.0);
    let times = &mut times[..count];
    for i in 0..count {
        let at = (-bounds[i].copysign(rate[i]) - at_zero[i]) / rate[i];
        let breaks = at_zero[i].abs() > bounds[i] + ROUNDING;
        let moves = rate[i].abs() > LEAST_RATE && bounds[i] > 0.0;
        times[i] = if moves && breaks { -at } else { 0.0 };
    }
    let earliest = least(times);
    let index = times.iter().position(|&at| at == earliest)?;
    (earliest < 0.0).then_some((-earliest, index))
}

/// The smallest number, found in eight strands. NaN is passed over.
#[inline(always)]
pub(super) fn least(numbers: &[f64]) -> f64 {
    let mut strands = [f64::INFINITY; 8];
    let (chunks, rest) = numbers.as_chunks::<8>();
    for chunk in chunks {
        for i in 0..8 {
            strands[i] = if chunk[i] < strands[i] { chunk[i] } else { strands[i] };
        }
    }
    let smaller = |a: f64, &b: &f64| if b < a { b } else { a };
    rest.iter().chain(&strands).fold(f64::INFINITY, smaller)
}

/// Which quantity, kept at its sign and moving along `direction`·`way`, vanishes first: the time and
/// the place. Of those that vanish about as early, the fastest.
#[inline(always)]
pub(super) fn first_to_vanish(
    path: &Path,
    theta: f64,
    direction: &[f64],
    way: f64,
    signs: &[f64],
) -> Option<(f64, usize)> {
    let arrival = |i: usize| {
        let speed = -signs[i] * way * direction[i];
        ((signs[i] * path.at(i, theta)).max(0.0), speed)
    };
    let mut latest = f64::INFINITY;
    for i in 0..signs.len() {
        let (distance, speed) = arrival(i);
        if speed > LEAST_PIVOT && distance + SLACK < latest * speed {
            latest = (distance + SLACK) / speed;
        }
    }
    let mut first = None;
    let mut fastest = LEAST_PIVOT;
    for i in 0..signs.len() {
        let (distance, speed) = arrival(i);
        if speed > fastest && distance <= latest * speed {
            (first, fastest) = (Some((distance / speed, i)), speed);
        }
    }
    first
}

/// Which quantity, kept within ±bound and moving along `images`·`way`, reaches a bound first: the time
/// and the index. Of those that reach it about as early, the fastest.
#[inline(always)]
pub(super) fn first_to_reach(
    path: &Path,
    theta: f64,
    (images, way): (&[f64], f64),
    bounds: &[f64],
    times: &mut Vec<f64>,
) -> Option<(f64, usize)> {
    let count = bounds.len();
    let (at_zero, rate, images) = (&path.at_zero[..count], &path.rate[..count], &images[..count]);
    times.resize(count, 0.0);
    let times = &mut times[..count];
    for i in 0..count {
        let velocity = way * images[i];
        let distance = bounds[i] - velocity.signum() * (at_zero[i] + theta * rate[i]);
        let able = velocity.abs() > LEAST_PIVOT && bounds[i] > 0.0;
        let distance = if distance > 0.0 { distance } else { 0.0 };
        times[i] = if able { (distance + SLACK) / velocity.abs() } else { f64::INFINITY };
    }
    let latest = least(times);
    let mut first = None;
    let mut fastest = 0.0;
    for (i, &time) in times.iter().enumerate() {
        let speed = images[i].abs();
        if time - SLACK / speed <= latest && speed > fastest && time < f64::INFINITY {
            (first, fastest) = (Some(((time - SLACK / speed).max(0.0), i)), speed);
        }
    }
    first
}
