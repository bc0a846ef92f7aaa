//! How long threads waited for the CPU quotas of their cgroups, apart from busy CPUs.

use std::collections::VecDeque;
use std::ops::Range;

use super::super::names::{Id, Names};
use super::figures::{Figures, QuotaWait, Total};
use super::largest::{Map, sorted};
use super::tasks::Tasks;

/// So many of the latest times of a quota are kept: a thread rarely waits for more of them.
const KEPT: usize = 16;

#[derive(Default)]
pub(super) struct Quotas {
    /// Of each CPU and quota.
    throttled: Map<(u16, u8), Throttled>,
    waits: Map<Id, Total>,
}

#[derive(Default)]
struct Throttled {
    count: u64,
    /// Until when, and for how long.
    last: VecDeque<(u64, u64)>,
}

impl Quotas {
    /// The quota was used up on this CPU, for so long until now.
    pub(super) fn throttled(&mut self, cpu: u16, quota: u8, until: u64, ns: u64) {
        let throttled = self.throttled.entry((cpu, quota)).or_default();
        if throttled.last.len() == KEPT {
            throttled.last.pop_front();
        }
        throttled.count += 1;
        throttled.last.push_back((until, ns));
    }

    /// A thread under this quota could run in these times, and did not. Returns for how long that was because of its quota.
    pub(super) fn waited(&mut self, cpu: u16, quota: u8, tid: Id, times: Range<u64>) -> u64 {
        let Some(throttled) = self.throttled.get(&(cpu, quota)) else { return 0 };
        let all = times.end.saturating_sub(times.start);
        let within = throttled.last.iter().filter(|(until, _)| *until > times.start);
        let sum = within.fold(0_u64, |sum, (_, ns)| sum.saturating_add(*ns));
        let ns = match sum > all {
            true if throttled.count == 1 => 0, // it may be all that was before the recording
            _ => sum.min(all),
        };
        if ns > 0 {
            self.waits.entry(tid).or_default().add(Total { count: 1, ns, max_ns: ns });
        }
        ns
    }

    pub(super) fn put(self, figures: &mut Figures, tasks: &Tasks, names: &mut Names, end: u64) {
        let waits = sorted(self.waits, |total| total.ns);
        figures.quota_waits =
            waits.map(|(tid, total)| QuotaWait { task: tasks.task(tid, names, end), total }).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_for_a_quota_as_far_as_that_was_used_up() {
        let mut quotas = Quotas::default();
        let wait = |quotas: &mut Quotas, quota, times| quotas.waited(0, quota, Id::default(), times);
        quotas.throttled(0, 1, 1_000, 9_999);
        assert_eq!(wait(&mut quotas, 1, 900..1_010), 0, "from before the recording");
        quotas.throttled(0, 1, 2_000, 80);
        assert_eq!(wait(&mut quotas, 1, 1_900..2_010), 80);
        assert_eq!(wait(&mut quotas, 1, 1_970..2_010), 40, "no longer than it waited");
        assert_eq!(wait(&mut quotas, 1, 2_000..2_100), 0, "later");
        assert_eq!(
            (wait(&mut quotas, 2, 1_900..2_010), quotas.waited(1, 1, Id::default(), 0..2_010)),
            (0, 0)
        );
        quotas.throttled(0, 3, 3_000, 70);
        assert_eq!(wait(&mut quotas, 3, 2_900..3_000), 70, "the first, which fits");
        let total = quotas.waits[&Id::default()];
        assert_eq!((total.count, total.ns, total.max_ns), (3, 190, 80));
    }
}
