//! What ran on each CPU around time zero: turns of threads, few enough for a page.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use serde::Serialize;

use super::super::super::event::{Event, What};
use super::super::super::names::{Id, Names};
use super::super::figures::Task;
use super::super::largest::Map;
use super::super::tasks::{Tasks, Turn};

/// So many turns before time zero are kept, and so many after it.
const KEPT: usize = 1 << 19;
/// So many threads have names in the page: those that ran longest.
const THREADS: usize = 4096;
/// So many steps has the curve of the time that CPUs were busy.
const STEPS: u64 = 500;

/// How many bits of the distance from time zero are shifted out, until what is left is short.
const SHIFTS: [u32; 12] = [0, 2, 4, 6, 7, 8, 9, 10, 11, 12, 14, 16];

/// The turns that are kept.
pub(in super::super) struct Lanes {
    zero: u64,
    before: VecDeque<Kept>,
    after: Vec<Kept>,
    /// From where on none of the first ones is missing, and up to where none of the last ones.
    times: Range<u64>,
    /// The threads that ran longest.
    threads: Vec<(Id, Task)>,
}

struct Kept {
    turn: Turn,
    end: End,
}

/// How a turn ended, or what it stands for. The page has the number.
#[derive(Clone, Copy)]
enum End {
    /// The thread could go on.
    Preempted,
    Waits,
    Blocked,
    /// It ended, or was stopped.
    Over,
    /// It was running at the end of the report.
    Running,
    /// Many short turns; plus how many percent of the time the CPU was busy.
    Merged = 8,
}

/// The lanes, as the page has them. Times are in nanoseconds. Where nothing else is said, they count from time zero.
#[derive(Serialize)]
pub(super) struct Drawn<'l> {
    /// Time zero: what stopped the recording, or the end.
    zero_ns: u64,
    from: i64,
    until: i64,
    /// Turns that are drawn together with others, of how many.
    merged: usize,
    turns: usize,
    /// Turns shorter than this part of their distance from time zero may be drawn together.
    part: u64,
    /// Of all CPUs, how busy they were in each step, in percent.
    busy: Vec<u8>,
    cpus: Vec<Lane>,
    threads: Vec<&'l Task>,
}

#[derive(Serialize)]
struct Lane {
    cpu: u16,
    /// Four numbers for each turn: the time since the last one, its length, the thread (its place in `threads`; one more than that is
    /// any other), and how it ended.
    turns: Vec<u64>,
}

impl Lanes {
    /// Around this time; `None` is the end of the report.
    pub(in super::super) fn new(zero: Option<u64>) -> Self {
        let (before, after) = (VecDeque::new(), Vec::new());
        Self { zero: zero.unwrap_or(u64::MAX), before, after, times: 0..u64::MAX, threads: Vec::new() }
    }

    /// `tasks` has not seen the event.
    pub(in super::super) fn see(&mut self, event: &Event, tasks: &Tasks, names: &Names) {
        let What::Switch { state, .. } = event.what else { return };
        let end = match state {
            0 | 0x100 => End::Preempted,
            1 => End::Waits,
            2 => End::Blocked,
            _ => End::Over,
        };
        if let Some(turn) = tasks.turn(event, names) {
            self.keep(Kept { turn, end });
        }
    }

    fn keep(&mut self, kept: Kept) {
        let until = kept.turn.times.end;
        if until > self.zero {
            match self.after.len() {
                KEPT => self.times.end = self.times.end.min(until),
                _ => self.after.push(kept),
            }
            return;
        }
        if self.before.len() == KEPT
            && let Some(first) = self.before.pop_front()
        {
            self.times.start = self.times.start.max(first.turn.times.end);
        }
        self.before.push_back(kept);
    }

    /// The report, of this time, ends.
    pub(in super::super) fn finish(&mut self, times: Range<u64>, tasks: &Tasks, names: &mut Names) {
        tasks.last_turns(times.end).for_each(|turn| self.keep(Kept { turn, end: End::Running }));
        self.zero = self.zero.min(times.end);
        self.times = self.times.start.max(times.start)..self.times.end.min(times.end);
        let mut ran: Map<Id, u64> = Map::default();
        for Turn { tid, times, .. } in self.kept().map(|kept| &kept.turn) {
            *ran.entry(*tid).or_default() += times.end - times.start;
        }
        let mut threads: Vec<_> = ran.into_iter().collect();
        threads.sort_unstable_by_key(|(tid, ns)| (std::cmp::Reverse(*ns), *tid));
        threads.truncate(THREADS);
        self.threads = threads.into_iter().map(|(tid, _)| (tid, tasks.task(tid, names, times.end))).collect();
    }

    fn kept(&self) -> impl Iterator<Item = &Kept> {
        let Range { start, end } = self.times;
        let all = self.before.iter().chain(&self.after);
        all.filter(move |kept| kept.turn.times.end > start && kept.turn.times.start < end)
    }

