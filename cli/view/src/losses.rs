//! Lost records: reported as they are found, and summed for the end.

use std::collections::BTreeMap;
use std::fmt;

use mapring_kit::output;

/// How many records were lost, by ring and cause.
#[derive(Default)]
pub(crate) struct Losses {
    sums: BTreeMap<(String, &'static str), u64>,
    /// Of each shard, since the last report.
    new: BTreeMap<(String, Option<usize>, &'static str), u64>,
}

impl Losses {
    /// `ring` is empty if there is one.
    pub(crate) fn add(&mut self, ring: &str, shard: Option<usize>, cause: &'static str, count: u64) {
        let ring = if ring.is_empty() { String::new() } else { format!("{ring}: ") };
        let new = self.new.entry((ring.clone(), shard, cause)).or_default();
        for sum in [self.sums.entry((ring, cause)).or_default(), new] {
            *sum = sum.saturating_add(count);
        }
    }

    /// A line for each shard and cause with losses since the last call.
    pub(crate) fn report(&mut self, mut say: impl FnMut(String)) {
        for ((ring, shard, cause), count) in std::mem::take(&mut self.new) {
            let shard = shard.map_or(String::new(), |shard| format!("shard {shard}: "));
            say(format!("mapring: lost: {ring}{shard}{count} {cause}"));
        }
    }

    /// Says how many records were read, with `more` about them, and how many were lost.
    pub(crate) fn conclude(&self, records: u64, more: &str) {
        if self.is_empty() {
            output::note(format_args!("mapring: {records} records, none lost{more}"));
        } else {
            eprintln!("mapring: {records} records{more}; lost: {self}");
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }
}

/// `12 overwritten, 3 no free slot`, or `calls: 12 overwritten, switches: 3 no free slot`
impl fmt::Display for Losses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sums: Vec<_> =
            self.sums.iter().map(|((ring, cause), count)| format!("{ring}{count} {cause}")).collect();
        f.write_str(&sums.join(", "))
    }
}
