//! Records of 56 bytes from one thread to another, each on its own CPU: throughput and latency.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write, stdin};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use mapring_benches::{Chart, Plan, Report, Row, Scale, Spread, interleave, pin_to, ping_pong, version_of};

use super::pipes::{self, Make, Push, Receive};
use crate::programs::{Record, now, record};
use crate::threads;

/// Records of a block sent at full speed.
const MANY: u64 = 50_000;
/// Records of a paced block.
const FEW: usize = 1000;
/// Nanoseconds between two paced records.
const GAP: u64 = 1000;
/// After this time, the test has failed.
const LIMIT: Duration = Duration::from_secs(20);

/// Commands for the sending thread.
enum Order {
    /// Records from this number on, as fast as possible.
    Many(u64),
    /// The same, one per [`GAP`], with the time in the first word.
    Paced(u64),
}

/// A sending thread, and the receiving end.
struct Side<R> {
    receive: R,
    orders: Sender<Order>,
    done: Receiver<Result<()>>,
    next: u64,
    /// Latencies of all blocks.
    latencies: Vec<f64>,
}

impl<R: Receive> Side<R> {
    /// `make` creates the sending end, in its thread on CPU `cpu`.
    fn new((make, receive): (Make, R), cpu: usize) -> Result<Self> {
        let (orders, of_orders) = channel();
        let (say_done, done) = channel();
        thread::spawn(move || {
            let mut send = match pin_to(cpu).and_then(|()| make()) {
                Ok(send) => send,
                Err(error) => return drop(say_done.send(Err(error))),
            };
            let _ = say_done.send(Ok(()));
            for order in of_orders {
                let result = match order {
                    Order::Many(first) => many(&mut send, first),
                    Order::Paced(first) => paced(&mut send, first),
                };
                let _ = say_done.send(result);
            }
        });
        done.recv().context("the sending thread is gone")??;
        Ok(Self { receive, orders, done, next: 1, latencies: Vec::new() })
    }

    /// The same with the sender in its own process, which finds the other end by `name`.
    fn process(kind: &str, name: &str, receive: R, cpu: usize) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--send", kind, name, &cpu.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut to = child.stdin.take().context("stdin was piped")?;
        let mut from = BufReader::new(child.stdout.take().context("stdout was piped")?);
        let (orders, of_orders) = channel();
        let (say_done, done) = channel();
        thread::spawn(move || {
            for order in of_orders {
                let result = match order {
                    Order::Many(_) => Err(anyhow!("processes are paced")),
                    Order::Paced(first) => ask(&mut to, &mut from, first),
                };
                let _ = say_done.send(result);
            }
            // The end of its input ends it.
            drop(to);
            let _ = child.wait();
        });
        let side = Self { receive, orders, done, next: 1, latencies: Vec::new() };
        Ok(side)
    }

    /// Makes the other thread send `count` records, and takes them: each must arrive whole and in order.
    fn take(&mut self, order: fn(u64) -> Order, count: u64, mut f: impl FnMut(&Record)) -> Result<()> {
        let start = Instant::now();
        let (mut next, mut wrong) = (self.next, 0_u64);
        self.orders.send(order(next)).ok().context("the sending thread is gone")?;
        self.next += count;
        while next < self.next {
            let before = next;
            self.receive.each(|record| {
                f(record);
                // A record's words are consecutive numbers, except the first word if it is a time.
                wrong += u64::from(record[1..].iter().zip(next + 1..).any(|(word, i)| *word != i));
                next += 1;
            })?;
            ensure!(next > before || start.elapsed() < LIMIT, "{next} is not there after {LIMIT:?}");
        }
        self.done.recv().context("the sending thread is gone")??;
        ensure!(wrong == 0 && next == self.next, "{wrong} records torn or out of order; {next}");
        Ok(())
    }

    /// Nanoseconds per record, from the first arrival to the last.
    fn stream(&mut self) -> Result<f64> {
        let mut first = None;
        self.take(Order::Many, MANY, |_| {
            first.get_or_insert_with(Instant::now);
        })?;
        let first = first.context("nothing arrived")?;
        Ok(first.elapsed().as_nanos() as f64 / MANY as f64)
    }

    /// The median of a block's latencies.
    fn latency(&mut self) -> Result<f64> {
        let mut block = Vec::with_capacity(FEW);
        self.take(Order::Paced, FEW as u64, |record| block.push(now().saturating_sub(record[0]) as f64))?;
        let median = Spread::of(block.iter().copied()).median;
        self.latencies.append(&mut block);
        Ok(median)
    }

    fn percentiles(&self) -> Vec<(f64, Spread)> {
        let mut sorted = self.latencies.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |percent: f64| {
            #[allow(clippy::cast_possible_truncation)] // an index
            let index = ((sorted.len() - 1) as f64 * percent / 100.0) as usize;
            Some((percent, Spread::of([*sorted.get(index)?])))
        };
        [1.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9].into_iter().filter_map(at).collect()
    }
}

/// Makes a child send a block, and waits until it has.
fn ask(to: &mut impl Write, from: &mut impl BufRead, first: u64) -> Result<()> {
    writeln!(to, "{first}")?;
    let mut answer = String::new();
    from.read_line(&mut answer)?;
    ensure!(answer == "sent\n", "the sending process said {answer:?}");
    Ok(())
}

