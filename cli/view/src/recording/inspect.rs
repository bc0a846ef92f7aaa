//! `mapring inspect`: what is in a recording, and its records in other formats.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};
use clap::ArgGroup;
use mapring::Histogram;
use mapring_kit::outfile::OutFile;
use mapring_kit::output;
use mapring_kit::table::{Format, Out, format_of};
use mapring_kit::text::{grouped, json_line, printable, printable_path, wrapped};
use mapring_sys::btf::Kind as TypeKind;
use serde_json::{Value as Json, json};

use super::convert::Convert;
use super::format::{Lost, Sample, Source, StoredSource};
use super::reader::{End, Visit, read};
use super::source_kind::SourceKind;
use crate::filter::Filter;
use crate::histogram;
use crate::line;
use crate::untyped::Item;
use crate::value;

/// Show what is in a recording, or convert its records to NDJSON, CSV or Parquet
#[derive(clap::Args)]
#[command(group(ArgGroup::new("conversion").args(["format", "out"]).multiple(true).conflicts_with("json")))]
pub struct Args {
    /// The recording, or - for stdin
    file: PathBuf,
    /// Print what is in it as a JSON object
    #[arg(long)]
    json: bool,
    /// The format for its records or samples [default: by the extension of --out: .ndjson, .csv, .parquet]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Only records for which this is true: pid == 12 && (comm ~ "ba.*" || !ok). The pattern after ~ must match the whole text
    #[arg(long, value_name = "EXPR", value_parser = Filter::parse, requires = "conversion")]
    r#where: Option<Filter>,
    /// The file to write, - for stdout [default: stdout]
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace an existing file
    #[arg(long, requires = "out")]
    force: bool,
}

impl Args {
    /// The format that is asked for, if there is one.
    fn format(&self) -> Result<Option<Format>> {
        let format = match (self.format, &self.out) {
            (None, Some(file)) => Some(format_of(file)?),
            (format, _) => format,
        };
        format.map_or(Ok(()), Format::check)?;
        Ok(format)
    }

    /// Opens the output, and its file unless it is stdout.
    fn open(&self, format: Format) -> Result<(Option<OutFile>, Out)> {
        let Some(path) = self.out.as_ref().filter(|path| *path != Path::new("-")) else {
            let is_text = format != Format::Parquet || !io::stdout().is_terminal();
            ensure!(is_text, "a Parquet file is not text: name a file with --out, or redirect stdout");
            return Ok((None, Box::new(io::stdout())));
        };
        let same = |one: &Path, other: &Path| fs::canonicalize(one).ok() == fs::canonicalize(other).ok();
        let name = || printable_path(path);
        ensure!(!path.exists() || !same(path, &self.file), "{}: --out is the recording itself", name());
        let file = OutFile::create(path, self.force)?;
        let out = Box::new(file.writer()?);
        Ok((Some(file), out))
    }
}

/// Opens a recording.
pub(super) fn open(path: &Path) -> Result<Box<dyn Read>> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    let name = || printable_path(path);
    Ok(Box::new(BufReader::with_capacity(1 << 18, File::open(path).with_context(name)?)))
}

