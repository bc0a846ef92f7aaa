//! Running sides in turn.

use anyhow::Result;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Measured blocks of each side.
    pub blocks: usize,
    /// Blocks of each side that are run before, and thrown away.
    pub warm_up: usize,
}

impl Plan {
    /// What `cargo bench` does.
    pub const FULL: Self = Self { blocks: 301, warm_up: 10 };
    /// What `cargo bench -- --quick` does.
    pub const QUICK: Self = Self { blocks: 51, warm_up: 3 };
    /// Each block once, to see that it works.
    pub const TRY: Self = Self { blocks: 1, warm_up: 0 };
}

/// Runs a block of each side, again and again, each round starting with another side. A side
/// returns its nanoseconds for one operation, or an error if what it computed was wrong.
///
/// # Errors
/// The first one that a side returns.
pub fn interleave<const N: usize>(
    plan: Plan,
    sides: [&mut dyn FnMut() -> Result<f64>; N],
) -> Result<[Vec<f64>; N]> {
    let mut samples = std::array::from_fn(|_| Vec::with_capacity(plan.blocks));
    for round in 0..plan.warm_up + plan.blocks {
        for turn in 0..N {
            let side = (round + turn) % N;
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
        let plan = Plan { blocks: 2, warm_up: 1 };
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
    fn a_wrong_result_ends_the_run() {
        let mut wrong = || anyhow::bail!("wrong");
        assert!(interleave(Plan::QUICK, [&mut wrong]).is_err());
    }
}
