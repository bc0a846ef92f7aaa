//! The models of rings: compiled programs and the production reader at the same time. The number in each `check` limits
//! the preemptions; without one, every interleaving runs.

mod ring;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use self::ring::{
    discards, lapping, mixed, nest, nested, overtaken, tasks, tearing, two_writers, two_writers_a_reader,
};
use crate::cell;
use crate::commands;
use crate::keeping;
use crate::object::Program;
use crate::order::Order;
use crate::percpu;
use crate::resizable;
use crate::ring::Reader;
use crate::stuck;
use crate::tails;
use crate::waking;

/// Patience that lasts longer than any model.
pub(crate) const PATIENT: u64 = 1 << 20;

/// The events of a reader that is going to sleep.
const GOING: &[&str] = &["found", "woken", "had ended"];

/// A program on a machine.
#[derive(Clone)]
pub struct Code {
    /// The program.
    pub program: Arc<Program>,
    /// The machine.
    pub order: Order,
}

/// A model.
pub struct Model {
    /// Its name.
    pub name: &'static str,
    /// Its program: `verb_ring`; `guarded verb_ring`, as loaded on a kernel that has the guard; or `x86 verb_ring`, as
    /// compiled for x86 and loaded on a kernel without the guard.
    pub program: &'static str,
    /// Runs it, and returns the number of executions.
    model: Run,
    /// The events that must happen in some execution; otherwise the model proves nothing.
    pub shows: &'static [&'static str],
}

type Run = fn(&'static str, Code, Seen) -> u64;

const fn model(name: &'static str, program: &'static str, run: Run, shows: &'static [&'static str]) -> Model {
    Model { name, program, model: run, shows }
}