/// An error unless the recording is whole.
pub(super) fn check(end: &End) -> Result<()> {
    match end {
        End::Whole => Ok(()),
        End::Open => bail!("the recording has no end: its recorder was killed, or still writes"),
        End::Damaged(at, why) => bail!("damaged at byte {at}: {why}; everything before this byte was read"),
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let name = printable_path(&args.file);
    let format = args.format()?;
    let input = open(&args.file)?;
    if let Some(format) = format {
        let (file, out) = args.open(format)?;
        let to = args.out.as_deref().unwrap_or(Path::new("stdout")).display().to_string();
        // Of a damaged recording, everything before the damage.
        let end = convert((&name, input), format, args.r#where.clone(), (&to, out))?;
        file.map_or(Ok(()), OutFile::finish)?;
        return check(&end).context(name);
    }
    let end = summarize((&name, input), args.json, &mut io::stdout().lock())?;
    check(&end).context(name)
}

/// Writes the records or samples of a recording, those for which `filter` holds. The input and the output have the names that
/// errors show. Returns how the recording ends; everything before damage is written.
///
/// # Errors
/// If it is not a recording, or can't be read; if the output can't be written.
pub fn convert(
    (name, input): (&str, impl Read),
    format: Format,
    filter: Option<Filter>,
    (to, out): (&str, Out),
) -> Result<End> {
    let mut convert = Convert::new(format, filter, out);
    let end = read(input, &mut convert).map(|(end, _)| end);
    convert.finish().with_context(|| to.to_owned())?;
    end.with_context(|| name.to_owned())
}

/// Writes what is in a recording of this name: for people, or as a JSON object. Returns how it ends.
///
/// # Errors
/// If it is not a recording, or can't be read; if the output can't be written.
pub fn summarize((name, input): (&str, impl Read), as_json: bool, out: &mut impl Write) -> Result<End> {
    let mut summary = Summary::default();
    let (end, bytes) = read(input, &mut summary).with_context(|| name.to_owned())?;
    if as_json {
        writeln!(out, "{}", json_line(&summary.json(&end, bytes)))?;
    } else {
        summary.print(out, name, &end, bytes)?;
    }
    out.flush()?;
    Ok(end)
}

/// What is in a recording.
#[derive(Default)]
struct Summary {
    parts: Vec<Part>,
}

/// What came from one source.
struct Part {
    source: Source,
    ty: Option<String>,
    fields: Vec<String>,
    btf: usize,
    /// Of each shard: the records, the first ticket and the last one.
    shards: BTreeMap<usize, (u64, u64, u64)>,
    samples: u64,
    /// Of histograms: the last sample of each.
    histograms: BTreeMap<u32, Histogram>,
    tails: u64,
    first: Option<SystemTime>,
    last: Option<SystemTime>,
    losses: Vec<Lost>,
}

/// The most histograms of a source that are drawn.
const DRAWN: usize = 20;
/// The most sources and losses that are listed.
const LISTED: usize = 10_000;

impl Visit for Summary {
    fn source(&mut self, of: &StoredSource) -> Result<()> {
        let ty = of.ty().ok();
        let fields = ty.map_or_else(Vec::new, |ty| match ty.kind() {
            TypeKind::DataSec => {
                ty.variables().map(|variable| (variable.name, value::type_name(variable.ty))).collect()
            }
            _ => ty
                .fields_within(|field| field.name.is_empty())
                .into_iter()
                .filter(|field| !field.name.is_empty() && !field.name.starts_with(b"mapring_"))
                .map(|field| (field.name, value::type_name(field.ty)))
                .collect(),
        });
        if self.parts.len() == LISTED {
            bail!("more than {LISTED} sources");
        }
        // Of all sources together: a few bytes of types can have very many fields.
        let listed: usize = self.parts.iter().map(|part| part.fields.len()).sum();
        let (left, more) = (LISTED.saturating_sub(listed), fields.len());
        self.parts.push(Part {
            source: of.source.clone(),
            ty: ty.map(value::type_name),
            fields: fields
                .into_iter()
                .take(left)
                .map(|(name, ty): (&[u8], _)| format!("{ty} {}", printable(&String::from_utf8_lossy(name))))
                .chain((more > left).then(|| format!("… ({} more)", more - left)))
                .collect(),
            btf: of.btf_bytes,
            shards: BTreeMap::new(),
            samples: 0,
            histograms: BTreeMap::new(),
            tails: 0,
            first: None,
            last: None,
            losses: Vec::new(),
        });
        Ok(())
    }

    fn record(&mut self, of: &StoredSource, item: Item<'_>, arrived: u64) -> Result<()> {
        let Some(part) = self.parts.last_mut() else { return Ok(()) };
        let ticket = item.ticket;
        let (count, first, last) = part.shards.entry(item.shard).or_insert((0, ticket, ticket));
        (*count, *first, *last) = (*count + 1, ticket.min(*first), ticket.max(*last));
        part.tails += item.tail.map_or(0, |tail| tail.len() as u64);
        part.see(of.time(&item, arrived).unwrap_or_else(|| of.clock.to_wall(arrived)));
        Ok(())
    }

    fn sample(&mut self, of: &StoredSource, sample: Sample<'_>) -> Result<()> {
        let Some(part) = self.parts.last_mut() else { return Ok(()) };
        part.samples += 1;
        if (sample.index as usize) < DRAWN {
            part.histograms.extend(of.histogram(sample.bytes).map(|histogram| (sample.index, histogram)));
        }
        part.see(of.clock.to_wall(sample.time));
        Ok(())
    }

    fn lost(&mut self, lost: Lost) -> Result<()> {
        let Some(part) = self.parts.last_mut() else { return Ok(()) };
        if part.losses.len() < LISTED {
            part.losses.push(lost);
        } else if let Some(last) = part.losses.last_mut() {
            last.count = last.count.saturating_add(lost.count);
        }
        Ok(())
    }
}

impl Part {
    fn see(&mut self, time: SystemTime) {
        self.first = Some(self.first.map_or(time, |first| first.min(time)));
        self.last = Some(self.last.map_or(time, |last| last.max(time)));
    }

    fn records(&self) -> u64 {
        self.shards.values().map(|(count, ..)| count).sum()
    }

    fn json(&self) -> Json {
        let shards = self.shards.iter().map(|(shard, (count, first, last))| {
            json!({ "shard": shard, "records": count, "first_ticket": first, "last_ticket": last })
        });
        json!({
            "source": self.source, "type": self.ty, "fields": self.fields, "btf_bytes": self.btf,
            "records": self.records(), "tail_bytes": self.tails, "samples": self.samples,
            "first": self.first.map(line::time), "last": self.last.map(line::time),
            "shards": shards.collect::<Vec<_>>(), "losses": self.losses,
        })
    }

    /// Lines for people: a name and a text each.
    fn lines(&self) -> Vec<(&'static str, String)> {
        let source = &self.source;
        let shape = match (source.kind, source.shards) {
            (SourceKind::Ring, 1) => "slots",
            (SourceKind::Ring, shards) => &format!("slots in each of {shards} shards"),
            (_, 1) => "values",
            (SourceKind::Array, cpus) => &format!("values on each of {cpus} CPUs"),
            (_, shards) => &format!("values in each of {shards} shards"),
        };
        let tails = source.tails.map(|[longest, _]| format!(", tails of up to {longest} bytes"));
        let mut lines = vec![
            (
                "source",
                format!(
                    "{}: {} of {} bytes, {} {shape}{}",
                    printable(&source.name),
                    source.kind,
                    source.record,
                    grouped(source.entries as u64),
                    tails.unwrap_or_default()
                ),
            ),
            ("from", format!("{}, Linux {}", printable(&source.host), printable(&source.kernel))),
        ];
        match (&self.ty, &source.no_types) {
            _ if source.kind.layout().is_some() => {
                lines.extend(source.kind.layout().map(|layout| ("values", layout.to_owned())));
            }
            (Some(ty), _) => {
                lines.push(("type", format!("{ty}, with BTF of {} bytes", grouped(self.btf as u64))));
                lines.extend(self.fields.iter().take(1).map(|_| ("fields", self.fields.join(", "))));
            }
            (None, why) => {
                let why = why.as_deref().unwrap_or("its types can't be read");
                lines.push(("type", format!("not known: {}", printable(why))));
            }
        }
        if let (Some(first), Some(last)) = (self.first, self.last) {
            let span = last.duration_since(first).unwrap_or_default();
            lines.push(("time", format!("{} to {}, {span:.1?}", line::time(first), line::time(last))));
        }
        let tails =
            if self.tails > 0 { format!(", tails of {}", output::bytes(self.tails)) } else { String::new() };
        match source.kind {
            SourceKind::Ring => {
                lines.push(("records", format!("{}{tails}", grouped(self.records()))));
            }
            _ => lines.push(("samples", format!("{} changed values", grouped(self.samples)))),
        }
        for (shard, (count, first, last)) in &self.shards {
            let count = grouped(*count);
            lines.push((
                "",
                format!("shard {shard}: {count}, tickets {} to {}", grouped(*first), grouped(*last)),
            ));
        }
        let more = self.losses.len().saturating_sub(20);
        if !self.losses.is_empty() {
            let sum = self.losses.iter().fold(0, |sum: u64, lost| sum.saturating_add(lost.count));
            lines.push(("lost", grouped(sum)));
        }
        lines.extend(self.losses.iter().take(20).map(|lost| ("", lost.to_string())));
        if more > 0 {
            lines.push(("", format!("and {more} more losses: --json lists them")));
        }
        lines
    }
}

impl Summary {
    fn json(&self, end: &End, bytes: u64) -> Json {
        let damage = match end {
            End::Damaged(at, why) => json!({ "offset": at, "reason": why }),
            End::Whole | End::Open => Json::Null,
        };
        json!({
            "version": super::format::VERSION, "bytes": bytes, "whole": *end == End::Whole, "damage": damage,
            "parts": self.parts.iter().map(Part::json).collect::<Vec<_>>(),
        })
    }

    fn print(&self, out: &mut impl Write, name: &str, end: &End, bytes: u64) -> Result<()> {
        let end = match end {
            End::Whole => "whole".to_owned(),
            End::Open => "without an end".to_owned(),
            End::Damaged(at, _) => format!("damaged at byte {at}"),
        };
        writeln!(out, "{name}: {}, {end}", output::bytes(bytes))?;
        for part in &self.parts {
            writeln!(out)?;
            for (name, text) in part.lines() {
                for (at, line) in wrapped(&text, 68).iter().enumerate() {
                    writeln!(out, "{:<9} {line}", if at == 0 { name } else { "" })?;
                }
            }
            for (index, histogram) in part.histograms.iter().filter(|(_, histogram)| histogram.count() > 0) {
                write!(out, "\nlast sample of {index}: {}", histogram::drawn(histogram, 78))?;
            }
        }
        Ok(())
    }
}
