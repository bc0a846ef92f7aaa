//! What an export to NATS has under way: it is sent, answered or refused, and compared with what the stream has.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Args, Export, From, takes};
use crate::jetstream::{ANSWER, Client, Refused, STEP};
use crate::published::{Message, Ring};

/// When the server may be asked again.
#[derive(Default)]
pub(crate) struct Rest {
    /// The first refusal of the messages under way: which one, and why.
    refused: Option<(usize, Range<u64>, Refused)>,
    /// The number of refusals since the stream took something.
    count: u32,
    /// Nothing is sent before this time.
    until: Option<Instant>,
    /// The last reason that was printed.
    pub(crate) last_error: String,
}

impl Rest {
    /// The first pause, and the longest.
    const PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(10)];
    /// A record that is refused as often, without a reason that may pass, becomes a loss.
    const TRIES: u32 = 3;

    /// The pause after the first failure in a row, the second, …
    pub(crate) fn pause(count: u32) -> Duration {
        (Self::PAUSES[0] * (1 << count.saturating_sub(1).min(6))).min(Self::PAUSES[1])
    }
}

impl Export<'_> {
    /// Asks the stream up to which ticket it has each shard. Messages that it has are no longer pending.
    pub(crate) fn resume(&mut self, client: &mut Client<'_>) -> Result<()> {
        let stream = &self.args.stream;
        let info = client.request(&format!("STREAM.INFO.{stream}"), &json!({}))?;
        let info = info.map_err(|e| anyhow::anyhow!("stream {stream}: {e}"))?;
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
        self.most = most(client.max_payload, &info["config"], &self.args.subject);
        self.newest = info["state"]["last_seq"].as_u64().context("an answer without a sequence")?;
        let shards: Vec<_> = self.ring.next.keys().copied().collect();
        let mut ids = Vec::new();
        for &shard in &shards {
            let last = client.last(stream, &format!("{}.{shard}", self.args.subject))?;
            let (seq, id) = last.unwrap_or_default();
            self.last.entry(shard).or_default().0 = seq;
            ids.push(id);
        }
        if ids.iter().any(|id| self.ring.is_before(id)) {
            // Another export has gone on with a later ring, and published what is missing before it.
            self.pending.clear();
            self.change_to(Ring::open(self.ring.target.location.clone(), false)?);
            let is_latest = !self.args.once && !ids.iter().any(|id| self.ring.is_before(id));
            ensure!(is_latest, "another export has gone on with the ring that replaced this one");
            return self.resume(client);
        }
        let is_begun = shards.iter().zip(&ids).any(|(shard, id)| self.ring.position(id, *shard).is_some());
        if !is_begun && self.pending.is_empty() {
            let beginning = self.ring.beginning(&ids, self.args.from == From::Now);
            self.pending.extend(beginning);
        }
        for (shard, id) in shards.into_iter().zip(ids) {
            if let Some(position) = self.ring.position(&id, shard) {
                self.compare(shard, position);
            } else if is_begun && self.ring.is_successor() && self.published == 0 {
                // An export read this ring from its beginning, and found nothing in this shard.
                self.ring.next.insert(shard, 0);
            }
        }
        self.bytes = self.pending.iter().map(|message| message.payload.len()).sum();
        self.pending.iter_mut().for_each(|message| message.sent = None);
        (self.rest.refused, self.heard) = (None, Instant::now());
        Ok(())
    }

    pub(crate) fn change_to(&mut self, ring: Ring) {
        self.last.clear();
        self.ring = ring;
    }

    /// Drops what the stream has of a shard: all tickets before `position`.
    fn compare(&mut self, shard: usize, position: u64) {
        let (before, lost) = (self.pending.len(), self.pending_lost());
        let rest =
            |message: Message| if message.shard == shard { message.after(position) } else { Some(message) };
        self.pending = std::mem::take(&mut self.pending).into_iter().filter_map(rest).collect();
        let dropped = before - self.pending.len();
        self.published += dropped as u64;
        self.lost += lost - self.pending_lost();
        let known = std::mem::replace(&mut self.last.entry(shard).or_default().1, position);
        if dropped > 0 || position > known {
            self.rest.count = 0; // another export stored them
        }
        let first = self.pending.iter().position(|message| message.shard == shard);
        if position < known {
            let loss = Message::of_loss(shard, position..known, known - position, "no longer in the stream");
            self.pending.insert(first.unwrap_or(self.pending.len()), loss);
        } else if first.is_none() {
            self.ring.next.insert(shard, position); // read on where the stream ends
        }
    }

    /// The lost records of which the stream does not know yet.
    pub(crate) fn pending_lost(&self) -> u64 {
        self.pending.iter().map(|message| message.lost).sum()
    }

    /// Sends the messages of the shard that waits longest, if none are under way.
    pub(crate) fn send(&mut self, client: &mut Client<'_>) -> Result<()> {
        let Some(shard) = self.pending.front().map(|oldest| oldest.shard) else { return Ok(()) };
        if self.is_resting() || self.rest.refused.is_some() || self.are_under_way() {
            return Ok(());
        }
        self.heard = Instant::now();
        let Args { stream, subject, .. } = self.args;
        let mut before: Option<String> = None;
        let of_shard = self.pending.iter_mut().filter(|message| message.shard == shard);
        for message in of_shard.take(self.window) {
            let id = self.ring.id(shard, &message.tickets);
            let expected = match &before {
                Some(before) => format!("Msg-Id: {before}"),
                None => format!("Subject-Sequence: {}", self.last.get(&shard).map_or(0, |(seq, _)| *seq)),
            };
            let headers = format!(
                "NATS/1.0\r\nNats-Msg-Id: {id}\r\nNats-Expected-Stream: {stream}\r\n\
                 Nats-Expected-Last-{expected}\r\n\r\n"
            );
            if headers.len() + message.payload.len() > self.most {
                if before.is_some() {
                    break; // as the first one it has shorter headers
                }
                let loss = message.is_record().then(|| {
                    Message::of_loss(shard, message.tickets.clone(), 1, "larger than the stream takes")
                });
                let needed = headers.len() + loss.as_ref().unwrap_or(message).payload.len();
                ensure!(
                    needed <= self.most,
                    "stream {stream} takes {} bytes, and a message has {needed}: nats stream edit {stream} \
                     --max-msg-size {}",
                    self.most,
                    needed.next_power_of_two()
                );
                // Only now: after an error the record is still pending.
                if let Some(loss) = loss {
                    self.bytes = self.bytes.saturating_sub(message.payload.len()) + loss.payload.len();
                    *message = loss;
                }
            }
            self.token += 1;
            client.publish(&format!("{subject}.{shard}"), self.token, &headers, &message.payload);
            message.sent = Some(self.token);
            before = Some(id);
        }
        Ok(())
    }

    fn are_under_way(&self) -> bool {
        self.pending.iter().any(|message| message.sent.is_some())
    }

    /// Whether it waits because of a refusal, and nothing is under way.
    pub(crate) fn is_resting(&self) -> bool {
        self.rest.until.is_some_and(|until| Instant::now() < until)
    }

    /// Takes answers, and waits for the first one. After a refusal, and all other answers, asks for the positions again.
    pub(crate) fn receive(&mut self, client: &mut Client<'_>, timeout: Duration) -> Result<()> {
        let (mut timeout, end) = (timeout, Instant::now() + STEP);
        while let Some(message) = client.next(timeout)? {
            timeout = Duration::ZERO;
            let token = message.token.parse::<u64>().ok();
            let of_token = |one: &Message| one.sent.is_some() && one.sent == token;
            if let Some(at) = self.pending.iter().position(of_token) {
                self.answered(at, message.answer())?;
            }
            // The messages of others have no end.
            if Instant::now() > end {
                break;
            }
        }
        if self.are_under_way() {
            ensure!(self.heard.elapsed() < ANSWER, "no acknowledgement in {ANSWER:?}");
        } else if let Some((shard, tickets, refused)) = self.rest.refused.take() {
            if refused.is_for_good() {
                return Err(refused)
                    .with_context(|| format!("stream {} takes no more messages", self.args.stream));
            }
            self.refused(shard, &tickets, &refused);
            self.resume(client)?;
            if self.rest.count > 1 || !refused.is_of_order() {
                self.rest.until = Some(Instant::now() + Rest::pause(self.rest.count));
            }
        }
        Ok(())
    }

    pub(crate) fn works_again(&mut self) {
        if !std::mem::take(&mut self.rest.last_error).is_empty() {
            eprintln!("mapring: stream {}: takes messages again", self.args.stream);
        }
    }

    fn answered(&mut self, at: usize, answer: Result<Value, Refused>) -> Result<()> {
        self.heard = Instant::now();
        match answer {
            Ok(answer) => {
                let seq = answer["seq"].as_u64().context("an answer without a sequence")?;
                let Some(Message { shard, tickets, payload, lost, .. }) = self.pending.remove(at) else {
                    return Ok(());
                };
                self.bytes = self.bytes.saturating_sub(payload.len());
                (self.published, self.lost) = (self.published + 1, self.lost + lost);
                self.last.insert(shard, (seq, tickets.end));
                let is_alone = seq == self.newest.wrapping_add(1);
                self.window = if is_alone { (self.window + 1).min(self.args.pending as usize) } else { 1 };
                self.newest = seq;
                self.works_again();
                (self.rest.count, self.rest.until) = (0, None);
            }
            Err(refused) => {
                if let Some(message) = self.pending.get_mut(at) {
                    message.sent = None;
                    let which = (message.shard, message.tickets.clone());
                    self.rest.refused.get_or_insert((which.0, which.1, refused));
                }
            }
        }
        Ok(())
    }

    /// The stream refused this message, and all that were sent after it.
    fn refused(&mut self, shard: usize, tickets: &Range<u64>, refused: &Refused) {
        self.window = 1; // one tells whether the stream takes more
        self.rest.count += 1;
        let of_order = refused.is_of_order(); // another message was stored in between
        let recurs =
            refused.is_of_size() || !of_order && !refused.is_for_now() && self.rest.count >= Rest::TRIES;
        let is_it = |message: &&mut Message| {
            message.shard == shard && message.tickets == *tickets && message.is_record()
        };
        if let Some(message) = self.pending.iter_mut().find(is_it).filter(|_| recurs) {
            message.lose(&format!("refused ({refused})"));
            self.rest.count = 0;
        } else if !of_order || self.rest.count >= Rest::TRIES {
            let (why, stream) = (refused.to_string(), &self.args.stream);
            if self.rest.last_error != why {
                eprintln!("mapring: stream {stream}: {why}; waiting, with {} messages", self.pending.len());
                self.rest.last_error = why;
            }
            // It may take those of other shards.
            self.pending.make_contiguous().sort_by_key(|message| message.shard == shard);
        }
    }
}

/// The most bytes of a message, with headers, that the server and a stream with this configuration take.
fn most(of_server: usize, config: &Value, subject: &str) -> usize {
    // A message takes more of a stream's bytes than its own.
    let limits =
        [("max_msg_size", 0), ("max_bytes", 64 + subject.len())].into_iter().filter_map(|(name, more)| {
            let most =
                config[name].as_u64().and_then(|most| usize::try_from(most).ok()).filter(|most| *most > 0)?;
            Some(most.saturating_sub(more))
        });
    limits.fold(of_server, usize::min)
}
