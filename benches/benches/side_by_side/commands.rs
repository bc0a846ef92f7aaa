//! One command to a program: pushed, carried out by the next event, acknowledged.

use std::cell::Cell;
use std::hint::black_box;
use std::time::Instant;

use anyhow::{Result, ensure};
use libbpf_rs::skel::Skel;
use libbpf_rs::{MapCore, MapHandle, ProgramMut, UserRingBuffer};
use mapring::globals::Globals;
use mapring::{Commands, OpenOptions};
use mapring_benches::{Plan, Report, Row, interleave};

use crate::programs::{Program, Record, load, record};

/// Commands per block.
const COUNT: u64 = 1024;
/// Drains per run of the idle programs: `COUNT` in `bpf/commands.bpf.c`.
const IDLE: u64 = 64;

/// The event: a system call that the programs trace.
fn event() {
    black_box(rustix::process::getppid());
}

pub(crate) fn run(plan: Plan, report: &mut Report) -> Result<()> {
    let skel = load!(commands::CommandsSkelBuilder);
    let mut program = |name: &str| -> ProgramMut<'_> {
        skel.object().progs_mut().find(|program| program.name() == name).expect("as in the source")
    };
    let [mut ours, mut theirs, mut without_wakeup] =
        ["ours_on_enter", "theirs_on_enter", "theirs_without_wakeup"].map(&mut program);
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
    let submit = |record: &Record| {
        sent.set(sent.get() + 1);
        let mut sample = buffer.reserve(size_of::<Record>())?;
        sample.copy_from_slice(bytemuck::bytes_of(record));
        buffer.submit(sample)?;
        event();
        while drained.get()? < sent.get() {
            event(); // another CPU's event drains
        }
        Ok(())
    };
    let [ours, theirs, quiet] = interleave(
        plan,
        [&mut || block(&mut ours, 0, &push), &mut || block(&mut theirs, 1, &submit), &mut || {
            block(&mut without_wakeup, 1, &submit)
        }],
    )?;
    let what = "command: 56 B to a program, pushed, carried out, acknowledged";
    report.add([
        Row::new(what, &ours, "user ringbuf, `bpf_user_ringbuf_drain`", &theirs).target("command", 0.7),
        Row::new(what, &ours, "user ringbuf, `bpf_user_ringbuf_drain` with NO_WAKEUP", &quiet),
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
