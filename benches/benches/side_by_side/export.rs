//! The CPU time of `mapring export prometheus` for a scrape: of counters that it reads mapped, and of arrays whose
//! values it reads by `LOOKUP_BATCH`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use libbpf_rs::MapCore;
use mapring_benches::{Plan, Report, Row, interleave};
use nix::time::ClockId;
use nix::unistd::Pid;

use crate::flight::command;
use crate::programs::{load, run as run_program};

/// `COUNTERS` in `bpf/read.bpf.c`.
const COUNTERS: u64 = 1024;
/// Scrapes in a block.
const SCRAPES: u32 = 50;

pub(crate) fn run(plan: Plan, report: &mut Report) -> Result<()> {
    if let Err(why) = command() {
        report.skip("export_scrape", format!("{why:#}"));
        return Ok(());
    }
    let skel = load!(read::ReadSkelBuilder);
    let runs = std::cell::Cell::new(0);
    // All counters change between two scrapes. Returns the sum of all.
    let count = || -> Result<u64> {
        run_program(&skel.progs.count, [1])?;
        runs.set(runs.get() + 1);
        Ok(runs.get() * (1..=COUNTERS).sum::<u64>())
    };
    let mut exporters = [
        Exporter::start(&skel.maps.counters, &["--by-cpu"])?,
        Exporter::start(&skel.maps.percpu, &[])?,
        Exporter::start(&skel.maps.counters, &[])?,
        Exporter::start(&skel.maps.array, &[])?,
    ];
    let mut sides = exporters.each_mut().map(|exporter| {
        || -> Result<f64> {
            let before = exporter.cpu_time()?;
            for _ in 0..SCRAPES {
                let expected = count()?;
                let sum = exporter.scrape()?;
                ensure!(sum == expected, "{sum}, not {expected}");
            }
            Ok((exporter.cpu_time()? - before) / f64::from(SCRAPES))
        }
    });
    // The first scrapes fill the buffers.
    sides.iter_mut().try_for_each(|side| side().map(drop))?;
    let sides = sides.each_mut().map(|side| side as &mut dyn FnMut() -> Result<f64>);
    let plan = Plan { blocks: plan.blocks.min(41), least: plan.least.min(15), ..plan };
    let [by_cpu, percpu, sums, array] = interleave(plan, sides)?;
    let what = "a scrape of `mapring export prometheus`, 1024 counters, CPU time";
    report.add([
        Row::new(
            &format!("{what}: a series for each CPU"),
            &by_cpu,
            "the same exporter of a PERCPU_ARRAY, which it reads by `LOOKUP_BATCH`",
            &percpu,
        )
        .target("export_scrape", 1.0 / 50.0)
        .tried(
            "Connections stay open, one thread serves all clients, and only digits that changed are written. That \
             brought a scrape of 1,000 sums from 190 µs to 23 µs. Most of the rest is the kernel's TCP: a program that \
             only polls, receives and sends takes 7.5 µs for an answer of 100 bytes, and 12.5 µs for one as long as \
             that scrape. The target is 7 µs. To read the counters takes 1 to 3 µs.",
        ),
        Row::new(
            &format!("{what}: their sums"),
            &sums,
            "the same exporter of an ARRAY, which it reads by `LOOKUP_BATCH`",
            &array,
        ),
    ]);
    Ok(())
}

/// An exporter, and a connection to it that stays, as that of Prometheus.
struct Exporter {
    child: Child,
    clock: ClockId,
    stream: TcpStream,
    page: Vec<u8>,
}

impl Exporter {
    fn start(map: &impl MapCore, args: &[&str]) -> Result<Self> {
        let mut exporter = Command::new(command()?);
        exporter.args(["export", "prometheus", "--listen", "127.0.0.1:0"]).args(args);
        exporter.arg(format!("id:{}", map.info()?.info.id));
        let mut child = exporter.stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut output = String::new();
        BufReader::new(child.stderr.take().context("its stderr")?).read_line(&mut output)?;
        let address = output.split("http://").nth(1).and_then(|rest| rest.split('/').next());
        let stream = TcpStream::connect(address.with_context(|| output.clone())?)?;
        let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(i32::try_from(child.id())?))?;
        Ok(Self { child, clock, stream, page: vec![0; 1 << 20] })
    }

    /// Its CPU time until now, in nanoseconds.
    fn cpu_time(&self) -> Result<f64> {
        let time = self.clock.now()?;
        Ok(time.tv_sec() as f64 * 1e9 + time.tv_nsec() as f64)
    }

    /// Gets a page; returns the sum of all counters there.
    fn scrape(&mut self) -> Result<u64> {
        self.stream.write_all(
            b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nUser-Agent: Prometheus/2.42.0\r\n\
              Accept: text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\nAccept-Encoding: gzip\r\n\r\n",
        )?;
        let (mut length, mut head) = (0, None);
        loop {
            let count = self.stream.read(&mut self.page[length..])?;
            ensure!(count > 0, "the exporter closed the connection, or its page is too long");
            length += count;
            let page = &self.page[..length];
            let end = || page.windows(4).position(|four| four == b"\r\n\r\n").map(|end| end + 4);
            head = head.or_else(end);
            let Some(head) = head else { continue };
            let (head, body) = page.split_at(head);
            let head = std::str::from_utf8(head)?;
            ensure!(head.starts_with("HTTP/1.1 200 "), "{head}");
            let expected = head.split("Content-Length: ").nth(1).and_then(|rest| rest.lines().next());
            if body.len() == expected.context("no length")?.parse::<usize>()? {
                let lines = std::str::from_utf8(body)?.lines().filter(|line| line.contains(",index="));
                let numbers = lines.filter_map(|line| line.rsplit(' ').next());
                return Ok(numbers.map(str::parse::<u64>).sum::<Result<_, _>>()?);
            }
        }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
