//! Runs the sides in turn.

use std::time::{Duration, Instant};

use anyhow::Result;

/// The amount of measurement.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Measured blocks of each side, if time allows.
    pub blocks: usize,
    /// Measured blocks of each side, however long they take.
    pub least: usize,
    /// Blocks of each side that run first and are discarded.
    pub warm_up: usize,
    /// The time for one comparison; after it, only the blocks up to `least` run.
    pub budget: Duration,
}

impl Plan {
    /// For `cargo xtask bench`.
    pub const FULL: Self = Self { blocks: 301, least: 31, warm_up: 5, budget: Duration::from_secs(12) };
    /// For `cargo xtask bench --quick`.
    pub const QUICK: Self = Self { blocks: 31, least: 7, warm_up: 2, budget: Duration::from_millis(1500) };
    /// Each block once, to check that it works.
    pub const TRY: Self = Self { blocks: 1, least: 1, warm_up: 0, budget: Duration::ZERO };

    /// With its own time budget: for comparisons with long blocks, or of less interest.
    #[must_use]
    pub fn within(self, share: f64) -> Self {
        Self { budget: self.budget.mul_f64(share), ..self }
    }
}

/// Runs a block of each side, again and again; each round starts with another side. A side returns its nanoseconds per
/// operation, or an error if its result was wrong.
///
/// # Errors
/// Returns the first error of a side.
pub fn interleave<const N: usize>(
    plan: Plan,
    mut sides: [&mut dyn FnMut() -> Result<f64>; N],
) -> Result<[Vec<f64>; N]> {
    let samples = interleave_all(plan, &mut sides)?;
    Ok(samples.try_into().expect("a vector for each side"))
}

/// The same for any number of sides.
///
/// # Errors
/// Returns the first error of a side.
pub fn interleave_all(plan: Plan, sides: &mut [&mut dyn FnMut() -> Result<f64>]) -> Result<Vec<Vec<f64>>> {
    let count = sides.len();
    let mut samples = vec![Vec::with_capacity(plan.blocks); count];
    let start = Instant::now();
    for round in 0..plan.warm_up + plan.blocks {
        if round >= plan.warm_up + plan.least && start.elapsed() >= plan.budget {
            break;
        }
        for turn in 0..count {
            let side = (round + turn) % count;
            let ns = sides[side]()?;
            if round >= plan.warm_up {
                samples[side].push(ns);
            }
        }
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn sides_take_turns_and_warm_up_does_not_count() {
        let order = RefCell::new(String::new());
        let plan = Plan { blocks: 2, least: 2, warm_up: 1, budget: Duration::ZERO };
        let mut a = || {
            order.borrow_mut().push('a');
            Ok(1.0)
        };
        let mut b = || {
            order.borrow_mut().push('b');
            Ok(2.0)
        };
        let samples = interleave(plan, [&mut a, &mut b]).unwrap();
        assert_eq!(order.into_inner(), "abbaab");
        assert_eq!(samples, [vec![1.0; 2], vec![2.0; 2]]);
    }

    #[test]
    fn when_time_is_up_the_least_is_still_done() {
        let mut side = || Ok(1.0);
        let plan = Plan { budget: Duration::ZERO, ..Plan::FULL };
        let [samples] = interleave(plan, [&mut side]).unwrap();
        assert_eq!(samples.len(), Plan::FULL.least);
    }

    #[test]
    fn a_wrong_result_ends_the_run() {
        let mut wrong = || anyhow::bail!("wrong");
        assert!(interleave(Plan::QUICK, [&mut wrong]).is_err());
    }
}
