//! The table at the end of a run.

use super::step::Outcome;
use crate::checks::Part;

pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) outcome: Outcome,
    /// Of all rounds.
    pub(super) seconds: f32,
    /// In which its processes had a CPU.
    pub(super) cpu: f32,
    /// How often it ran; the outcome is the last one.
    pub(super) rounds: u16,
    /// Its usual CPU seconds on the machine of reference.
    pub(super) usual: u16,
}

impl Row {
    /// The row of a step that ran once.
    pub(super) fn new(name: &'static str, outcome: Outcome, seconds: f32, cpu: f32, part: &Part) -> Self {
        Self { name, outcome, seconds, cpu, rounds: 1, usual: part.seconds }
    }

    pub(super) fn has_failed(&self) -> bool {
        matches!(self.outcome, Outcome::Failed(_))
    }

    /// How many times its usual CPU time a round took, if that is more than twice: other steps don't change it.
    fn over(&self, speed: f32) -> Option<f32> {
        let usual = f32::from(self.usual.max(5) * self.rounds.max(1)) * speed;
        Some(self.cpu / usual).filter(|times| *times > 2.0)
    }
}

/// All rows. `wall` is the time of the whole run, `speed` that of this machine (`speed.rs`).
pub(super) fn table(rows: &[Row], repeat: u16, wall: f32, speed: f32) -> String {
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max("sum".len());
    let mut table =
        format!("{:width$}  {:7}  {:>7}  {:>7}  {:>5}\n", "step", "result", "seconds", "cpu", "usual");
    for row in rows {
        let Row { name, outcome, seconds, cpu, rounds, usual } = row;
        let mut notes = Vec::new();
        match outcome {
            _ if repeat == 1 => {}
            Outcome::Failed(_) => notes.push(format!("in round {rounds} of {repeat}")),
            Outcome::Ok | Outcome::Skipped(_) => notes.push(format!("{rounds} of {repeat} rounds")),
        }
        if let Outcome::Failed(why) | Outcome::Skipped(why) = outcome {
            notes.push(why.lines().next().unwrap_or_default().to_owned());
        } else if let Some(times) = row.over(speed) {
            notes.push(format!("SLOW: {times:.1} times its usual CPU time"));
        }
        let row = format!(
            "{name:width$}  {:7}  {seconds:7.1}  {cpu:7.1}  {usual:5}  {}",
            outcome.to_string(),
            notes.join(": ")
        );
        table += row.trim_end();
        table.push('\n');
    }
    let sum = |of: fn(&Row) -> f32| rows.iter().map(of).sum::<f32>();
    let (seconds, cpu) = (sum(|row| row.seconds), sum(|row| row.cpu));
    table
        + &format!(
            "{:width$}  {:7}  {seconds:7.1}  {cpu:7.1}\n{:width$}  {:7}  {wall:7.1}\n",
            "sum", "", "wall", ""
        )
}

/// The last line, for programs to parse.
pub(super) fn counts(rows: &[Row]) -> String {
    let failed = rows.iter().filter(|row| row.has_failed()).count();
    let passed = rows.iter().filter(|row| row.outcome == Outcome::Ok).count();
    format!("{passed} passed, {failed} failed, {} skipped", rows.len() - passed - failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &'static str, outcome: Outcome, seconds: f32) -> Row {
        Row { name, outcome, seconds: seconds + 5.0, cpu: seconds, rounds: 1, usual: 20 }
    }

    #[test]
    fn the_table_repeats_why_and_names_slow_steps() {
        let rows = [
            row("fmt", Outcome::Ok, 0.5),
            row("kernel", Outcome::Skipped("missing CAP_BPF\nmore".into()), 0.0),
            row("unit", Outcome::Failed("`cargo test` failed".into()), 61.0),
            row("loom", Outcome::Ok, 61.0),
        ];
        assert_eq!(
            table(&rows, 1, 70.0, 1.0),
            "step    result   seconds      cpu  usual\n\
             fmt     ok           5.5      0.5     20\n\
             kernel  SKIPPED      5.0      0.0     20  missing CAP_BPF\n\
             unit    FAILED      66.0     61.0     20  `cargo test` failed\n\
             loom    ok          66.0     61.0     20  SLOW: 3.0 times its usual CPU time\n\
             sum                142.5    122.5\n\
             wall                70.0\n"
        );
        assert!(!table(&rows, 1, 70.0, 2.0).contains("SLOW"), "a slow machine is no slow step");
        assert_eq!(counts(&rows), "2 passed, 1 failed, 1 skipped");
    }

    #[test]
    fn repeated_steps_name_the_round() {
        let failed = Row { rounds: 2, ..row("unit", Outcome::Failed("by chance".into()), 9.0) };
        let ok = Row { rounds: 2, ..row("fmt", Outcome::Ok, 9.0) };
        let table = table(&[ok, failed], 3, 18.0, 1.0);
        assert!(
            table.contains("  2 of 3 rounds\n") && table.contains("  in round 2 of 3: by chance\n"),
            "{table}"
        );
    }
}
