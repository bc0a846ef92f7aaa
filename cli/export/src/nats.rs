//! `mapring export nats`: the records of a ring, each a message in a stream of NATS JetStream, once and in order.
//!
//! Each shard has a subject of its own. The `Nats-Msg-Id` of a message says which tickets it stands for, so the last
//! message of a subject is also the position of this export: nothing else is stored. Each message says which message must be
//! before it. Those under way are of one shard: the first names the sequence of the last message in its subject
//! (`Nats-Expected-Last-Subject-Sequence`), each other one the message before it (`Nats-Expected-Last-Msg-Id`). So the server
//! takes none twice and none after a gap, even from two exporters. (Under way with those of another shard, a message could
//! follow one that was a duplicate, and skip one that was refused.) After any error, positions are asked for again. If others
//! publish to the stream, fewer messages are under way at once. A record that the stream will never take becomes a loss.

mod under_way;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::ValueEnum;
use mapring::time::{Clock, WallClock};
use mapring_kit::output;
use mapring_kit::signals::Interrupted;
use mapring_kit::text::printable;
use mapring_view::find;
use mapring_view::follow::{CHECK_INTERVAL, Ends, PinChecks, Pinned, check_pin, has_passed};

use self::under_way::Rest;
use crate::jetstream::{ANSWER, Address, Client, Refused, STEP};
use crate::published::{Message, Ring};

/// Publish the records of a ring to NATS JetStream, each once, and go on after a restart where it stopped
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A pin, id:42, the name of a map, or a memory file (/proc/PID/fd/N)
    pub(crate) target: String,
    /// The server: nats://[USER:PASSWORD@]HOST:PORT
    #[arg(long, value_name = "URL", env = "MAPRING_NATS", hide_env_values = true,
        default_value = "nats://127.0.0.1:4222", value_parser = Address::parse)]
    to: Address,
    /// The stream. It must exist
    #[arg(long, value_name = "NAME", value_parser = subject)]
    pub(crate) stream: String,
    /// The records of shard N are published as SUBJECT.N. The stream must take SUBJECT.*
    #[arg(long, value_name = "SUBJECT", value_parser = subject)]
    pub(crate) subject: String,
    /// Where to start if the stream has no record of this ring
    #[arg(long, value_enum, default_value_t)]
    pub(crate) from: From,
    /// The most messages that are sent but not yet acknowledged
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) pending: u32,
    /// Publish the records that are there now, and end
    #[arg(long)]
    pub(crate) once: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum From {
    /// With the oldest record that is still there
    #[default]
    First,
    /// With the next record
    Now,
}

/// With `--once` it gives up after this number of connections in a row that stored nothing.
const TRIES: u32 = 4;
/// The most bytes that wait for an acknowledgement, beside one message.
pub(crate) const BYTES: usize = 8 << 20;
/// The longest name of a stream or subject: a server takes lines of 4 KiB.
const NAME: usize = 255;

fn subject(text: &str) -> Result<String, String> {
    let is_token =
        |token: &str| !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic() && !b"*>".contains(&b));
    match text.split('.').all(is_token) {
        true if text.len() <= NAME => Ok(text.to_owned()),
        true => Err(format!("a name has at most {NAME} bytes")),
        false => Err("use words with points between".to_owned()),
    }
}

/// Whether a stream with this pattern takes a subject.
pub(crate) fn takes(pattern: &str, subject: &str) -> bool {
    let mut words = subject.split('.');
    for word in pattern.split('.') {
        match (word, words.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (word, Some(of)) if word == of => {}
            _ => return false,
        }
    }
    words.next().is_none()
}

/// Whether the stream will never take a message again.
fn is_for_good(e: &anyhow::Error) -> bool {
    e.downcast_ref::<Refused>().is_some_and(Refused::is_for_good)
}

pub(crate) struct Export<'a> {
    pub(crate) args: &'a Args,
    clock: WallClock,
    pub(crate) ring: Ring,
    pub(crate) pending: VecDeque<Message>,
    pub(crate) bytes: usize,
    /// The most bytes of a message with its headers.
    pub(crate) most: usize,
    /// The sequence in the stream of the last message of each shard, and the ticket after it.
    pub(crate) last: BTreeMap<usize, (u64, u64)>,
    /// The sequence of the newest message in the stream that is known.
    pub(crate) newest: u64,
    /// The number of the last message that was sent.
    pub(crate) token: u64,
    /// The most messages under way: fewer if others publish to this stream.
    pub(crate) window: usize,
    /// When messages were sent, or the last answer came.
    pub(crate) heard: Instant,
    pub(crate) rest: Rest,
    /// The messages that the stream has, and the lost records that these say.
    pub(crate) published: u64,
    pub(crate) lost: u64,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let interrupted = Interrupted::new()?;
    let ring = Ring::open(find::find(&args.target)?, args.from == From::Now)?;
    if let Err(why) = ring.target.ty() {
        output::note(format_args!("mapring: records are published as bytes: {why}"));
    }
    let ends: Option<Ends> = match args.once {
        true => Some(ring.ends()?),
        false => None,
    };
    let mut export = Export {
        args,
        clock: WallClock::new(Clock::Monotonic)?,
        ring,
        pending: VecDeque::new(),
        bytes: 0,
        most: 0,
        last: BTreeMap::new(),
        newest: 0,
        token: 0,
        window: args.pending as usize,
        heard: Instant::now(),
        rest: Rest::default(),
        published: 0,
        lost: 0,
    };
    let done = export.connections(&interrupted, ends.as_ref());
    let Export { published, lost, pending, .. } = &export;
    let unsaid = export.pending_lost();
    match lost {
        0 => output::note(format_args!("mapring: {published} records published, none lost")),
        _ => eprintln!("mapring: {published} records published; {lost} lost, and published as lost"),
    }
    if !pending.is_empty() {
        let records = pending.iter().filter(|message| message.is_record()).count();
        let lost = if unsaid > 0 { format!(", and that {unsaid} are lost") } else { String::new() };
        eprintln!("mapring: not acknowledged: {records} records{lost}: the next export publishes this");
    }
    done
}

