//! The flight recorder beside ftrace, perf and trace-cmd: what a recorded event costs, and how fast a recording becomes
//! a trace. Also the cost of `mapring top`.

mod profile;
mod recorders;
mod switches;
mod whole;

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use libbpf_rs::num_possible_cpus;
use mapring::Counters;
use mapring_benches::{KEYS, Plan, Report, Row, interleave_all};
use rustix::process::geteuid;

pub(crate) use self::recorders::command;
use self::recorders::{ClockOnly, Empty, Flight, Ftrace, Held, Perf, Recorder, Scratch, TraceCmd};
use self::switches::{calls, pipes, yields};

/// Counters that `top` shows.
const COUNTERS: usize = 1000;
/// The recorder of switches and wakeups; and with a trigger that compares each switch, and is not met.
const SCHED: Flight = Flight(&["sched"]);
const ARMED: Flight = Flight(&["sched", "--stop-on", "runqueue > 1h"]);
/// The key of samples, which have a group of their own.
const PROFILE: &str = "flight_profile";
/// How often it reads them in a second, and the drawings (four a second) in a block.
const HZ: u32 = 1000;
const DRAWINGS: u32 = 4;

pub(crate) fn run(plan: Plan, report: &mut Report) -> Result<()> {
    let ours = |key: &&&str| key.starts_with("flight_") && **key != PROFILE || **key == "top_refresh";
    let Some(plan) = ready(plan, report, KEYS.iter().filter(ours)) else { return Ok(()) };
    events(plan, report)?;
    system_calls(plan, report)?;
    dumps(plan, report)?;
    top(plan, report)
}

pub(crate) fn profile(plan: Plan, report: &mut Report) -> Result<()> {
    ready(plan, report, [PROFILE].iter()).map_or(Ok(()), |plan| profile::run(plan, report))
}

pub(crate) fn whole(plan: Plan, report: &mut Report) -> Result<()> {
    ready(plan, report, ["the whole flight recorder"].iter()).map_or(Ok(()), |plan| whole::run(plan, report))
}

/// The plan of the flight recorder's groups, if it can run here. If not, the report says why `keys` are missing.
fn ready<'k>(plan: Plan, report: &mut Report, keys: impl Iterator<Item = &'k &'k str>) -> Option<Plan> {
    let why = match command() {
        Err(error) => format!("{error:#}"),
        Ok(_) if !geteuid().is_root() => "it needs root".to_owned(),
        Ok(_) => return Some(Plan { blocks: plan.blocks.min(21), least: plan.least.min(15), ..plan }),
    };
    keys.for_each(|key| report.skip(key, &why));
    None
}

/// The nanoseconds of `work` without a recorder, and what each recorder adds.
fn added(
    plan: Plan,
    work: impl Fn() -> Result<(f64, u64)>,
    recorders: &[&dyn Recorder],
) -> Result<(Vec<f64>, Vec<Vec<f64>>)> {
    let work = &work;
    let mut none = || Ok(work()?.0);
    let with = recorders.iter().map(|recorder| {
        move || {
            let running = recorder.start()?;
            let (ns, events) = work()?;
            let recorded = running.stop()?;
            // An event that interrupts the program that records another one is missing.
            ensure!(recorded >= events - events / 100, "{recorded} events recorded, of {events}");
            Ok(ns)
        }
    });
    let mut with: Vec<_> = with.collect();
    let mut sides: Vec<&mut dyn FnMut() -> Result<f64>> = vec![&mut none];
    sides.extend(with.iter_mut().map(|side| side as &mut dyn FnMut() -> Result<f64>));
    let mut samples = interleave_all(plan, &mut sides)?.into_iter();
    let none = samples.next().context("the side without a recorder")?;
    let more = |with: Vec<f64>| with.iter().zip(&none).map(|(with, none)| with - none).collect();
    let more = samples.map(more).collect();
    Ok((none, more))
}

/// What recording costs: a switch of tasks alone, and a benchmark that is nothing but switches and wakeups.
fn events(plan: Plan, report: &mut Report) -> Result<()> {
    let perf = Perf::find("sched:sched_switch");
    let clock = ClockOnly::load()?;
    let ftrace = Ftrace { events: &["sched/sched_switch"], stacks: false };
    let mut all: Vec<&dyn Recorder> = vec![&SCHED, &ARMED, &clock, &ftrace];
    match &perf {
        Ok(perf) => all.push(perf),
        Err(why) => report.skip("flight_event_perf", why),
    }
    let (_, added_by_all) = added(plan, yields, &all)?;
    let [flight, armed, clock, ftrace, perf @ ..] = &added_by_all[..] else { bail!("a side is missing") };
    let (switch, of_ftrace) = ("a switch of tasks recorded", "ftrace's ring buffer, the same event");
    let [ours, least, theirs] = [armed, clock, ftrace].map(|side| median(side));
    let tried = format!(
        "A BPF program that only reads the clock takes {least:.0} ns of each switch here, {:.2} of ftrace's {theirs:.0} ns: \
         no recorder by BPF can take less. This one takes {ours:.0} ns.",
        least / theirs
    );
    report.add([
        Row::new(switch, flight, of_ftrace, ftrace).target("flight_event", 0.7),
        Row::new(&format!("{switch}, with the trigger `{}` armed", ARMED.0[2]), armed, of_ftrace, ftrace)
            .target("flight_event_armed", 0.3)
            .beside("a BPF program that only reads the clock", clock)
            .tried(&tried),
    ]);
    report.add(perf.iter().map(|perf| {
        Row::new(switch, flight, "`perf record`, the same event", perf).target("flight_event_perf", 0.3)
    }));
    let both = Ftrace { events: &["sched/sched_switch", "sched/sched_wakeup"], stacks: false };
    let (none, more) = added(plan, pipes, &[&SCHED, &both])?;
    let [flight, ftrace] = &more[..] else { bail!("a side is missing") };
    let percent = |more: &[f64]| 100.0 * median(more) / median(&none);
    let what = format!(
        "slowdown of a byte's way through a pipe to another thread, switches and wakeups recorded: by {:.1} %, with ftrace \
         by {:.1} %",
        percent(flight),
        percent(ftrace)
    );
    report.add([Row::new(&what, flight, "ftrace's ring buffer, the same events", ftrace)
        .target("flight_slowdown", 0.5)
        .beside("without a recorder", &none)]);
    Ok(())
}

