//! The files of a recording: written, rotated, and with the progress shown.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mapring::Loss;
use mapring::time::{Clock as BpfClock, WallClock};
use mapring_kit::exit::WrongUsage;
use mapring_kit::outfile::{Destination, OutFile};
use mapring_kit::output::Progress;
use mapring_kit::text::{grouped, printable_path, rate};

use super::format::{Clock, Sample, Source, kind};
use super::writer::Writer;
use crate::rates::per_second;
use crate::stamp::StampClock;
use crate::untyped::Item;

/// Options of `record` for its files.
#[derive(clap::Args)]
pub(super) struct Files {
    /// The file to write, or - for stdout
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
    /// Replace an existing file
    #[arg(long)]
    force: bool,
    /// Begin a new file at about this size: 64M, 1G. The full file becomes FILE.1, the one before FILE.2
    #[arg(long, value_name = "SIZE", value_parser = mapring_kit::output::size)]
    rotate_size: Option<u64>,
    /// Begin a new file after this time: 10m, 1h
    #[arg(long, value_name = "TIME", value_parser = mapring_kit::output::span)]
    rotate_age: Option<Duration>,
    /// Keep this number of full files beside FILE; remove older ones
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(..=9999))]
    keep: u32,
}

impl Files {
    fn rotates(&self) -> bool {
        self.rotate_size.is_some() || self.rotate_age.is_some()
    }

    fn name(&self) -> String {
        printable_path(&self.out)
    }

    /// Refuses options that make no sense.
    pub(super) fn check(&self) -> Result<()> {
        if self.rotates() && self.out == Path::new("-") {
            bail!(WrongUsage("--rotate-size and --rotate-age need a file, not stdout".into()));
        }
        if self.rotate_size.is_some_and(|size| size < 64 << 10) {
            bail!(WrongUsage("--rotate-size: at least 64K".into()));
        }
        if self.rotate_age.is_some_and(|age| age < Duration::from_secs(1)) {
            bail!(WrongUsage("--rotate-age: at least 1s".into()));
        }
        Ok(())
    }

    /// Opens the file; returns it unless it is stdout.
    fn open(&self, destination: Option<&Destination>) -> Result<(Option<OutFile>, File)> {
        let Some(destination) = destination else {
            ensure!(!io::stdout().is_terminal(), "a recording is not text: name a file, or redirect stdout");
            return Ok((None, io::stdout().as_fd().try_clone_to_owned()?.into()));
        };
        let out = OutFile::growing(destination.clone(), self.force)?;
        ensure!(out.is_regular() || !self.rotates(), "{}: only a regular file can be rotated", self.name());
        let file = out.writer()?;
        Ok((Some(out), file))
    }

    /// Makes room for the file: with rotation, files of an earlier recorder become full ones, also what it left if it was
    /// killed.
    fn make_room(&self, destination: &Destination) -> Result<()> {
        if !self.rotates() {
            return Ok(());
        }
        let part = destination.part();
        let left = part.lock_file()?;
        if destination.is_file() {
            self.shift(destination, destination)?;
        }
        left.map_or(Ok(()), |_lock| self.shift(destination, &part))
    }

    /// Moves the full files by one place, and `last` to the first; the oldest is removed.
    fn shift(&self, destination: &Destination, last: &Destination) -> Result<()> {
        let full = |number: u32| destination.with(&format!(".{number}"));
        let moved = |from: &Destination, to: &Destination| match from.rename(to, true) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(e).with_context(|| format!("{} to {}", from.shown(), to.shown()))
            }
            _ => Ok(()),
        };
        if self.keep == 0 {
            return last.remove().with_context(|| last.shown());
        }
        for number in (1..self.keep).rev() {
            moved(&full(number), &full(number + 1))?;
        }
        moved(last, &full(1))
    }
}

/// Where records and samples go.
pub(super) struct Output<'a> {
    args: &'a Files,
    /// Unless it is stdout. All files are in its directory.
    destination: Option<Destination>,
    writer: Writer,
    /// The file that is being written, unless it is stdout.
    file: Option<OutFile>,
    since: Instant,
    /// The source and its BTF, for the next file.
    source: Option<(Source, Vec<u8>)>,
    clock: WallClock,
    /// Whether the output began anew: cells are then recorded whole.
    pub(super) is_new: bool,
    /// Records or samples.
    pub(super) count: u64,
    /// Bytes of the files before this one.
    full: u64,
    progress: Progress,
    /// When the progress was last shown, and the count then.
    shown: (Instant, u64),
}

impl<'a> Output<'a> {
    pub(super) fn new(args: &'a Files) -> Result<Self> {
        let destination = (args.out != Path::new("-")).then(|| Destination::of(&args.out)).transpose()?;
        destination.as_ref().map_or(Ok(()), |destination| args.make_room(destination))?;
        let (file, out) = args.open(destination.as_ref())?;
        let writer = Writer::new(out).with_context(|| args.name())?;
        Ok(Self {
            args,
            destination,
            writer,
            file,
            since: Instant::now(),
            source: None,
            clock: WallClock::new(BpfClock::Monotonic)?,
            is_new: true,
            count: 0,
            full: 0,
            progress: Progress::default(),
            shown: (Instant::now(), 0),
        })
    }

