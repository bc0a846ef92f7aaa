//! Nested programs, in every way that a few of them can interrupt each other, from every state of the ring; and
//! programs that never continue.
#![cfg(not(loom))]

use mapring_bpf_loom::history::{End, History};
use mapring_bpf_loom::nest::{Choices, Nest};
use mapring_bpf_loom::object::{Program, Variant, variants};
use mapring_bpf_loom::ring::{Reader, Ring};

const RINGS: [&str; 5] = ["narrow1", "narrow2", "narrow4", "wide1", "wide2"];

/// Each ring, each distinct code of its programs (with `prefix` before their names), and each number of earlier
/// records, up to more than a lap.
fn everywhere(prefix: &str, verbs: [&str; 2], mut model: impl FnMut(&'static str, &Variant, u64)) {
    for name in RINGS {
        for variant in variants(&verbs.map(|verb| format!("{prefix}{verb}_{name}"))) {
            (0..=Ring::new(name).slots() + 1).for_each(|before| model(name, &variant, before));
        }
    }
}

/// Up to three programs interrupt each other. Returns the number of runs, and of drops.
fn nest(prefix: &str) {
    let (mut runs, mut drops) = (0, 0);
    everywhere(prefix, ["push", "discard"], |name, variant, before| {
        let (all, discards) = if before % 2 == 0 { (3, false) } else { (2, true) };
        runs += Choices::explore(|choices| {
            let ring = Ring::new(name);
            let mut history = ring.push_all(&variant.programs[0], variant.order, 1..=before);
            let program = &variant.programs[usize::from(discards)];
            let mut nest =
                Nest { ring: &ring, programs: &[program], discards, order: variant.order, seen: &mut |_| () };
            nest.run(choices, &mut { all }, &mut history);
            drops += history.dropped();
            ring.check_again(&variant.programs[0], variant.order, history);
        });
    });
    assert!(drops > 0, "never dropped anything");
    println!("{prefix}{runs} ways to nest, {drops} drops");
}

#[test]
fn nested_programs_lose_nothing() {
    nest("");
}

#[test]
fn programs_with_guarded_claims_lose_nothing() {
    nest("guarded ");
}

/// Also if the lap before was discarded, so that no slot's sequence is the one that a claim tries first.
#[test]
fn programs_get_tickets_in_the_order_in_which_they_begin() {
    for prefix in ["", "guarded "] {
        for variant in variants(&[format!("{prefix}push_narrow8")]) {
            for end in [End::Published(1), End::Discarded] {
                let runs = Choices::explore(|choices| {
                    let ring = Ring::new("narrow8");
                    let mut history = History::default();
                    (0..ring.slots() + 1).for_each(|t| history.note(t, end));
                    ring.restore(&history);
                    let programs = &[&variant.programs[0]];
                    let mut nest = Nest {
                        ring: &ring,
                        programs,
                        discards: false,
                        order: variant.order,
                        seen: &mut |_| (),
                    };
                    nest.run(choices, &mut 2, &mut history);
                    history.check_order();
                    ring.check(&history);
                });
                println!("{prefix}{end:?}: {runs} ways");
            }
        }
    }
}

/// Two tasks of one CPU preempt each other, and others interrupt them; each claims in either way.
#[test]
fn tasks_that_preempt_each_other_lose_nothing() {
    let (mut runs, mut drops) = (0, 0);
    for name in RINGS {
        let [guarded, others] = ["guarded", "x86"]
            .map(|way| variants(&[format!("{way} push_{name}"), format!("{way} discard_{name}")]));
        for (guarded, other) in
            guarded.iter().flat_map(|guarded| others.iter().map(move |other| (guarded, other)))
        {
            let same_maps =
                |program: &Program| Program { maps: guarded.programs[0].maps.clone(), ..program.clone() };
            let [all_guarded, all_others]: [[_; 2]; 2] =
                [guarded, other].map(|variant| [0, 1].map(|verb| same_maps(&variant.programs[verb])));
            for before in 0..=Ring::new(name).slots() + 1 {
                let (verb, discards) = if before % 2 == 0 { (0, false) } else { (1, true) };
                let (ours, theirs) = (&all_guarded[verb], &all_others[verb]);
                for (programs, preemptions, interrupts) in [
                    (&[ours][..], 3, 0),
                    (&[ours], 1, 2),
                    (&[ours, theirs], 2, 1),
                    (&[theirs, ours], 2, 1),
                    (&[theirs], 2, 1),
                ] {
                    runs += Choices::explore(|choices| {
                        let ring = Ring::new(name);
                        let order = guarded.order;
                        let mut history = ring.push_all(&all_guarded[0], order, 1..=before);
                        let mut nest = Nest { ring: &ring, programs, discards, order, seen: &mut |_| () };
                        nest.run_tasks(choices, preemptions, &mut { interrupts }, &mut history);
                        drops += history.dropped();
                        ring.check_again(&all_guarded[0], order, history);
                    });
                }
            }
        }
    }
    assert!(drops > 0, "never dropped anything");
    println!("{runs} ways to preempt, {drops} drops");
}

#[test]
fn programs_that_never_go_on_cost_their_slot_and_nothing_else() {
    let mut held = 0;
    everywhere("", ["push", "output"], |name, variant, before| {
        for stop in 0.. {
            let ring = Ring::new(name);
            let (order, push) = (variant.order, &variant.programs[0]);
            let mut history = ring.push_all(push, order, 1..=before);
            let mut machine = ring.machine(&variant.programs[1], order, 9);
            let returned = (0..stop).find_map(|_| machine.step());
            ring.account(&mut history, machine.changes(), returned, End::Published(9));
            history = history.with(ring.push_all(push, order, 20..24 + ring.slots()));
            // Patient readers and others.
            for patience in [0, 3] {
                let reader = Reader::at(0, patience).finish(&ring, &history);
                assert!(history.ended() == 0 || reader.stats() != Default::default());
            }
            ring.check(&history);
            held += u64::from(history.tickets().any(|(_, end)| end == End::Held));
            if returned.is_some() {
                break;
            }
        }
    });
    assert!(held > 0, "never stopped in a record");
    println!("{held} tickets held for good");
}

#[test]
fn what_is_written_is_read() {
    everywhere("", ["output", "discard"], |name, variant, before| {
        let ring = Ring::new(name);
        let history = ring.push_all(&variant.programs[0], variant.order, 1..=before);
        ring.check(&history);
        assert_eq!(history.tickets().count() as u64, before);
        let mut history = History::default().with(history);
        let mut machine = ring.machine(&variant.programs[1], variant.order, 9);
        let returned = machine.run();
        ring.account(&mut history, machine.changes(), Some(returned), End::Discarded);
        ring.check(&history);
    });
}
