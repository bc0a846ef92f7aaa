//! `mapring ls`: the regions and arrays of this machine.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use mapring_kit::output;
use mapring_kit::text::{cut, json_line, printable, wrapped};

use crate::facts::Facts;
use crate::find::{self, All, Location};
use crate::shortage;
use crate::target::{Layout, Target};

/// List regions and mmapable arrays: their content, their writers, and how this user reads them
#[derive(clap::Args)]
pub struct Args {
    /// Pins, or directories with pins. Without any: all pins, and with CAP_SYS_ADMIN all maps
    path: Vec<PathBuf>,
    /// List also maps that are neither regions nor arrays
    #[arg(long, short)]
    all: bool,
    /// Print one JSON object for each map, in a line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut found = Vec::new();
    let mut hidden = Vec::new();
    if args.path.is_empty() {
        let all = All::find();
        hidden = all.hidden;
        found = all.maps.into_iter().map(|(id, pins)| (location(id, &pins), pins)).collect();
    }
    for path in &args.path {
        // A bare name is a map's, unless the directory can hold pins.
        if path.is_dir() && (path.components().count() > 1 || path.has_root() || find::is_pinned(path)) {
            let mut all = All::default();
            all.add_dir(path);
            hidden.append(&mut all.hidden);
            found.extend(all.maps.into_iter().map(|(id, pins)| (location(id, &pins), pins)));
        } else {
            let location = find::find(&path.to_string_lossy())?;
            let pins = if let Location::Pin(pin) = &location { vec![pin.clone()] } else { Vec::new() };
            found.push((location, pins));
        }
    }
    let (mut list, mut other) = (Vec::new(), 0);
    for (location, pins) in found {
        let target = match Target::open(location.clone()) {
            Ok(target) => target,
            // A map may end, or be replaced, at any time; but a path that was named must be there.
            Err(e) if args.path.is_empty() => {
                hidden.push(shortage::left_out(&location, &e));
                continue;
            }
            Err(e) => return Err(e),
        };
        if matches!(target.layout, Layout::Other | Layout::Ringbuf)
            && !args.all
            && !is_table(&target)
            && args.path.iter().all(|p| p.is_dir())
        {
            other += 1;
            continue;
        }
        list.push(target.facts(&pins, true));
    }
    let mut out = io::stdout().lock();
    if args.json {
        for facts in &list {
            writeln!(out, "{}", json_line(&serde_json::to_value(facts)?))?;
        }
    } else {
        table(&mut out, &list)?;
    }
    out.flush()?;
    hidden.iter().for_each(|why| eprintln!("mapring: {}", printable(why)));
    if other > 0 {
        let maps = if other == 1 { "1 map" } else { &format!("{other} maps") };
        output::note(format_args!("{maps} of other types: --all lists them"));
    }
    if list.is_empty() && !hidden.is_empty() {
        bail!("no region found");
    }
    Ok(())
}

fn location(id: u32, pins: &[PathBuf]) -> Location {
    pins.first().map_or(Location::Id(id), |pin| Location::Pin(pin.clone()))
}

/// Whether it is a table that belongs to regions: of programs or of maps.
fn is_table(target: &Target) -> bool {
    let kind = target.map.as_ref().map(|map| map.facts().kind);
    kind.is_some_and(|kind| ["prog_array", "array_of_maps"].contains(&kind.as_str()))
}

/// A table of 80 columns, with lines for the rest below each map.
fn table(out: &mut impl Write, list: &[Facts]) -> io::Result<()> {
    if list.is_empty() {
        return Ok(());
    }
    let mut refusals: Vec<&str> = Vec::new();
    writeln!(
        out,
        "{:>7} {:<15} {:<18} {:>6} {:>14} {:>7} ACCESS",
        "ID", "NAME", "KIND", "RECORD", "ENTRIES×SHARDS", "BYTES"
    )?;
    for facts in list {
        let id = facts.id.map_or("-".to_owned(), |id| id.to_string());
        let shape = match facts.shards {
            1 => facts.entries.to_string(),
            shards => format!("{}×{shards}", facts.entries),
        };
        let access = match (&facts.refusal, facts.access) {
            (Some(refusal), _) => {
                let at = refusals.iter().position(|r| r == refusal).unwrap_or(refusals.len());
                if at == refusals.len() {
                    refusals.push(refusal);
                }
                format!("call[{}]", at + 1)
            }
            (None, Some(access)) => access.to_owned(),
            (None, None) => "-".to_owned(),
        };
        let name =
            Path::new(&facts.name).file_name().map_or(facts.name.as_str().into(), |n| n.to_string_lossy());
        writeln!(
            out,
            "{id:>7} {:<15} {:<18} {:>6} {shape:>14} {:>7} {access}",
            cut(&name, 15),
            cut(&facts.kind, 18),
            output::bytes(facts.size as u64),
            output::bytes(facts.bytes as u64),
        )?;
        let ty = Some(format!("type {}", facts.ty)).filter(|_| !facts.ty.is_empty());
        let dropped = facts.dropped.filter(|count| *count > 0);
        let dropped = dropped.map(|count| format!("programs dropped {count}"));
        let location = facts.pins.is_empty() && facts.id.is_none();
        let details = [
            location.then(|| facts.region.clone()),
            (!facts.pins.is_empty()).then(|| facts.pins.join(" ")),
            ty,
            facts.writers(),
            dropped,
            facts.error.as_ref().map(|e| format!("error: {e}")),
        ];
        for line in details.iter().flatten().flat_map(|text| wrapped(text, 72)) {
            writeln!(out, "        {line}")?;
        }
    }
    for (at, refusal) in refusals.iter().enumerate() {
        let text = format!("[{}] by system call: {refusal}", at + 1);
        for line in wrapped(&text, 80) {
            writeln!(out, "{line}")?;
        }
    }
    Ok(())
}
