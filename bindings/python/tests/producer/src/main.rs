//! What the tests read. `producer OBJECT DIRECTORY` loads BPF programs, pins them and their maps, and resizes a ring to the slots of
//! each line. `producer SLOTS` shares a ring of 56-byte records in a memory file, and makes as many as each line says. `producer empty
//! KIND RECORD CAPACITY SHARDS [LONGEST AREA]` shares an empty region of any kind, with tails. `producer read FILE` reads a ring, for its
//! speed. Each prints a line once it is ready, and ends with its input.

use std::fs::File;
use std::io::{self, BufRead};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use mapring::abi::{Geometry, Kind, Tails};
use mapring::{OpenOptions, Region, Ring};
use mapring_loader::libbpf_rs::{MapCore, ObjectBuilder};

/// The maps that are pinned as regions; `frozen` for everybody.
const REGIONS: &str = "samples woken kept tailed events numbers left cells copies latches counters histograms gauges top tunes frozen";

fn main() -> Result<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    match &args[..] {
        [slots] => memory(slots.parse()?),
        [read, file] if read == "read" => reader(file.as_ref()),
        [empty, kind, numbers @ ..] if empty == "empty" => region(kind, numbers),
        [object, directory] => programs(object.as_ref(), directory.as_ref()),
        _ => bail!("producer OBJECT DIRECTORY, or producer SLOTS"),
    }
}

fn programs(object: &Path, directory: &Path) -> Result<()> {
    let mut open = ObjectBuilder::default().open_file(object)?;
    mapring_loader::prepare_object(&mut open)?;
    let mut object = open.load()?;
    mapring_loader::initialize_object(&object)?;
    for name in REGIONS.split(' ') {
        let region =
            OpenOptions::new().any_record().open(mapring_loader::map(&object, name)?).context(name)?;
        let path = directory.join(name);
        if name == "frozen" { region.freeze_and_pin(path, 0o666)? } else { region.pin(path, 0o600)? }
    }
    for mut map in object.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        // libbpf puts the start of the object's name before that of a section.
        let name = name.split_once(".bss").map_or(name.as_str(), |_| "bss");
        if ["spread", "grows", "ringbuf", "bss"].contains(&name) {
            let path = directory.join(name);
            map.pin(path)?;
        }
    }
    for mut program in object.progs_mut() {
        let name: PathBuf = program.name().into();
        program.pin(directory.join("programs").join(name))?;
    }
    println!("ready");
    let grows = Ring::<u64>::open(mapring_loader::map(&object, "grows")?)?;
    for_each_line(|slots| {
        grows.resize(slots.parse()?)?;
        Ok("resized".to_owned())
    })
}

type Row = [u64; 7];

fn memory(slots: usize) -> Result<()> {
    let ring = Ring::<Row>::create_memfd(slots, 1)?;
    let writer = ring.writer(0)?;
    say_place(&ring.region());
    let mut n = 0;
    for_each_line(|line| {
        for _ in 0..line.parse()? {
            writer.push(&[n, 0, 0, 0, 0, 0, 2 * n]);
            n += 1;
        }
        Ok("pushed".to_owned())
    })
}

fn region(kind: &str, numbers: &[String]) -> Result<()> {
    let kinds = [
        Kind::Ring,
        Kind::Cells,
        Kind::Latches,
        Kind::Counters,
        Kind::Histograms,
        Kind::Gauges,
        Kind::TopKeys,
        Kind::Commands,
    ];
    let kind = kinds.into_iter().find(|known| format!("{known:?}") == kind).context("no such kind")?;
    let numbers = numbers.iter().map(|number| number.parse()).collect::<Result<Vec<u64>, _>>()?;
    let [record, capacity, shards, tails @ ..] = &numbers[..] else { bail!("too few numbers") };
    let mut geometry = Geometry::new(kind, *record, *capacity, *shards)?;
    if let [longest, area] = tails {
        geometry = geometry.with_tails(Tails::new(*longest, *area)?)?;
    }
    let region = Region::create_memfd(geometry, "forged")?;
    say_place(&region);
    for_each_line(|_| Ok(String::new()))
}

fn say_place(region: &Region) {
    println!("/proc/{}/fd/{}", std::process::id(), region.as_fd().as_raw_fd());
}

/// Copies all that is there, as a program in Rust does. Prints nanoseconds and the number of records.
fn reader(file: &Path) -> Result<()> {
    let mut reader = Ring::<Row>::from_region(OpenOptions::new().open(File::open(file)?)?)?.reader();
    let mut copies: Vec<Row> = Vec::new();
    println!("ready");
    for_each_line(|limit| {
        copies.clear();
        let limit = limit.parse()?;
        let begin = Instant::now();
        let found = reader.for_each(limit, |event| copies.push(*event.record));
        Ok(format!("{} {found}", begin.elapsed().as_nanos()))
    })
}

/// Answers each line of the input.
fn for_each_line(mut answer: impl FnMut(&str) -> Result<String>) -> Result<()> {
    for line in io::stdin().lock().lines() {
        println!("{}", answer(&line?)?);
    }
    Ok(())
}