/// All models, the fastest first.
pub const MODELS: &[Model] = &[
    model("programs nested in each other", "push_narrow2", nest, &["slow claim"]),
    model("programs nested in each other", "push_wide1", nest, &["dropped"]),
    model("programs nested in each other", "push_placed2", nest, &["slow claim"]),
    model("tasks that preempt each other", "guarded push_narrow2", tasks, &["slow claim"]),
    model("tasks that preempt each other", "guarded push_placed2", tasks, &["slow claim"]),
    model("tasks that preempt each other", "guarded push_wide1", tasks, &["dropped"]),
    model("guarded claims and others", "guarded push_narrow2", mixed, &["slow claim"]),
    model("guarded claims and others", "x86 push_narrow2", mixed, &["slow claim"]),
    model("guarded claims and others", "x86 push_wide1", mixed, &["dropped"]),
    model("a guarded claim that is overtaken", "x86 push_narrow2", overtaken, &["slow claim"]),
    model("two writers", "push_placed2", two_writers, &["slow claim"]),
    model("two writers", "push_narrow1", two_writers, &["dropped"]),
    model("two writers", "push_narrow2", two_writers, &["slow claim"]),
    model("a writer that laps", "push_narrow2", lapping, &["lapped", "meanwhile"]),
    model("discards", "discard_narrow1", discards, &["discarded", "meanwhile"]),
    model("nested writers", "push_narrow2", nested, &["meanwhile", "slow claim"]),
    model("nested writers", "push_narrow4", nested, &["slow claim"]),
    model("nested writers", "push_placed2", nested, &["meanwhile", "slow claim"]),
    model("programs nested in each other", "guarded push_narrow2", nest, &["slow claim"]),
    model("programs nested in each other", "guarded push_wide1", nest, &["dropped"]),
    model("programs nested in each other", "guarded push_placed4", nest, &["slow claim"]),
    model("a writer that laps", "guarded push_narrow2", lapping, &["lapped", "meanwhile"]),
    model("discards", "guarded discard_narrow1", discards, &["discarded", "meanwhile"]),
    model("nested writers", "guarded push_narrow2", nested, &["meanwhile", "slow claim"]),
    model("nested writers", "guarded push_narrow4", nested, &["slow claim"]),
    model("a writer of wide records", "guarded push_wide1", tearing, &["torn", "meanwhile"]),
    model("a writer of wide records", "push_wide1", tearing, &["torn", "meanwhile"]),
    model("a copied record", "output_wide1", tearing, &["torn", "meanwhile"]),
    model("stuck slots, a reader", "push_narrow8", stuck::read, &["dropped", "meanwhile", "stepped over"]),
    model(
        "stuck slots, a reader",
        "guarded push_narrow16",
        stuck::read,
        &["dropped", "meanwhile", "stepped over"],
    ),
    model("two writers, a reader", "push_wide1", two_writers_a_reader, &["meanwhile"]),
    model("two writers, a reader", "push_narrow2", two_writers_a_reader, &["meanwhile"]),
    model(
        "a ring that is replaced",
        "push_moving",
        resizable::replaced,
        &["left", "given back", "left what was given back", "in the old ring", "read, then left"],
    ),
    model(
        "a ring that is replaced, and read by system call",
        "push_moving",
        resizable::replaced_by_call,
        &["left", "given back", "left what was given back", "in the old ring", "read, then left"],
    ),
    model(
        "two programs while their ring is replaced",
        "push_moving",
        resizable::two_programs,
        &["one in each", "both given back"],
    ),
    model("a reader falls asleep", "push_waking4", waking::publish, &["found", "woken", "both"]),
    model("a reader falls asleep", "guarded push_waking4", waking::publish, &["found", "woken", "both"]),
    model("a reader falls asleep", "discard_waking4", waking::discard, &["found", "woken", "both"]),
    model("a reader falls asleep", "output_waking4", waking::publish, &["found", "woken", "both"]),
    model("a reader is going to sleep", "push_waking4", waking::grace_period, GOING),
    model("nobody has slept for long", "push_waking4", waking::idle, waking::IDLES),
    model("programs look where they are asked to", "push_waking4", waking::looks, &["looked", "passed"]),
    model("a reader that waits for two", "push_waking4", waking::watermark, &["found one", "woken"]),
    model("a reader that sleeps again", "push_waking4", waking::again, &["rung before", "woken"]),
    model("two CPUs wake a reader", "push_waking4", waking::one_rings, &["both wanted to"]),
    model(
        "two CPUs wake a reader, one is refused",
        "push_waking4",
        waking::one_is_refused,
        &["both wanted to", "the other one rang", "left for the next"],
    ),
    model(
        "a bell that is refused",
        "push_waking4",
        waking::refused,
        &["the other one is woken", "the other one sleeps"],
    ),
    model("programs that wake, nested in each other", "push_waking4", waking::nested, &["too few", "woken"]),
    model(
        "a program that is interrupted as it wakes",
        "push_waking4",
        waking::interrupted,
        &["interrupted as it wakes", "found", "held", "woken"],
    ),
    model("a reader of tails falls asleep", "push_tailed4", waking::publish, &["found", "woken", "both"]),
    model(
        "a reader of tails falls asleep",
        "guarded push_tailed4",
        waking::publish,
        &["found", "woken", "both"],
    ),
    model("a reader of tails is going to sleep", "push_tailed4", waking::grace_period, GOING),
    model("programs look where they are asked to", "push_tailed4", waking::looks, &["looked", "passed"]),
    model("nobody has slept for long", "push_tailed4", waking::idle, waking::IDLES),
    model("a reader of tails that waits for two", "push_tailed4", waking::watermark, &["found one", "woken"]),
    model("a reader of tails that sleeps again", "push_tailed4", waking::again, &["rung before", "woken"]),
    model("two CPUs wake a reader of tails", "push_tailed4", waking::one_rings, &["both wanted to"]),
    model(
        "two CPUs wake a reader of tails, one is refused",
        "push_tailed4",
        waking::one_is_refused,
        &["both wanted to", "the other one rang", "left for the next"],
    ),
    model(
        "a bell of a reader of tails that is refused",
        "push_tailed4",
        waking::refused,
        &["the other one is woken", "the other one sleeps"],
    ),
    model("a reader becomes required", "push_keeping2", keeping::becomes_required, keeping::BECOMES),
    model("a reader becomes required", "guarded push_keeping2", keeping::becomes_required, keeping::BECOMES),
    model("a required reader reads", "push_keeping2", keeping::reads, &["dropped", "kept up"]),
    model("a required reader reads", "guarded push_keeping2", keeping::reads, &["dropped", "kept up"]),
    model("a required reader of tails reads", "push_kept4", tails::keep::reads, &["dropped", "kept up"]),
    model(
        "a required reader of tails reads",
        "guarded push_kept4",
        tails::keep::reads,
        &["dropped", "kept up"],
    ),
    model(
        "a reader of tails becomes required",
        "push_kept4",
        tails::keep::becomes_required,
        keeping::BECOMES,
    ),
    model(
        "a reader of tails becomes required",
        "guarded push_kept4",
        tails::keep::becomes_required,
        keeping::BECOMES,
    ),
    model("programs that are held back, nested", "push_keeping2", keeping::nested, &["dropped", "room"]),
    model(
        "programs that are held back, nested",
        "guarded push_keeping2",
        keeping::nested,
        &["dropped", "room"],
    ),
    model("two writers of a taken cell", "set_cell", cell::taken, &["dropped"]),
    model("two writers of a taken cell", "update_cell", cell::taken, &["dropped"]),
    model("two writers, a reader", "set_cell", cell::set, &["meanwhile", "dropped"]),
    model("two writers, a reader", "update_cell", cell::update, &["meanwhile", "dropped"]),
    model("the only writer, a reader", "alone_cell", cell::alone, &["meanwhile"]),
    model("two writers, a reader", "add_counters", cell::count, &["meanwhile"]),
    model("two writers, a reader", "add_histogram", cell::observe, &["meanwhile"]),
    model("a writer", "read_latch", cell::read_latch, &["meanwhile", "looked again"]),
    model("a writer", "read_global_latch", cell::read_latch, &["meanwhile", "looked again"]),
    model("two writers of a taken cell", "set_global_cell", cell::taken, &["dropped"]),
    model("two writers of a taken cell", "update_global_cell", cell::taken, &["dropped"]),
    model("two writers, a reader", "set_global_cell", cell::set, &["meanwhile", "dropped"]),
    model("two writers, a reader", "update_global_cell", cell::update, &["meanwhile", "dropped"]),
    model("the production writer beside it", "set_cell", cell::beside_rust, BESIDE_RUST),
    model("the production writer beside it", "set_global_cell", cell::beside_rust, BESIDE_RUST),
    model(
        "an event after a push",
        "drain_commands",
        commands::next_event,
        &["busy", "carried out by another"],
    ),
    model("an event after the acknowledgement", "drain_commands", commands::acknowledged, &["acknowledged"]),
    model("slots that are used again", "drain_commands", commands::again, &["full", "again"]),
    model("two programs that drain", "drain_commands", commands::two_programs, &["shared", "busy", "idle"]),
    model(
        "a program that takes over",
        "drain_commands",
        commands::handed_over,
        &["one carried out both", "after the other"],
    ),
    model("forged words", "drain_commands", commands::forged, &["skipped", "locked"]),
    model("two writers of a taken cell", "use_percpu_cell", percpu::taken, &["dropped"]),
    model("a program that looks again", "use_percpu_cell", percpu::later, &["meanwhile", "busy"]),
    model("a program that reads", "use_percpu_cell", percpu::cell, &["meanwhile", "looked again", "busy"]),
    model(
        "two writers, a program that reads",
        "use_percpu_cell",
        percpu::two_writers,
        &["meanwhile", "dropped"],
    ),
    model("two writers, a program that reads", "use_percpu_counters", percpu::count, &["meanwhile"]),
];