/// What a system call costs more: with its begin and end recorded, and after the recording has stopped.
fn system_calls(plan: Plan, report: &mut Report) -> Result<()> {
    const CALLS: Flight = Flight(&["syscalls"]);
    let (held, empty) = (Held(CALLS), Empty::load()?);
    let ftrace = Ftrace { events: &["raw_syscalls/sys_enter", "raw_syscalls/sys_exit"], stacks: false };
    let perf = Perf::find("raw_syscalls:sys_enter,raw_syscalls:sys_exit");
    let mut all: Vec<&dyn Recorder> = vec![&CALLS, &held, &empty, &ftrace];
    match &perf {
        Ok(perf) => all.push(perf),
        Err(why) => report.skip("flight_call_perf", why),
    }
    let (none, added_by_all) = added(plan, calls, &all)?;
    let [flight, held, empty, ftrace, perf @ ..] = &added_by_all[..] else { bail!("a side is missing") };
    let call = "a system call recorded, its begin and its end";
    report.add([
        Row::new(call, flight, "ftrace's ring buffer, the same events", ftrace)
            .target("flight_call", 1.0)
            .beside("without a recorder", &none),
        Row::new(
            "a system call after the recording has stopped",
            held,
            "two BPF programs that do nothing",
            empty,
        )
        .target("flight_stopped", 1.2)
        .beside("without a recorder", &none),
    ]);
    report.add(perf.iter().map(|perf| {
        Row::new(call, flight, "`perf record`, the same events", perf).target("flight_call_perf", 0.5)
    }));
    Ok(())
}

fn median(of: &[f64]) -> f64 {
    let mut sorted = of.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// How long it takes to turn a recording of 64 MiB into a trace or text, in CPU time.
fn dumps(plan: Plan, report: &mut Report) -> Result<()> {
    let scratch = Scratch::new()?;
    let (running, flight) = SCHED.record(&scratch)?;
    let mut peers = Vec::new();
    for (key, name, recording) in [
        (
            "flight_dump",
            "`perf script`",
            Perf::find("sched:sched_switch,sched:sched_wakeup").and_then(|perf| perf.record(&scratch)),
        ),
        ("flight_dump_trace_cmd", "`trace-cmd report`", TraceCmd::record(&scratch)),
    ] {
        match recording {
            Ok(recording) => peers.push((key, name, recording)),
            Err(why) => report.skip(key, format!("{why:#}")),
        }
    }
    let mut flight = || flight.dump();
    let mut each: Vec<_> = peers.iter().map(|(.., recording)| || recording.dump()).collect();
    let mut sides: Vec<&mut dyn FnMut() -> Result<f64>> = vec![&mut flight];
    sides.extend(each.iter_mut().map(|side| side as &mut dyn FnMut() -> Result<f64>));
    let mut samples =
        interleave_all(Plan { blocks: plan.blocks.min(7), least: plan.least.min(5), ..plan }, &mut sides)?;
    let ours = samples.remove(0);
    running.stop()?;
    for ((key, name, _), theirs) in peers.iter().zip(samples) {
        let what = "an event of 64 MiB written to a Perfetto trace, CPU time";
        report.add([Row::new(what, &ours, name, &theirs).target(key, 0.2).tried(
            "Each event is encoded once, when it comes, and names are found by a fast hash. What is left: to copy and sort \
             the records (page faults included), and to encode their fields.",
        )]);
    }
    Ok(())
}

/// The CPU time of `top` for each time that it reads the counters.
fn top(plan: Plan, report: &mut Report) -> Result<()> {
    let counters = Counters::create_memfd(COUNTERS, num_possible_cpus()?)?;
    let path = format!("/proc/{}/fd/{}", std::process::id(), counters.region().as_fd().as_raw_fd());
    let line = format!("{} top --hz {HZ} --count {DRAWINGS} {path}", command()?.display());
    let mut block = || {
        let mut terminal = Command::new("script"); // a terminal
        let used =
            recorders::cpu_time(terminal.args(["--quiet", "--return", "--command", &line, "/dev/null"]))?;
        Ok(used.as_nanos() as f64 / f64::from(HZ * DRAWINGS / 4))
    };
    let [ns] = mapring_benches::interleave(
        Plan { blocks: plan.blocks.min(7), least: plan.least.min(5), ..plan },
        [&mut block],
    )?;
    report.add([Row::absolute("`mapring top` reads 1,000 counters on all CPUs, CPU time", &ns)
        .target("top_refresh", 0.05 * Duration::from_secs(1).as_nanos() as f64 / f64::from(HZ))]);
    let _ = fs::metadata(&path)?; // the counters live until here
    Ok(())
}
