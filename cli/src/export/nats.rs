//! `mapring export nats`: the records of a ring, each a message in a stream of NATS JetStream, once and in order.
//!
//! Each shard has a subject of its own. The `Nats-Msg-Id` of a message says which tickets it stands for, so the last
//! message of a subject is also the position of this export: nothing else is stored. Each message says which message must be
//! before it. Those under way are of one shard: the first names the sequence of the last message in its subject
//! (`Nats-Expected-Last-Subject-Sequence`), each other one the message before it (`Nats-Expected-Last-Msg-Id`). So the server
//! takes none twice and none after a gap, even from two exporters. (Under way with those of another shard, a message could
//! follow one that was a duplicate, and skip one that was refused.) After any error, positions are asked for again. If others
//! publish to the stream, fewer messages are under way at once.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use mapring::time::{Clock, WallClock};
use serde_json::json;

use super::jetstream::{ANSWER, Address, Client};
use super::published::{Message, Ring};
use crate::output;
use crate::regions::Interrupted;
use crate::regions::find;
use crate::regions::follow::{Ends, LOOK, Pinned, has_passed, look_at_pin};
use crate::regions::text::printable;

/// Publish the records of a ring to NATS JetStream, each once, and go on after a restart where it stopped
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A pin, id:42, the name of a map, or a memory file (/proc/PID/fd/N)
    target: String,
    /// The server: nats://[USER:PASSWORD@]HOST:PORT
    #[arg(long, value_name = "URL", env = "MAPRING_NATS", hide_env_values = true,
        default_value = "nats://127.0.0.1:4222", value_parser = Address::parse)]
    to: Address,
    /// The stream. It must exist
    #[arg(long, value_name = "NAME", value_parser = subject)]
    stream: String,
    /// The records of shard N are published as SUBJECT.N. The stream must take SUBJECT.*
    #[arg(long, value_name = "SUBJECT", value_parser = subject)]
    subject: String,
    /// Where to start if the stream has no record of this ring
    #[arg(long, value_enum, default_value_t)]
    from: From,
    /// The most messages that are sent but not yet acknowledged
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pending: u32,
    /// Publish the records that are there now, and end
    #[arg(long)]
    once: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum From {
    /// With the oldest record that is still there
    #[default]
    First,
    /// With the next record
    Now,
}

/// The longest wait before signals and the pin are looked at again.
const STEP: Duration = Duration::from_millis(50);
/// The first pause before another connection, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(10)];
/// The most bytes that wait for an acknowledgement, beside one message.
const BYTES: usize = 8 << 20;

fn subject(text: &str) -> Result<String, String> {
    let is_token =
        |token: &str| !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic() && !b"*>".contains(&b));
    if text.split('.').all(is_token) {
        Ok(text.to_owned())
    } else {
        Err("use words with points between".to_owned())
    }
}

/// Whether a stream with this pattern takes a subject.
fn takes(pattern: &str, subject: &str) -> bool {
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

struct Export<'a> {
    args: &'a Args,
    clock: WallClock,
    ring: Ring,
    pending: VecDeque<Message>,
    bytes: usize,
    /// The sequence in the stream of the last message of each shard.
    last: BTreeMap<usize, u64>,
    /// The sequence of the newest message in the stream that is known.
    newest: u64,
    /// The number of the last message that was sent.
    token: u64,
    /// The most messages under way: fewer if others publish to this stream.
    window: usize,
    /// When messages were sent, or the last answer came.
    heard: Instant,
    published: u64,
    lost: u64,
}

pub(super) fn run(args: &Args) -> Result<()> {
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
        last: BTreeMap::new(),
        newest: 0,
        token: 0,
        window: args.pending as usize,
        heard: Instant::now(),
        published: 0,
        lost: 0,
    };
    let done = export.connections(&interrupted, ends.as_ref());
    let Export { published, lost, pending, .. } = &export;
    match lost {
        0 => output::note(format_args!("mapring: {published} records published, none lost")),
        _ => eprintln!("mapring: {published} records published; {lost} lost, and published as lost"),
    }
    if !pending.is_empty() {
        eprintln!("mapring: {} records are not acknowledged: the next export publishes them", pending.len());
    }
    done
}