impl Export<'_> {
    /// Publishes over one connection after the other. Only the first one must succeed at once.
    fn connections(&mut self, interrupted: &Interrupted, ends: Option<&Ends>) -> Result<()> {
        let host = printable(&self.args.to.host).into_owned();
        let (mut was_connected, mut tries) = (false, 0);
        loop {
            let before = self.published;
            let done = self.connection(interrupted, ends, &mut was_connected);
            tries = if self.published > before { 1 } else { tries + 1 };
            let e = match done {
                Ok(()) => return Ok(()),
                Err(_) if interrupted.is_set() => return Ok(()),
                Err(e) if !was_connected || self.args.once && tries >= TRIES || is_for_good(&e) => {
                    return Err(e.context(host));
                }
                Err(e) => mapring_kit::text::one_line(&e),
            };
            if e != self.rest.last_error {
                eprintln!("mapring: {host}: {e}; trying again, with {} messages waiting", self.pending.len());
                self.rest.last_error = e;
            }
            let end = Instant::now() + Rest::pause(tries);
            while Instant::now() < end {
                // What is read is not overwritten.
                if !self.read(ends).unwrap_or(false) && interrupted.sleep(STEP) {
                    return Ok(());
                }
            }
        }
    }

    fn connection(
        &mut self,
        interrupted: &Interrupted,
        ends: Option<&Ends>,
        was_connected: &mut bool,
    ) -> Result<()> {
        let mut client = Client::connect(&self.args.to, interrupted)?;
        self.resume(&mut client)?;
        if !*was_connected {
            output::note(format_args!(
                "mapring: publishing to stream {} as {}.*",
                self.args.stream, self.args.subject
            ));
        } else if self.pending.is_empty() {
            self.works_again();
        }
        *was_connected = true;
        let mut checked = Instant::now();
        let mut end: Option<Instant> = None;
        loop {
            let is_over = interrupted.is_set();
            let some = !is_over && self.read(ends)?;
            self.send(&mut client)?;
            let is_read = ends.is_some_and(|ends| has_passed(&*self.ring.records, ends));
            // What is under way may still be acknowledged.
            if (is_over || is_read) && self.pending.is_empty() {
                return Ok(());
            }
            if is_over
                && (self.is_resting() || *end.get_or_insert(Instant::now() + ANSWER / 2) < Instant::now())
            {
                return Ok(());
            }
            let is_full = self.pending.len() >= self.args.pending as usize || self.bytes >= BYTES;
            if !some && self.pending.is_empty() {
                self.ring.records.wait(STEP)?;
            }
            let waits = !self.pending.is_empty() && (!some || is_full);
            self.receive(&mut client, if waits { STEP } else { Duration::ZERO })?;
            let is_idle = !some && ends.is_none() && self.pending.is_empty();
            if is_idle {
                let (messages, next) = self.ring.next_ring()?;
                self.queue(messages);
                if let Some(ring) = next {
                    eprintln!(
                        "mapring: {}: the ring was resized; continuing with the new one",
                        self.args.target
                    );
                    self.change_to(ring);
                    self.resume(&mut client)?;
                    continue;
                }
                if self.ring.records.ended().is_some() {
                    interrupted.sleep(STEP); // The reader's own wait ends at once.
                }
            }
            if checked.elapsed() > CHECK_INTERVAL {
                checked = Instant::now();
                self.clock.update();
                let open = |location| Ring::open(location, false);
                if is_idle
                    && let Pinned::Other(ring) =
                        check_pin(&self.ring.target, &mut PinChecks::default(), open)?
                {
                    eprintln!(
                        "mapring: {}: another ring is pinned there now; continuing with it",
                        self.args.target
                    );
                    self.change_to(ring);
                    self.resume(&mut client)?;
                }
            }
        }
    }

    /// Reads records as long as there is room for messages; returns whether there was one.
    fn read(&mut self, ends: Option<&Ends>) -> Result<bool> {
        let room = (self.args.pending as usize).saturating_sub(self.pending.len());
        if room == 0 || self.bytes >= BYTES {
            return Ok(false);
        }
        // A record may come with a loss before it.
        let limit = room.div_ceil(2).min(BYTES / self.ring.largest.max(1)).max(1);
        let (count, messages) = self.ring.read(limit, &self.clock, ends)?;
        self.queue(messages);
        Ok(count > 0)
    }

    fn queue(&mut self, messages: Vec<Message>) {
        self.bytes += messages.iter().map(|message| message.payload.len()).sum::<usize>();
        self.pending.extend(messages);
    }
}
