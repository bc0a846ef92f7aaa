//! What a record of 56 bytes costs readers in C, Go and Python, each beside what its users have today: `cargo xtask bench --languages`.

use anyhow::{Context, Result};

use crate::setup::Tools;
use crate::{c, go, python};

/// What is read how, and its time in ns for each record.
pub(crate) type Times = Vec<(&'static str, f64)>;

/// Measures, and prints the table of docs/guide/start.md.
pub(super) fn run(tools: &Tools) -> Result<()> {
    let languages = [("C", c::speed(tools)?), ("Go", go::speed(tools)?), ("Python", python::speed(tools)?)];
    println!("| | | ns for each record |\n|---|---|--:|");
    for (language, times) in languages {
        times.iter().for_each(|(reader, ns)| println!("| {language} | {reader} | {ns:.1} |"));
    }
    Ok(())
}

/// The times in a program's output: for each name in it, the first number that is followed by `ns`.
pub(crate) fn times(output: &str, names: &[(&str, &'static str)]) -> Result<Times> {
    let time = |&(name, title): &(&str, &'static str)| {
        let words: Vec<_> = output.split_once(name)?.1.split_whitespace().collect();
        let ns = words.windows(2).find(|pair| pair[1].starts_with("ns"))?[0].parse().ok()?;
        Some((title, ns))
    };
    let found =
        names.iter().map(|name| time(name).with_context(|| format!("no time of {:?} in {output:?}", name.0)));
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_by_their_names() {
        let output = "BenchmarkNext-2  100  17.5 ns/op  0 B/op\nours 2 ns, theirs 5.7 ns";
        let names = [("theirs", "b"), ("BenchmarkNext", "a")];
        assert_eq!(times(output, &names).unwrap(), [("b", 5.7), ("a", 17.5)]);
        assert!(times(output, &[("others", "c")]).is_err());
    }
}
