//! The format of the file, which docs/recording.md describes. Whoever reads it gets the rings as memory files, in which the
//! readers of live rings read them. It can have any content: each number is checked, and memory grows only with the bytes that
//! are present.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use mapring_kit::output;
use mapring_kit::text::{printable, printable_path};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{About, Known};
use crate::event::Interface;
use crate::input::Input;
use crate::made_by;
use crate::memory;
use crate::names::Names;
use crate::rings::{self, GROUPS, GroupRings, MARKS};
use crate::stopped::Stop;
use crate::symbols::Saved;

const MAGIC: [u8; 8] = *b"MAPRINGF";
const VERSION: u32 = 1;
/// Bytes of a part before its content: its name, its length, and a checksum of all that.
const HEADER: usize = 32;
const NAME: usize = 16;
const CHECKED: usize = NAME + 8;

pub(super) const ABOUT: &str = "about";
pub(super) const NAMES: &str = "names";
/// The names of frames.
pub(super) const SYMBOLS: &str = "symbols";
const END: &str = "end";
/// The longest part that is not a ring.
pub(super) const TEXT: usize = 64 << 20;

pub(super) struct Writer<W> {
    out: W,
    bytes: u64,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(mut out: W) -> io::Result<Self> {
        out.write_all(&MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        out.write_all(&[0; 4])?;
        Ok(Self { out, bytes: 16 })
    }

    pub(super) fn part(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut header = [0; HEADER];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[NAME..CHECKED].copy_from_slice(&(content.len() as u64).to_le_bytes());
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(&header[..CHECKED]);
        checksum.update(content);
        header[CHECKED..CHECKED + 4].copy_from_slice(&checksum.finalize().to_le_bytes());
        self.bytes += (HEADER + content.len()) as u64;
        self.out.write_all(&header)?;
        self.out.write_all(content)
    }

    /// A part of JSON, which is cut until a reader takes it. Returns whether it was.
    pub(super) fn json<T: Serialize>(
        &mut self,
        name: &str,
        mut content: T,
        mut shorten: impl FnMut(&mut T) -> bool,
    ) -> Result<bool> {
        let mut is_cut = false;
        loop {
            let text = serde_json::to_vec(&content)?;
            if text.len() <= TEXT {
                self.part(name, &text)?;
                return Ok(is_cut);
            }
            ensure!(shorten(&mut content), "{name:?} has {}", output::bytes(text.len() as u64));
            is_cut = true;
        }
    }

    /// Returns the bytes of the file.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        self.part(END, &[])?;
        self.out.flush()?;
        Ok(self.bytes)
    }
}

/// Reads a file.
///
/// # Errors
/// If it is not whole, or another version of the command wrote it.
pub(crate) fn read(path: &Path) -> Result<Input> {
    let shown = || printable_path(path);
    let file = File::open(path).with_context(shown)?;
    input(BufReader::with_capacity(1 << 16, file)).with_context(shown)
}

/// The same of its bytes.
pub(crate) fn input(bytes: impl Read) -> Result<Input> {
    let reader = &mut Reader { input: bytes };
    let mut start = [0; 16];
    let is_one = reader.input.read_exact(&mut start).is_ok() && start[..8] == MAGIC;
    ensure!(is_one, "not a file of `mapring flight save`");
    let [version, zero] = [8, 12].map(|at| u32::from_le_bytes(std::array::from_fn(|byte| start[at + byte])));
    ensure!(
        version == VERSION,
        "a file of version {version}: this mapring {} reads version {VERSION}",
        made_by::VERSION
    );
    ensure!(zero == 0, "damaged: its first bytes");
    let first = reader.part()?;
    ensure!(first.name == ABOUT, "damaged: it does not begin with {ABOUT:?}");
    let about = about(&reader.text(&first)?)?;
    let known_layouts = made_by::layouts();
    let mut known = Known::default();
    let mut symbols = Saved::default();
    let mut rings = Vec::new();
    let mut memory = memory::free();
    loop {
        let part = reader.part()?;
        match &*part.name {
            NAMES => known = serde_json::from_slice(&reader.text(&part)?).context("damaged")?,
            SYMBOLS => symbols = serde_json::from_slice(&reader.text(&part)?).context("damaged")?,
            END => break,
            name => {
                let group = GROUPS.iter().chain([&MARKS]).find(|group| group.name == name);
                let Some(group) = group.filter(|_| about.layouts.get(name) == known_layouts.get(name)) else {
                    return Err(unknown(name, &about.machine.mapring));
                };
                ensure!(
                    rings.iter().all(|ring: &GroupRings| ring.name() != name),
                    "damaged: two rings of {name}"
                );
                let left = memory.checked_sub(part.len);
                memory =
                    left.context("its rings need more memory than this machine, or a cgroup, has free")?;
                let ring = group.restored(reader.memory_file(&part)?, about.until);
                rings.push(ring.with_context(|| format!("damaged: the ring of {name}"))?);
            }
        }
    }
    ensure!(reader.input.read(&mut [0])? == 0, "damaged: bytes after its end");
    ensure!(!rings.is_empty(), "damaged: it has no ring");
    let stop =
        about.stop.as_deref().map(|words| Stop::of(words).context("damaged: what stopped it")).transpose()?;
    known.escape();
    let Known { processes, ended, net_ns, interfaces, irqs } = known;
    let interfaces = interfaces.into_iter().map(|(index, name)| (Interface { index, net_ns }, name));
    let names =
        Names::saved(about.machine.clone(), processes.into_iter(), interfaces, irqs).with_ended(ended);
    Ok(Input::of_file(rings, names, stop, about, symbols))
}

