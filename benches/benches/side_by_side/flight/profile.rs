//! What a sample of a CPU costs, with its stack: the group `profile` of the flight recorder, `perf record -g`, and an event
//! of ftrace with stacks.

use std::fs;
use std::process::id;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mapring_benches::{Plan, Report, Row, interleave};
use nix::time::ClockId;
use nix::unistd::Pid;

use super::median;
use super::recorders::{Flight, Ftrace, Perf, Recorder, Scratch, end, printed};

/// Samples in a second: a hundred times as many as usual. At 99 Hz, what they cost is less than noise.
const HZ: u32 = 9999;
const SAMPLER: Flight = Flight(&["profile", "--hz", "9999"]);
/// Chunks of work in a block, system calls in a chunk, turns of a loop before each: 0.5 s in all.
const CHUNKS: usize = 500;
const CALLS: u32 = 10;
const TURNS: u64 = 70_000;
/// The functions of the stack, which have frame pointers.
const DEPTH: u32 = 16;

unsafe extern "C" {
    /// `benches/c/busy.c`
    safe fn bench_busy(depth: u32, calls: u32, turns: u64) -> u64;
}

pub(super) fn run(plan: Plan, report: &mut Report) -> Result<()> {
    if let Err(why) = Perf::find("") {
        report.skip("flight_profile", why);
        return Ok(());
    }
    let mut ours = || sampled(&flight);
    let mut stacks = || sampled(&|work| perf(&["-g"], work));
    let mut bare = || sampled(&|work| perf(&[], work));
    let plan = Plan { least: plan.least.div_ceil(2), warm_up: plan.warm_up.min(1), ..plan };
    let [ours, stacks, bare, ftrace] = interleave(plan, [&mut ours, &mut stacks, &mut bare, &mut ftrace])?;
    let what = format!(
        "a sample of a busy thread with its stack, {DEPTH} functions of userspace: time that the thread loses, and CPU \
         time of processes, at {HZ} Hz"
    );
    let tried = format!(
        "To be interrupted and to write a sample without a stack takes perf {:.1} µs of its {:.1} µs on this machine. The \
         recorder takes {:.1} µs: it notes the build id of each function's file, so that it needs no process that \
         follows which files are mapped. The kernel looks for the file under a lock, and lets go of the lock in another \
         interrupt, once for each sample (`IWI` in /proc/interrupts), which takes long on a virtual machine. In a trial \
         with addresses alone, a sample took 0.96 of perf's time (0.96–0.99).",
        median(&bare) / 1e3,
        median(&stacks) / 1e3,
        median(&ours) / 1e3,
    );
    report.add([
        Row::new(&what, &ours, &format!("`perf record -a -g -F {HZ}`"), &stacks)
            .target("flight_profile", 0.6)
            .beside("`perf record` without `-g`", &bare)
            .tried(&tried),
        Row::new(
            &what,
            &ours,
            "ftrace, which takes no samples: a system call, `options/stacktrace` and `userstacktrace`, at most 8 functions \
             of userspace, no interrupt",
            &ftrace,
        ),
    ]);
    Ok(())
}

/// A thread's work.
struct Busy {
    /// Nanoseconds of a chunk: the median, since some are interrupted by other programs.
    chunk: f64,
    all: Duration,
}

fn busy() -> Busy {
    let start = Instant::now();
    let chunk = || {
        let start = Instant::now();
        bench_busy(DEPTH, CALLS, TURNS);
        start.elapsed().as_nanos() as f64
    };
    let chunks: Vec<_> = (0..CHUNKS).map(|_| chunk()).collect();
    Busy { chunk: median(&chunks), all: start.elapsed() }
}

/// The samples of this thread, those of all threads, and the CPU time of the recorder's process.
struct Samples {
    here: u64,
    all: u64,
    process: Duration,
}

/// The nanoseconds of a sample: what the thread needs longer, and what the process needs for it.
fn sampled(record: &dyn Fn(&mut dyn FnMut()) -> Result<Samples>) -> Result<f64> {
    let alone = busy();
    let mut with = None;
    let samples = record(&mut || with = Some(busy()))?;
    let with = with.expect("a recorder does the work");
    let per_second = samples.here as f64 / with.all.as_secs_f64();
    ensure!((0.8..1.1).contains(&(per_second / f64::from(HZ))), "{per_second:.0} samples in a second");
    let lost = (with.chunk - alone.chunk) / (with.chunk * per_second / 1e9);
    Ok(lost + samples.process.as_nanos() as f64 / samples.all as f64)
}

/// The recorder has no process.
fn flight(work: &mut dyn FnMut()) -> Result<Samples> {
    let scratch = Scratch::new()?;
    let running = SAMPLER.start_with("256M")?;
    work();
    let file = scratch.file("samples.csv");
    Flight::run(&["dump", "--out", &file])?;
    let all = running.stop()?;
    let this = id().to_string();
    let table = fs::read_to_string(&file)?;
    let here = table.lines().filter(|line| line.split(',').nth(4) == Some(this.as_str())).count() as u64;
    Ok(Samples { here, all, process: Duration::ZERO })
}

fn perf(more: &[&str], work: &mut dyn FnMut()) -> Result<Samples> {
    let scratch = Scratch::new()?;
    let data = scratch.file("perf.data");
    let perf = Perf::spawn(&[&["-F", &HZ.to_string()], more].concat(), data.as_ref())?;
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(i32::try_from(perf.id())?))?;
    let before = clock.now()?;
    work();
    let process = Duration::from(clock.now()?) - Duration::from(before);
    end(perf)?;
    let tids = printed("perf", &["script", "--fields", "tid", "--input", &data].map(str::to_owned))?;
    let (this, words) = (id().to_string(), tids.split_whitespace());
    let here = words.clone().filter(|tid| *tid == this).count() as u64;
    Ok(Samples { here, all: words.count() as u64, process })
}

/// The nanoseconds that a system call takes longer.
fn ftrace() -> Result<f64> {
    let alone = busy();
    let running = Ftrace { events: &["raw_syscalls/sys_enter"], stacks: true }.start()?;
    let with = busy();
    let calls = u64::from(CALLS) * CHUNKS as u64;
    let recorded = running.stop()?; // the event and two stacks
    ensure!(recorded >= 3 * calls, "{recorded} entries recorded, of {calls} events");
    Ok((with.chunk - alone.chunk) / f64::from(CALLS))
}