/// The child's work: `kind`, `name`, CPU.
pub(crate) fn send(arguments: &[String]) -> Result<()> {
    let [kind, name, cpu] = arguments else { bail!("--send needs three arguments") };
    pin_to(cpu.parse()?)?;
    let mut push = match kind.as_str() {
        "mapring" => pipes::into_shared_ring(name)?,
        "iceoryx2" => pipes::publisher(name)?,
        _ => bail!("no way called {kind}"),
    };
    for line in stdin().lines() {
        paced(&mut push, line?.parse()?)?;
        println!("sent");
    }
    Ok(())
}

fn many(send: &mut Push, first: u64) -> Result<()> {
    for n in first..first + MANY {
        let record = record(n);
        while !send(&record)? {
            std::hint::spin_loop();
        }
    }
    Ok(())
}

fn paced(send: &mut Push, first: u64) -> Result<()> {
    let mut next = now() + GAP;
    for n in first..first + FEW as u64 {
        let mut record = record(n);
        while now() < next {
            std::hint::spin_loop();
        }
        record[0] = now();
        ensure!(send(&record)?, "it is full, or in use");
        next = record[0] + GAP;
    }
    Ok(())
}

/// The same between two processes.
fn processes(plan: Plan, report: &mut Report, [here, cpu]: [usize; 2]) -> Result<()> {
    let (path, reader) = pipes::shared_ring()?;
    let mut ours = Side::process("mapring", &path, reader, cpu)?;
    let name = format!("mapring/benches/{}/processes", std::process::id());
    let mut iceoryx2 = Side::process("iceoryx2", &name, pipes::subscriber(&name)?, cpu)?;
    let [ns, theirs, transfers] = interleave(
        plan.within(0.5),
        [&mut || ours.latency(), &mut || iceoryx2.latency(), &mut || ping_pong(here, cpu)],
    )?;
    let what = "56 B from process to process, memfd, one way, busy-polled, p50";
    report.add([
        Row::new(what, &ns, "iceoryx2, publish and subscribe", &theirs).beside("ping-pong", &transfers),
        Row::new(what, &ns, "cache-line ping-pong, one way", &transfers),
    ]);
    Ok(())
}

pub(crate) fn run(plan: Plan, report: &mut Report) -> Result<()> {
    let Some(cpu) = threads::other() else {
        report.skip("records between threads", "there is one CPU only");
        return Ok(());
    };
    let here = *threads::all().last().context("no CPU")?;
    let ours = RefCell::new(Side::new(pipes::mapring()?, cpu)?);
    let rtrb = RefCell::new(Side::new(pipes::rtrb()?, cpu)?);
    let queue = RefCell::new(Side::new(pipes::array_queue()?, cpu)?);
    let iceoryx2 = RefCell::new(Side::new(pipes::iceoryx2()?, cpu)?);

    let names = [
        ("rtrb", "rtrb (one process only)"),
        ("crossbeam ArrayQueue", "crossbeam `ArrayQueue` (one process only)"),
        ("iceoryx2", "iceoryx2, publish and subscribe"),
    ];
    let mut transfer = || ping_pong(here, cpu);
    let [ns, a, b, c, transfers] = interleave(
        plan,
        [
            &mut || ours.borrow_mut().stream(),
            &mut || rtrb.borrow_mut().stream(),
            &mut || queue.borrow_mut().stream(),
            &mut || iceoryx2.borrow_mut().stream(),
            &mut transfer,
        ],
    )?;
    let what = "56 B from thread to thread, memfd, nothing lost, as fast as can be";
    let rows = names.iter().zip([a, b, c]);
    report.add(
        rows.map(|((_, peer), theirs)| Row::new(what, &ns, peer, &theirs).beside("ping-pong", &transfers)),
    );

    let [ns, a, b, c, transfers] = interleave(
        plan,
        [
            &mut || ours.borrow_mut().latency(),
            &mut || rtrb.borrow_mut().latency(),
            &mut || queue.borrow_mut().latency(),
            &mut || iceoryx2.borrow_mut().latency(),
            &mut transfer,
        ],
    )?;
    let what = "56 B from thread to thread, memfd, one way, busy-polled, p50";
    let rows = names.iter().zip([a, b, c]);
    report.add(
        rows.map(|((_, peer), theirs)| Row::new(what, &ns, peer, &theirs).beside("ping-pong", &transfers)),
    );
    report.add([Row::new(what, &ns, "cache-line ping-pong, one way", &transfers)]);
    processes(plan, report, [here, cpu])?;
    let chart = Chart::new(
        "threads",
        "From thread to thread, busy-polled, one record a microsecond",
        ("percentile", Scale::Percentile),
        ("ns, one way", Scale::Log),
    );
    let limit = Spread::of(transfers.iter().copied());
    report.chart(
        chart
            .line("mapring, memfd", ours.borrow().percentiles())
            .line(names[0].0, rtrb.borrow().percentiles())
            .line(names[1].0, queue.borrow().percentiles())
            .line(names[2].0, iceoryx2.borrow().percentiles())
            .limit("cache line, one way", [1.0, 99.9].map(|x| (x, limit))),
    );
    report.peer(
        "rtrb",
        version_of("rtrb"),
        "4096 records, `push` one by one, `read_chunk` of all that is there",
    );
    report.peer("crossbeam `ArrayQueue`", version_of("crossbeam-queue"), "4096 records, `push`, `pop`");
    report.peer(
        "iceoryx2",
        version_of("iceoryx2"),
        "`ipc::Service`, publish and subscribe, `loan_uninit` and `write_payload`, buffer of 4096, \
         `RetryUntilDelivered`",
    );
    Ok(())
}