/// The first part. Other versions may have other things in it.
fn about(text: &[u8]) -> Result<About> {
    let value: Value = serde_json::from_slice(text).context("damaged")?;
    let by = value["machine"]["mapring"].as_str().unwrap_or_default();
    if value["layouts"][made_by::STOP].as_str() != made_by::layouts().get(made_by::STOP).map(String::as_str) {
        return Err(unknown("triggers", by));
    }
    About::deserialize(&value).context("damaged")
}

fn unknown(what: &str, by: &str) -> anyhow::Error {
    let (by, this) = (printable(by), made_by::VERSION);
    let which = if by == this { "another build of ".into() } else { Cow::Borrowed("") };
    anyhow!(
        "{which}mapring {by} wrote it, with {what:?} that this mapring {this} does not know: read it with that one"
    )
}

struct Reader<R> {
    input: R,
}

/// A part whose content comes next.
struct Part {
    name: String,
    len: u64,
    checksum: crc32fast::Hasher,
    expected: u32,
}

impl<R: Read> Reader<R> {
    fn part(&mut self) -> Result<Part> {
        let mut header = [0; HEADER];
        self.input.read_exact(&mut header).map_err(cut)?;
        let name = header[..NAME].split(|byte| *byte == 0).next().unwrap_or_default();
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(&header[..CHECKED]);
        let word = |at: usize| header[at..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
        let expected = u32::try_from(word(CHECKED)).context("damaged: the header of a part")?;
        let part =
            Part { name: String::from_utf8_lossy(name).into_owned(), len: word(NAME), checksum, expected };
        if part.name == END {
            ensure!(part.len == 0, "damaged: its end");
            self.copy(&part, &mut io::sink())?;
        }
        Ok(part)
    }

    fn text(&mut self, part: &Part) -> Result<Vec<u8>> {
        ensure!(part.len <= TEXT as u64, "damaged: {} of {:?}", output::bytes(part.len), part.name);
        let mut text = Vec::new();
        self.copy(part, &mut text)?;
        Ok(text)
    }

    /// The content in a sealed memory file: nobody can change or shorten it.
    fn memory_file(&mut self, part: &Part) -> Result<OwnedFd> {
        rings::memory_file(|file| self.copy(part, file))
    }

    /// Copies the content, and checks it.
    fn copy(&mut self, part: &Part, to: &mut impl Write) -> Result<()> {
        let (mut checksum, mut left, mut buffer) = (part.checksum.clone(), part.len, vec![0; 1 << 16]);
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            self.input.read_exact(&mut buffer[..most]).map_err(cut)?;
            checksum.update(&buffer[..most]);
            to.write_all(&buffer[..most]).context("a copy of it in memory")?;
            left -= most as u64;
        }
        ensure!(checksum.finalize() == part.expected, "damaged: {:?} has a wrong checksum", part.name);
        Ok(())
    }
}

fn cut(error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => anyhow::anyhow!("damaged: it is cut"),
        _ => error.into(),
    }
}