    /// What follows comes from this source.
    pub(super) fn source(&mut self, source: Source, btf: Vec<u8>) -> Result<()> {
        self.source = Some((source, btf));
        self.write_source()
    }

    fn write_source(&mut self) -> Result<()> {
        self.clock.update();
        let clock = compared(&self.clock);
        let Some((source, btf)) = &mut self.source else { return Ok(()) };
        source.clock = clock;
        if source.stamp_clock == Some(StampClock::Boottime) {
            source.boot_ahead = BpfClock::Boottime.now().saturating_sub(BpfClock::Monotonic.now());
        }
        let json = serde_json::to_vec(source)?;
        let len = u32::try_from(json.len())?.to_le_bytes();
        let written = self.writer.block(kind::SOURCE, &[&len, &json, btf]);
        self.is_new = true;
        self.checked(written)
    }

    pub(super) fn record(&mut self, item: &Item<'_>) -> Result<()> {
        let written = self.writer.record(item);
        self.count += 1;
        self.checked(written)
    }

    pub(super) fn sample(&mut self, sample: &Sample<'_>) -> Result<()> {
        let written = self.writer.sample(sample);
        self.count += 1;
        self.checked(written)
    }

    pub(super) fn loss(&mut self, loss: &Loss) -> Result<()> {
        let written = self.writer.loss(loss);
        self.checked(written)
    }

    #[inline]
    fn checked(&self, written: io::Result<()>) -> Result<()> {
        written.map_err(|e| self.failed(e))
    }

    #[cold]
    fn failed(&self, e: io::Error) -> anyhow::Error {
        let readable = mapring_kit::output::bytes(self.writer.bytes);
        anyhow::Error::from(e)
            .context(format!("{}: the recording ends after {readable}, which can be read", self.name()))
    }

    /// Between batches: writes what is old, begins a new file if this one is full, and shows the progress.
    pub(super) fn tick(&mut self) -> Result<()> {
        let written = self.writer.flush_if_old();
        self.checked(written)?;
        let is_full = self.args.rotate_size.is_some_and(|size| self.writer.bytes >= size)
            || self.args.rotate_age.is_some_and(|age| self.since.elapsed() >= age);
        if is_full {
            self.rotate()?;
        }
        let (count, bytes, shown) = (self.count, self.full + self.writer.bytes, &mut self.shown);
        self.progress.show(|| {
            let (since, before) = std::mem::replace(shown, (Instant::now(), count));
            let rate = rate(per_second(count - before, since.elapsed().as_secs_f64()));
            format!("{} recorded, {rate}/s, {}", grouped(count), mapring_kit::output::bytes(bytes))
        });
        Ok(())
    }

    fn rotate(&mut self) -> Result<()> {
        self.end()?;
        self.full += self.writer.bytes;
        self.destination.as_ref().map_or(Ok(()), |destination| self.args.shift(destination, destination))?;
        let (file, out) = self.args.open(self.destination.as_ref())?;
        (self.file, self.writer) = (file, Writer::new(out).with_context(|| self.args.name())?);
        self.since = Instant::now();
        self.write_source()
    }

    /// Compares the clocks again; records the comparison if one of them was set or the machine was suspended.
    pub(super) fn update_clock(&mut self) -> Result<()> {
        if self.clock.update().is_none() {
            return Ok(());
        }
        let is_boottime = |(source, _): &(Source, Vec<u8>)| source.stamp_clock == Some(StampClock::Boottime);
        if self.source.as_ref().is_some_and(is_boottime) {
            return self.write_source(); // a suspend also changes how far that clock is ahead
        }
        let Clock { monotonic, wall } = compared(&self.clock);
        let written = self.writer.block(kind::CLOCK, &[&monotonic.to_le_bytes(), &wall.to_le_bytes()]);
        self.checked(written)
    }

    /// Writes the end; returns the bytes of all files.
    pub(super) fn finish(&mut self) -> Result<u64> {
        self.progress.clear();
        self.end()?;
        Ok(self.full + self.writer.bytes)
    }

    /// Writes the end of the file, and gives it its name.
    fn end(&mut self) -> Result<()> {
        let written = self.writer.finish();
        self.checked(written)?;
        self.file.take().map_or(Ok(()), OutFile::finish)
    }

    fn name(&self) -> String {
        self.file.as_ref().map_or_else(|| self.args.name(), OutFile::shown)
    }

    /// Prints a line on stderr, always.
    pub(super) fn print(&mut self, text: impl std::fmt::Display) {
        self.progress.clear();
        eprintln!("{text}");
    }
}

fn compared(clock: &WallClock) -> Clock {
    let monotonic = BpfClock::Monotonic.now();
    let wall = clock.to_wall(monotonic).value.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Clock { monotonic, wall: u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX) }
}
