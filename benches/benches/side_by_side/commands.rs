//! One command to a program: pushed, carried out by the next event, acknowledged.

use std::cell::Cell;
use std::hint::black_box;
use std::time::Instant;

use anyhow::{Result, ensure};
use libbpf_rs::skel::Skel;
use libbpf_rs::{MapCore, MapHandle, ProgramMut, UserRingBuffer};
use mapring::globals::Globals;
use mapring::{Commands, OpenOptions};
use mapring_benches::{Plan, Report, Row, Spread, interleave};

use crate::programs::{Program, Record, load, record};

/// Commands per block.
const COUNT: u64 = 1024;
/// Drains per run of the idle programs: `COUNT` in `bpf/commands.bpf.c`.
const IDLE: u64 = 64;

/// The event: a system call that the programs trace.
fn event() {
    black_box(rustix::process::getppid());
}

/// What limits a command, with the nanoseconds of both sides, of the event alone, and of `push` alone.
fn tried(ours: f64, theirs: f64, event: f64, push: f64) -> String {
    format!(
        "The event, a system call whose program does nothing, takes {event:.0} ns of our {ours:.0} ns and of the peer's \
         {theirs:.0} ns; it is not subtracted. The rest is {:.0} ns beside {:.0} ns, a ratio of {:.2}. `push` takes {push:.0} ns, \
         for the lock of the writer's threads and the copy. The program takes a lock by compare-and-swap, copies the command, \
         and acknowledges it.",
        ours - event,
        theirs - event,
        (ours - event) / (theirs - event)
    )
}

pub(crate) fn run(plan: Plan, report: &mut Report) -> Result<()> {
    let skel = load!(commands::CommandsSkelBuilder);
    let mut program = |name: &str| -> ProgramMut<'_> {
        skel.object().progs_mut().find(|program| program.name() == name).expect("as in the source")
    };
    let [mut ours_program, mut default_program, mut quiet_program, mut nothing] =
        ["ours_on_enter", "theirs_on_enter", "theirs_without_wakeup", "nothing_on_enter"].map(&mut program);
    let commands = Commands::<Record>::open_with(&skel.maps.orders, OpenOptions::new().write(true))?;
    let writer = commands.writer()?;
    let globals = Globals::open(&skel.maps.bss)?;
    let sums = [globals.variable::<u64>("our_sum")?, globals.variable("their_sum")?];
    let drained = globals.variable::<u64>("their_count")?;
    let handle = MapHandle::from_map_id(skel.maps.user_ringbuf.info()?.info.id)?;
    let buffer = UserRingBuffer::new(&handle)?;

    // Each program is attached only while it is measured.
    let n = Cell::new(0);
    let block = |program: &mut ProgramMut<'_>, side: usize, send: &dyn Fn(&Record) -> Result<()>| {
        let link = program.attach()?;
        let (begin, before) = (n.get(), sums[side].get()?);
        n.set(begin + COUNT);
        let start = Instant::now();
        for n in begin..begin + COUNT {
            send(black_box(&record(n)))?;
        }
        let ns = start.elapsed().as_nanos() as f64 / COUNT as f64;
        drop(link);
        let expected = (begin..begin + COUNT).map(|n| n + n + 6).sum::<u64>();
        ensure!(sums[side].get()?.wrapping_sub(before) == expected, "the program got something else");
        Ok(ns)
    };
    let push = |record: &Record| {
        let number = writer.push(record)?;
        event();
        while writer.acknowledged() < number {
            event(); // another CPU's event has the lock
        }
        Ok(())
    };
    let sent = Cell::new(0);
    let send = |record: &Record| -> Result<()> {
        sent.set(sent.get() + 1);
        let mut sample = buffer.reserve(size_of::<Record>())?;
        sample.copy_from_slice(bytemuck::bytes_of(record));
        Ok(buffer.submit(sample)?)
    };
    let submit = |record: &Record| {
        send(record)?;
        event();
        while drained.get()? < sent.get() {
            event(); // another CPU's event drains
        }
        Ok(())
    };
    let events = |program: &mut ProgramMut<'_>| -> Result<f64> {
        let link = program.attach()?;
        let start = Instant::now();
        (0..COUNT).for_each(|_| event());
        let ns = start.elapsed().as_nanos() as f64 / COUNT as f64;
        drop(link);
        Ok(ns)
    };
    let [ours, theirs, quiet, event_alone] = interleave(
        plan,
        [
            &mut || block(&mut ours_program, 0, &push),
            &mut || block(&mut default_program, 1, &submit),
            &mut || block(&mut quiet_program, 1, &submit),
            &mut || events(&mut nothing),
        ],
    )?;
    // All commands of a block, one after the other. The next events carry them out; this is not timed.
    let send_all = |program: &mut ProgramMut<'_>, send: &dyn Fn(&Record) -> Result<()>| -> Result<f64> {
        let start = Instant::now();
        for n in 0..COUNT {
            send(black_box(&record(n)))?;
        }
        let ns = start.elapsed().as_nanos() as f64 / COUNT as f64;
        let link = program.attach()?;
        let carried_out = || anyhow::Ok((commands.acknowledged()?, drained.get()?));
        while carried_out()? != (commands.pushed()?, sent.get()) {
            event();
        }
        drop(link);
        Ok(ns)
    };
    let [push_alone, send_alone] = interleave(
        plan.within(0.3),
        [&mut || send_all(&mut ours_program, &|record| Ok(_ = writer.push(record)?)), &mut || {
            send_all(&mut quiet_program, &send)
        }],
    )?;
    let what = "command: 56 B to a program, pushed, carried out, acknowledged";
    let peer = "user ringbuf, `bpf_user_ringbuf_drain` with NO_WAKEUP";
    let median = |samples: &[f64]| Spread::of(samples.iter().copied()).median;
    let tried = tried(median(&ours), median(&quiet), median(&event_alone), median(&push_alone));
    report.add([
        Row::new(what, &ours, peer, &quiet).target("command", 0.7).tried(&tried),
        Row::new(what, &ours, "user ringbuf, `bpf_user_ringbuf_drain`", &theirs),
        Row::new("… the event alone, with an empty program", &event_alone, peer, &quiet),
        Row::new("… `push` alone", &push_alone, "user ringbuf, reserve and submit alone", &send_alone),
    ]);

    let idle = |program: &ProgramMut<'_>| Ok(Program::new(program).run([0_u64; 2])?[1] as f64 / IDLE as f64);
    let [ours, theirs] =
        interleave(plan, [&mut || idle(&skel.progs.ours_idle), &mut || idle(&skel.progs.theirs_idle)])?;
    report.add([Row::new(
        "command: an event without commands",
        &ours,
        "user ringbuf, drained empty",
        &theirs,
    )]);
    Ok(())
}
