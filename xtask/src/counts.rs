//! The counts of a method, parsed from the tests' output: libtest's results, and the tests' own lines of the form
//! `explored N`.

use std::process::Command;

use anyhow::Result;

use crate::cmd;

/// One method's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Counts {
    /// Models, tests, functions.
    pub(crate) cases: u64,
    /// Interleavings, reads, executions or instructions.
    pub(crate) explored: u64,
    /// Weakened programs that had to be detected.
    pub(crate) mutants: u64,
    pub(crate) killed: u64,
    pub(crate) failures: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.cases += other.cases;
        self.explored += other.explored;
        self.mutants += other.mutants;
        self.killed += other.killed;
        self.failures += other.failures;
    }
}

impl Counts {
    /// Parses the output of test programs; `succeeded` is their exit status.
    pub(crate) fn of_tests(output: &str, succeeded: bool) -> Self {
        let results =
            || output.lines().filter_map(|line| line.split_once("test result: ").map(|(_, rest)| rest));
        let sum = |what: &str| results().map(|result| number_before(result, what)).sum::<u64>();
        let failures = sum(" failed").max(u64::from(!succeeded));
        let (mutants, killed) = (sum_after(output, "mutants "), sum_after(output, "killed "));
        let (tests, explored) = (sum(" passed") + sum(" failed"), sum_after(output, "explored "));
        // A test with many cases prints their number.
        let cases = Some(sum_after(output, "cases ")).filter(|&cases| cases > 0).unwrap_or(tests);
        Self { cases, explored, mutants, killed, failures }
    }

    /// The numbers in a line like `12 cases, 3456 executions`, each with the word after it.
    pub(crate) fn numbers(line: &str) -> Vec<(u64, &str)> {
        let words: Vec<_> = line.split([' ', ',']).filter(|word| !word.is_empty()).collect();
        words.windows(2).filter_map(|pair| Some((pair[0].parse().ok()?, pair[1]))).collect()
    }
}

/// Runs test programs, and counts from their output.
pub(crate) fn of(command: &mut Command) -> Result<Counts> {
    let (output, status) = cmd::tee(command)?;
    Ok(Counts::of_tests(&output, status.success()))
}

/// The number before `what`, or 0.
fn number_before(text: &str, what: &str) -> u64 {
    let before = text.split_once(what).map_or("", |(before, _)| before);
    let start = before.rfind(|c: char| !c.is_ascii_digit()).map_or(0, |at| at + 1);
    before[start..].parse().unwrap_or(0)
}

/// The sum of all numbers after `what`, anywhere in a line: with `--nocapture`, a test's output follows its name on the
/// same line.
fn sum_after(text: &str, what: &str) -> u64 {
    let numbers = text.split(what).skip(1).map(|behind| {
        let end = behind.find(|c: char| !c.is_ascii_digit()).unwrap_or(behind.len());
        behind[..end].parse().unwrap_or(0)
    });
    numbers.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "running 2 tests\ntest a ... explored 12 executions, at most 2\nok\ntest b ... ok\n\
        test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s\n\
        explored 30 reads\n\
        test result: FAILED. 10 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.10s\n";

    #[test]
    fn results_of_all_test_programs_are_summed() {
        let counts = Counts::of_tests(SAID, false);
        assert_eq!(counts, Counts { cases: 15, explored: 42, failures: 3, ..Counts::default() });
    }

    #[test]
    fn a_program_that_died_is_a_failure_without_a_result() {
        assert_eq!(Counts::of_tests("running 2 tests\n", false).failures, 1);
        assert_eq!(Counts::of_tests("", true), Counts::default());
    }

    #[test]
    fn numbers_stand_before_words() {
        assert_eq!(Counts::numbers("12 cases, 3456 executions"), [(12, "cases"), (3456, "executions")]);
        assert_eq!(Counts::numbers("x 1.5 s"), []);
    }

    #[test]
    fn mutants_are_counted_where_a_program_says_so() {
        let counts = Counts::of_tests("mutants 12, killed 11\n", true);
        assert_eq!((counts.mutants, counts.killed), (12, 11));
        let models = "models: cases 63 explored 978\n";
        let counts = Counts { cases: 63, explored: 978, ..Counts::default() };
        assert_eq!(Counts::of_tests(models, true), counts);
    }
}