/// The events of a program and the production writer.
const BESIDE_RUST: &[&str] = &[
    "meanwhile",
    "before the production writer",
    "after the production writer",
    "dropped",
    "in the way of the production writer",
];

/// The events of all executions.
#[derive(Clone, Default)]
pub struct Seen(Arc<Mutex<BTreeSet<&'static str>>>);

impl Seen {
    pub(crate) fn note(&self, what: &'static str, happened: bool) {
        if happened {
            self.0.lock().unwrap().insert(what);
        }
    }

    fn note_reader(&self, reader: &Reader) {
        self.note("meanwhile", !reader.log().is_empty());
        self.note("torn", reader.stats().torn > 0);
    }
}

impl Model {
    /// Runs it with `code`, and checks that the required events happened. Returns the number of executions.
    pub fn check(&self, code: Code) -> u64 {
        let (runs, seen) = self.run(code);
        let missing: Vec<_> = self.shows.iter().filter(|&what| !seen.contains(what)).collect();
        // Real threads may never have met.
        assert!(cfg!(not(loom)) || missing.is_empty(), "{}: never {missing:?}, only {seen:?}", self.name);
        runs
    }

    /// Runs it with `code`. Returns the number of executions, and their events.
    pub fn run(&self, code: Code) -> (u64, BTreeSet<&'static str>) {
        let seen = Seen::default();
        let ring = self.program.split_once('_').unwrap().1;
        let runs = (self.model)(ring, code, seen.clone());
        let seen = seen.0.lock().unwrap().clone();
        (runs, seen)
    }
}
