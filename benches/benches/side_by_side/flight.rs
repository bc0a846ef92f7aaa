//! The flight recorder beside ftrace, perf and trace-cmd: what a recorded event costs, and how fast a recording becomes
//! a trace. Also the cost of `mapring top`.

mod recorders;
mod switches;

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libbpf_rs::num_possible_cpus;
use mapring::Counters;
use mapring_benches::{KEYS, Plan, Report, Row, interleave_all};
use rustix::process::geteuid;

pub(crate) use self::recorders::command;
use self::recorders::{Flight, Ftrace, Perf, Recorder, Scratch, TraceCmd};
use self::switches::{pipes, yields};

/// Counters that `top` shows.
const COUNTERS: usize = 1000;
/// The recorder with a trigger that compares each switch, and is not met.
const ARMED: Flight = Flight(&["runqueue > 1h"]);
/// How often it reads them in a second, and the drawings (four a second) in a block.
const HZ: u32 = 1000;
const DRAWINGS: u32 = 4;

pub(crate) fn run(plan: Plan, report: &mut Report) -> Result<()> {
    let why = match command() {
        Err(error) => Some(format!("{error:#}")),
        Ok(_) if !geteuid().is_root() => Some("it needs root".to_owned()),
        Ok(_) => None,
    };
    if let Some(why) = why {
        let ours = |key: &&&str| key.starts_with("flight_") || **key == "top_refresh";
        KEYS.iter().filter(ours).for_each(|key| report.skip(key, &why));
        return Ok(());
    }
    let plan = Plan { blocks: plan.blocks.min(21), least: plan.least.min(15), ..plan };
    events(plan, report)?;
    dumps(plan, report)?;
    top(plan, report)
}

/// The nanoseconds of `work` without a recorder, and what each recorder adds.
fn added<const N: usize>(
    plan: Plan,
    work: impl Fn() -> Result<(f64, u64)>,
    recorders: [&dyn Recorder; N],
) -> Result<(Vec<f64>, [Vec<f64>; N])> {
    let work = &work;
    let mut none = || Ok(work()?.0);
    let mut with = recorders.map(|recorder| {
        move || {
            let running = recorder.start()?;
            let (ns, events) = work()?;
            let recorded = running.stop()?;
            // An event that interrupts the program that records another one is missing.
            ensure!(recorded >= events - events / 100, "{recorded} events recorded, of {events}");
            Ok(ns)
        }
    });
    let mut sides: Vec<&mut dyn FnMut() -> Result<f64>> = vec![&mut none];
    sides.extend(with.iter_mut().map(|side| side as &mut dyn FnMut() -> Result<f64>));
    let mut samples = interleave_all(plan, &mut sides)?.into_iter();
    let none = samples.next().context("the side without a recorder")?;
    let more = |with: Vec<f64>| with.iter().zip(&none).map(|(with, none)| with - none).collect();
    let more: Vec<_> = samples.map(more).collect();
    Ok((none, more.try_into().expect("a vector for each recorder")))
}

/// What recording costs: a switch of tasks alone, and a benchmark that is nothing but switches and wakeups.
fn events(plan: Plan, report: &mut Report) -> Result<()> {
    let perf = Perf::find();
    if let Err(why) = &perf {
        report.skip("flight_event_perf", why);
    }
    let (switch, of_ftrace) = ("a switch of tasks recorded", "ftrace's ring buffer, the same event");
    let with_trigger = format!("{switch}, with the trigger `{}` armed", ARMED.0.join(", "));
    match &perf {
        Ok(perf) => {
            let all: [&dyn Recorder; 4] = [&Flight(&[]), &ARMED, &Ftrace(&["sched_switch"]), perf];
            let (_, [flight, armed, ftrace, perf]) = added(plan, yields, all)?;
            report.add([
                Row::new(switch, &flight, of_ftrace, &ftrace).target("flight_event", 0.7),
                Row::new(&with_trigger, &armed, of_ftrace, &ftrace).target("flight_event_armed", 0.7),
                Row::new(switch, &flight, "`perf record`, the same event", &perf)
                    .target("flight_event_perf", 0.3),
            ]);
        }
        Err(_) => {
            let all: [&dyn Recorder; 3] = [&Flight(&[]), &ARMED, &Ftrace(&["sched_switch"])];
            let (_, [flight, armed, ftrace]) = added(plan, yields, all)?;
            report.add([
                Row::new(switch, &flight, of_ftrace, &ftrace).target("flight_event", 0.7),
                Row::new(&with_trigger, &armed, of_ftrace, &ftrace).target("flight_event_armed", 0.7),
            ]);
        }
    }
    let both = Ftrace(&["sched_switch", "sched_wakeup"]);
    let (none, [flight, ftrace]) = added(plan, pipes, [&Flight(&[]), &both])?;
    let percent = |more: &[f64]| 100.0 * median(more) / median(&none);
    let what = format!(
        "slowdown of a byte's way through a pipe to another thread, switches and wakeups recorded: by {:.1} %, with ftrace \
         by {:.1} %",
        percent(&flight),
        percent(&ftrace)
    );
    report.add([Row::new(&what, &flight, "ftrace's ring buffer, the same events", &ftrace)
        .target("flight_slowdown", 0.5)
        .beside("without a recorder", &none)]);
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
    let (running, flight) = Flight(&[]).record(&scratch)?;
    let mut peers = Vec::new();
    for (key, name, recording) in [
        ("flight_dump", "`perf script`", Perf::find().and_then(|perf| perf.record(&scratch))),
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