impl Export<'_> {
    /// Publishes over one connection after the other. Only the first one must succeed at once.
    fn connections(&mut self, interrupted: &Interrupted, ends: Option<&Ends>) -> Result<()> {
        let (host, mut pause, mut said) =
            (printable(&self.args.to.host).into_owned(), PAUSES[0], String::new());
        let mut was_connected = false;
        loop {
            let before = self.published;
            let done = self.connection(interrupted, ends, &mut was_connected, &mut said);
            let e = match done {
                Ok(()) => return Ok(()),
                Err(e) if !was_connected => return Err(e.context(host)),
                Err(e) => crate::regions::text::said(&e),
            };
            if self.published > before {
                pause = PAUSES[0];
            }
            if e != said {
                eprintln!("mapring: {host}: {e}; trying again, with {} messages waiting", self.pending.len());
                said = e;
            }
            if interrupted.sleep(pause) {
                return Ok(());
            }
            pause = (2 * pause).min(PAUSES[1]);
        }
    }

    fn connection(
        &mut self,
        interrupted: &Interrupted,
        ends: Option<&Ends>,
        was_connected: &mut bool,
        said: &mut String,
    ) -> Result<()> {
        let mut client = Client::connect(&self.args.to)?;
        self.resume(&mut client)?;
        if !*was_connected {
            output::note(format_args!(
                "mapring: publishing to stream {} as {}.*",
                self.args.stream, self.args.subject
            ));
        } else if !said.is_empty() {
            eprintln!("mapring: {}: connected again", printable(&self.args.to.host));
            said.clear();
        }
        *was_connected = true;
        let mut looked = Instant::now();
        let mut end: Option<Instant> = None;
        loop {
            let is_over = interrupted.is_set();
            let some = !is_over && self.read(client.max_payload, ends)?;
            self.send(&mut client)?;
            let is_read = ends.is_some_and(|ends| has_passed(&*self.ring.records, ends));
            // What is under way may still be acknowledged.
            if (is_over || is_read) && self.pending.is_empty() {
                return Ok(());
            }
            if is_over && *end.get_or_insert(Instant::now() + ANSWER / 2) < Instant::now() {
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
                    self.ring = ring;
                    self.resume(&mut client)?;
                    continue;
                }
                if self.ring.records.ended().is_some() {
                    interrupted.sleep(STEP); // The reader's own wait ends at once.
                }
            }
            if looked.elapsed() > LOOK {
                looked = Instant::now();
                self.clock.update();
                let open = |place| Ring::open(place, false);
                if is_idle && let Pinned::Other(ring) = look_at_pin(&self.ring.target, &mut true, open)? {
                    eprintln!(
                        "mapring: {}: another ring is pinned there now; continuing with it",
                        self.args.target
                    );
                    self.ring = ring;
                    self.resume(&mut client)?;
                }
            }
        }
    }

    /// Asks the stream up to which ticket it has each shard. Messages that it has are no longer pending.
    fn resume(&mut self, client: &mut Client) -> Result<()> {
        let stream = &self.args.stream;
        let info = client.request(&format!("STREAM.INFO.{stream}"), &json!({}))?;
        let info = info.map_err(|why| anyhow::anyhow!("stream {stream}: {why}"))?;
        let covered = |shard: &usize| {
            let subjects =
                info["config"]["subjects"].as_array().into_iter().flatten().filter_map(|one| one.as_str());
            let wanted = format!("{}.{shard}", self.args.subject);
            subjects.into_iter().any(|pattern| takes(pattern, &wanted))
        };
        ensure!(
            self.ring.next.keys().all(covered),
            "stream {stream} does not take {0}.*: nats stream edit {stream} --subjects '{0}.*'",
            self.args.subject
        );
        self.newest = info["state"]["last_seq"].as_u64().context("an answer without a sequence")?;
        let shards: Vec<_> = self.ring.next.keys().copied().collect();
        let mut ids = Vec::new();
        for &shard in &shards {
            let last = client.last(stream, &format!("{}.{shard}", self.args.subject))?;
            let (seq, id) = last.unwrap_or_default();
            self.last.insert(shard, seq);
            ids.push(id);
        }
        if ids.iter().any(|id| self.ring.is_before(id)) {
            // Another export has gone on with a later ring, and published what is missing before it.
            self.pending.clear();
            self.ring = Ring::open(self.ring.target.place.clone(), false)?;
            let is_latest = !self.args.once && !ids.iter().any(|id| self.ring.is_before(id));
            ensure!(is_latest, "another export has gone on with the ring that replaced this one");
            return self.resume(client);
        }
        let is_begun = shards.iter().zip(&ids).any(|(shard, id)| self.ring.position(id, *shard).is_some());
        if !is_begun && self.pending.is_empty() {
            let beginning = self.ring.beginning(&ids, self.args.from == From::Now);
            self.lost += beginning.as_ref().map_or(0, |message| message.lost);
            self.pending.extend(beginning);
        }
        for (shard, id) in shards.into_iter().zip(ids) {
            if let Some(position) = self.ring.position(&id, shard) {
                let before = self.pending.len();
                self.pending.retain(|message| {
                    message.shard != shard || message.tickets.start >= position && !message.tickets.is_empty()
                });
                self.published += (before - self.pending.len()) as u64;
                // Read on where the stream ends, but not again what is pending.
                if !self.pending.iter().any(|message| message.shard == shard) {
                    self.ring.next.insert(shard, position);
                }
            } else if is_begun && self.ring.is_successor() && self.published == 0 {
                // An export read this ring from its beginning, and found nothing in this shard.
                self.ring.next.insert(shard, 0);
            }
        }
        self.bytes = self.pending.iter().map(|message| message.payload.len()).sum();
        self.pending.iter_mut().for_each(|message| message.sent = None);
        self.heard = Instant::now();
        Ok(())
    }

    /// Reads records as long as there is room for messages; returns whether there was one.
    fn read(&mut self, most: usize, ends: Option<&Ends>) -> Result<bool> {
        let room = (self.args.pending as usize).saturating_sub(self.pending.len());
        if room == 0 || self.bytes >= BYTES {
            return Ok(false);
        }
        // A record may come with a loss before it.
        let limit = room.div_ceil(2).min(BYTES / self.ring.largest.max(1)).max(1);
        let (count, messages) = self.ring.read(limit, most, &self.clock, ends)?;
        self.queue(messages);
        Ok(count > 0)
    }

    fn queue(&mut self, messages: Vec<Message>) {
        self.bytes += messages.iter().map(|message| message.payload.len()).sum::<usize>();
        self.lost += messages.iter().map(|message| message.lost).sum::<u64>();
        self.pending.extend(messages);
    }

    /// Sends the messages of the shard that waits longest, if none are under way.
    fn send(&mut self, client: &mut Client) -> Result<()> {
        let Some(shard) = self.pending.front().map(|oldest| oldest.shard) else { return Ok(()) };
        if self.pending.iter().any(|message| message.sent.is_some()) {
            return Ok(());
        }
        self.heard = Instant::now();
        let mut out = Vec::new();
        let Args { stream, subject, .. } = self.args;
        let mut before: Option<String> = None;
        let of_shard = self.pending.iter_mut().filter(|message| message.shard == shard);
        for message in of_shard.take(self.window) {
            let id = self.ring.id(shard, &message.tickets);
            let expected = match before {
                Some(before) => format!("Msg-Id: {before}"),
                None => format!("Subject-Sequence: {}", self.last.get(&shard).copied().unwrap_or_default()),
            };
            let headers = format!(
                "Nats-Msg-Id: {id}\r\nNats-Expected-Stream: {stream}\r\nNats-Expected-Last-{expected}\r\n"
            );
            self.token += 1;
            client.encode(&mut out, &format!("{subject}.{shard}"), self.token, &headers, &message.payload);
            message.sent = Some(self.token);
            before = Some(id);
        }
        client.send(&out)
    }

    /// Takes answers, and waits for the first one.
    fn receive(&mut self, client: &mut Client, timeout: Duration) -> Result<()> {
        let mut timeout = timeout;
        while let Some(message) = client.next(timeout)? {
            timeout = Duration::ZERO;
            self.heard = Instant::now();
            let token = message.token.parse::<u64>().ok();
            let of_token = |one: &Message| one.sent.is_some() && one.sent == token;
            let Some(at) = self.pending.iter().position(of_token) else { continue };
            match message.answer() {
                Ok(answer) => {
                    let seq = answer["seq"].as_u64().context("an answer without a sequence")?;
                    let Some(taken) = self.pending.remove(at) else { continue };
                    self.bytes -= taken.payload.len();
                    self.published += 1;
                    self.last.insert(taken.shard, seq);
                    let is_alone = seq == self.newest.wrapping_add(1);
                    self.window =
                        if is_alone { (self.window + 1).min(self.args.pending as usize) } else { 1 };
                    self.newest = seq;
                }
                // Another message was stored in between.
                Err(why) if why.contains("wrong last") => {
                    self.window = 1;
                    return self.again(client);
                }
                Err(why) => bail!("{why}"),
            }
        }
        let waits = self.pending.iter().any(|message| message.sent.is_some());
        ensure!(!waits || self.heard.elapsed() < ANSWER, "no acknowledgement in {ANSWER:?}");
        Ok(())
    }

    /// After a refusal: takes the other answers under way, and asks for the positions again.
    fn again(&mut self, client: &mut Client) -> Result<()> {
        let under_way = self.pending.iter().filter(|message| message.sent.is_some()).count();
        let end = Instant::now() + ANSWER;
        for _ in 1..under_way {
            let left = end.saturating_duration_since(Instant::now());
            ensure!(client.next(left)?.is_some(), "no acknowledgement in {ANSWER:?}");
        }
        self.resume(client)
    }
}
