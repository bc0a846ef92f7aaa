//! The records of a ring as messages to publish: each ticket is part of just one message.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::{Context, Result, ensure};
use mapring::time::WallClock;
use mapring::{Loss, Start};
use serde_json::json;

use crate::regions::find::Place;
use crate::regions::follow::Ends;
use crate::regions::line;
use crate::regions::target::{Target, of_kernel};
use crate::regions::text::json_line;
use crate::regions::untyped::Records;

/// A ring that is read.
pub(super) struct Ring {
    pub(super) target: Target,
    pub(super) records: Box<dyn Records>,
    stamp: Option<usize>,
    /// One in the world.
    pub(super) identity: String,
    /// The ticket at which reading began, of each shard.
    began: BTreeMap<usize, u64>,
    /// The next ticket to publish, of each shard.
    pub(super) next: BTreeMap<usize, u64>,
    losses: Vec<Loss>,
    discarded: u64,
    /// The bytes of the largest record, with its tail.
    pub(super) largest: usize,
}

/// A message for tickets of a shard: a record, or a loss.
pub(super) struct Message {
    pub(super) shard: usize,
    pub(super) tickets: Range<u64>,
    pub(super) lost: u64,
    pub(super) payload: Vec<u8>,
    /// Its number on this connection, if it was sent.
    pub(super) sent: Option<u64>,
}

/// The bytes of a message beside its payload.
const HEADERS: usize = 512;

impl Ring {
    /// Publishing begins with the oldest record, or with the next one.
    pub(super) fn open(place: Place, now: bool) -> Result<Self> {
        let target = Target::open(place)?;
        let stamp = target.stamp();
        let records = target.records(Start::Oldest, None)?;
        let region = target.region().context("not a ring")?;
        ensure!(
            !region.geometry().is_resizable(),
            "{}: a resizable ring: its tickets begin again when it is resized, so this export can't tell records apart",
            target.place
        );
        let boot = of_kernel("random/boot_id").context("boot_id")?;
        let id = target.map.as_ref().map_or(0, |map| map.facts().id);
        let identity = format!("{boot}-{id}-{:x}", region.preamble().generation);
        let (record, tails) = (region.geometry().record(), region.geometry().tails());
        let largest = record + tails.map_or(0, |tails| tails.longest());
        let began: BTreeMap<_, _> = records.positions().into_iter().collect();
        let next = match now {
            true => target.records(Start::Now, None)?.positions().into_iter().collect(),
            false => began.clone(),
        };
        Ok(Self { target, records, stamp, identity, began, next, losses: Vec::new(), discarded: 0, largest })
    }

    /// The id of a message with these tickets.
    pub(super) fn id(&self, shard: usize, tickets: &Range<u64>) -> String {
        format!("{}-{shard}-{}-{}", self.identity, tickets.start, tickets.end)
    }

    /// The ticket after those that a message with this id stands for, if it is of this ring.
    pub(super) fn position(&self, id: &str, shard: usize) -> Option<u64> {
        let rest = id.strip_prefix(&self.identity)?.strip_prefix(&format!("-{shard}-"))?;
        rest.split_once('-')?.1.parse().ok()
    }

    /// Reads up to `limit` records, if there are ends those before them; returns how many, and their messages. A server
    /// takes messages of at most `most` bytes.
    pub(super) fn read(
        &mut self,
        limit: usize,
        most: usize,
        clock: &WallClock,
        ends: Option<&Ends>,
    ) -> Result<(usize, Vec<Message>)> {
        let Self { target, records, stamp, losses, .. } = self;
        let mut found = Vec::new();
        let count = records.each(limit, &mut |item| {
            if ends.is_none_or(|ends| ends.get(&item.shard).is_some_and(|end| item.ticket < *end)) {
                let time = line::stamp(&item, *stamp).map(|ns| line::time(clock.to_wall(ns).value));
                let line = line::json(&item, time.as_deref(), &target.decode(item.bytes));
                found.push((item.shard, item.ticket, line.into_bytes()));
            }
        });
        losses.extend(records.take_losses());
        // Programs dropped these: they have no tickets, so they are not in the stream.
        losses.retain(|loss| {
            if loss.tickets.is_none() {
                eprintln!("mapring: lost: {loss}");
            }
            loss.tickets.is_some()
        });
        if let Some(e) = records.take_error() {
            ensure!(count > 0, e);
        }
        let discarded = records.stats().discarded;
        let only_losses = std::mem::replace(&mut self.discarded, discarded) == discarded;
        let mut messages = Vec::new();
        for (shard, ticket, payload) in found {
            let next = self.next.get(&shard).copied().unwrap_or_default();
            if ticket < next {
                continue; // It is in the stream, or older than the first record that is wanted.
            }
            let lost = self.lost_in(shard, &(next..ticket), only_losses);
            if lost > 0 {
                messages.push(loss(shard, next..ticket, lost, "overwritten or not ended"));
            }
            let tickets = ticket..ticket + 1;
            self.next.insert(shard, tickets.end);
            messages.push(match payload.len() + HEADERS > most {
                true => loss(shard, tickets, 1, "larger than the server takes"),
                false => Message { shard, tickets, lost: 0, payload, sent: None },
            });
        }
        Ok((count, messages))
    }

    /// How many of these tickets were lost. The others were discarded by programs.
    fn lost_in(&mut self, shard: usize, tickets: &Range<u64>, all: bool) -> u64 {
        let began = self.began.get(&shard).copied().unwrap_or_default();
        let before = began.clamp(tickets.start, tickets.end) - tickets.start;
        let mut known = 0_u64;
        self.losses.retain(|loss| {
            let here = loss.shard == Some(shard)
                && loss.tickets.as_ref().is_some_and(|lost| lost.start < tickets.end);
            known = known.saturating_add(if here { loss.count } else { 0 });
            !here
        });
        let count = tickets.end - tickets.start;
        if all { count } else { before.saturating_add(known).min(count) }
    }
}

/// A message that says what was lost.
fn loss(shard: usize, tickets: Range<u64>, lost: u64, why: &str) -> Message {
    eprintln!("mapring: lost: shard {shard}: {lost} {why}, tickets {} to {}", tickets.start, tickets.end - 1);
    let object = json!({ "shard": shard, "ticket": tickets.start, "until": tickets.end, "lost": lost });
    Message { shard, tickets, lost, payload: json_line(&object).into_bytes(), sent: None }
}