    /// At most so many turns: the further they are from time zero, the sooner are short ones drawn together.
    pub(super) fn drawn(&self, most: usize) -> Drawn<'_> {
        let Range { start, end } = self.times;
        let mut cpus: BTreeMap<u16, Vec<&Kept>> = BTreeMap::new();
        self.kept().for_each(|kept| cpus.entry(kept.turn.cpu).or_default().push(kept));
        let numbers: Map<Id, u64> = (0..).zip(&self.threads).map(|(at, (tid, _))| (*tid, at)).collect();
        let turns = cpus.values().map(Vec::len).sum();
        let merged = |shift| {
            let lane = |(&cpu, kept): (&u16, &Vec<&Kept>)| (cpu, self.merged(kept, shift));
            cpus.iter().map(lane).collect::<Vec<_>>()
        };
        let fits = |shift| merged(shift).iter().map(|(_, merged)| merged.len()).sum::<usize>() <= most;
        // The finest that fits. Nothing is merged where all bits are shifted out.
        let shift = match turns <= most {
            true => Some(63),
            false => SHIFTS.partition_point(|&shift| fits(shift)).checked_sub(1).map(|at| SHIFTS[at]),
        };
        let lanes = shift.map(merged).unwrap_or_default();
        let shift = shift.unwrap_or(0);
        let merged = turns - lanes.iter().flat_map(|(_, it)| it).filter(|it| it.count == 1).count();
        let relative = |ns: u64| ns.cast_signed().wrapping_sub(self.zero.cast_signed());
        let lane = |(cpu, merged): (u16, Vec<Merged>)| {
            let (mut at, mut turns) = (start, Vec::with_capacity(merged.len() * 4));
            for Merged { times, tid, end, .. } in merged {
                let thread = numbers.get(&tid).copied().unwrap_or(numbers.len() as u64);
                turns.extend([times.start.saturating_sub(at), times.end - times.start, thread, end]);
                at = times.end;
            }
            Lane { cpu, turns }
        };
        let busy = self.busy(&cpus);
        Drawn {
            zero_ns: self.zero,
            from: relative(start),
            until: relative(end),
            merged,
            turns,
            part: 1 << shift,
            busy,
            cpus: lanes.into_iter().map(lane).collect(),
            threads: self.threads.iter().map(|(_, task)| task).collect(),
        }
    }

    /// The turns of a CPU, cut to the time of the lanes; neighbours that are short for their distance from time zero are one.
    fn merged(&self, kept: &[&Kept], shift: u32) -> Vec<Merged> {
        let Range { start, end } = self.times;
        let mut all: Vec<Merged> = Vec::new();
        let mut group = Group::default();
        for Kept { turn: Turn { tid, times, .. }, end: how } in kept {
            let times = times.start.max(start)..times.end.min(end);
            let short = times.end.abs_diff(self.zero) >> shift;
            let is_short = times.end - times.start < short;
            if !is_short || !group.has_room(&times, short) {
                all.extend(group.take());
            }
            match is_short {
                true => group.add(times, *tid, *how as u64),
                false => all.push(Merged { times, tid: *tid, end: *how as u64, count: 1 }),
            }
        }
        all.extend(group.take());
        all
    }

    fn busy(&self, cpus: &BTreeMap<u16, Vec<&Kept>>) -> Vec<u8> {
        let Range { start, end } = self.times;
        let step = (end.saturating_sub(start) / STEPS).max(1);
        let mut busy = vec![0; usize::try_from(STEPS).unwrap_or_default()];
        for Kept { turn: Turn { times, .. }, .. } in cpus.values().flatten() {
            let mut at = times.start.max(start);
            while at < times.end.min(end) {
                let place = (at - start) / step;
                let until = times.end.min(start + (place + 1) * step);
                if let Some(busy) = busy.get_mut(usize::try_from(place).unwrap_or(usize::MAX)) {
                    *busy += until - at;
                }
                at = until;
            }
        }
        let all = step * cpus.len().max(1) as u64;
        busy.into_iter().map(|ns: u64| u8::try_from(ns * 100 / all).unwrap_or(100).min(100)).collect()
    }
}

/// What the page draws as one.
struct Merged {
    times: Range<u64>,
    /// The thread that ran longest.
    tid: Id,
    end: u64,
    count: usize,
}

/// Short turns, one after the other.
#[derive(Default)]
struct Group {
    times: Range<u64>,
    ran: Map<Id, u64>,
    count: usize,
    end: u64,
}

impl Group {
    /// Whether a turn of these times belongs to it: what is drawn together is not long itself, and has no long gap.
    fn has_room(&self, times: &Range<u64>, short: u64) -> bool {
        self.count == 0
            || times.end - self.times.start <= short.saturating_mul(2) && times.start - self.times.end < short
    }

    fn add(&mut self, times: Range<u64>, tid: Id, end: u64) {
        if self.count == 0 {
            self.times.start = times.start;
        }
        *self.ran.entry(tid).or_default() += times.end - times.start;
        (self.times.end, self.end, self.count) = (times.end, end, self.count + 1);
    }

    fn take(&mut self) -> Option<Merged> {
        let Self { times, ran, count, end } = std::mem::take(self);
        let busy: u64 = ran.values().sum();
        let (tid, _) = ran.into_iter().max_by_key(|(tid, ns)| (*ns, *tid))?;
        let percent = busy * 100 / (times.end - times.start).max(1);
        let end = if count == 1 { end } else { End::Merged as u64 + percent.min(100) };
        Some(Merged { times, tid, end, count })
    }
}
