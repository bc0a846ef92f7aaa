//! The records of a ring as messages to publish: each ticket is part of just one message.

use std::collections::BTreeMap;
use std::ops::Range;
use std::os::fd::AsFd;

use anyhow::{Context, Result, bail, ensure};
use mapring::abi::Gate;
use mapring::any::AnyMap;
use mapring::time::WallClock;
use mapring::{Loss, OpenOptions, Region, Start};
use mapring_kit::output;
use mapring_kit::text::json_line;
use serde_json::json;

use mapring_view::find::Location;
use mapring_view::find_stamp;
use mapring_view::follow::Ends;
use mapring_view::line;
use mapring_view::stamp::Stamp;
use mapring_view::target::{Layout, Target, of_kernel};
use mapring_view::untyped::{self, Records};

/// A ring that is read.
pub(crate) struct Ring {
    pub(crate) target: Target,
    pub(crate) records: Box<dyn Records>,
    stamp: Option<Stamp>,
    /// One in the world.
    identity: String,
    /// Of a resizable ring.
    resized: Option<Resized>,
    /// The ticket at which reading began, of each shard.
    began: BTreeMap<usize, u64>,
    /// The next ticket to publish, of each shard.
    pub(crate) next: BTreeMap<usize, u64>,
    losses: Vec<Loss>,
    /// The bytes of the largest record, with its tail.
    pub(crate) largest: usize,
}

/// One of the rings that replace each other in a map of maps.
struct Resized {
    region: Region,
    /// With this begin the identities of all these rings.
    family: String,
    /// The number of tickets in the rings before this one, and the id of its map: later rings have larger ones.
    order: (u64, u32),
    /// The number of tickets in the rings before it that are not known to be in the stream, once it was read to its end by
    /// this export.
    missed: Option<u64>,
}

/// A message for tickets of a shard: a record, or a loss.
pub(crate) struct Message {
    pub(crate) shard: usize,
    pub(crate) tickets: Range<u64>,
    pub(crate) lost: u64,
    pub(crate) payload: Vec<u8>,
    /// Its number on this connection, if it was sent.
    pub(crate) sent: Option<u64>,
}

const NOT_READ: &str = "overwritten or not ended";

impl Ring {
    /// Publishing begins with the oldest record, or with the next one.
    pub(crate) fn open(location: Location, now: bool) -> Result<Self> {
        let target = Target::open(location)?;
        let (stamp, guess) = find_stamp::Wanted::default().find(&target)?;
        if let Some(guess) = guess {
            output::note(format_args!("mapring: {guess}"));
        }
        target.records(Start::Oldest)?;
        let region = target.region().with_context(|| format!("{}: not a mapring ring", target.location))?;
        let boot = of_kernel("random/boot_id").context("boot_id")?;
        let id = target.map.as_ref().map_or(0, |map| map.facts().id);
        let resized = match region.geometry().options().is_resizable() {
            true => Some(Resized::new(&target, format!("{boot}-{id}."))?),
            false => None,
        };
        let generation = region.preamble().generation;
        let identity = match &resized {
            Some(Resized { family, order: (before, id), .. }) => {
                format!("{family}{id}-{generation:x}.{before}")
            }
            None => format!("{boot}-{id}-{generation:x}"),
        };
        let open = |start| match &resized {
            Some(resized) => untyped::records(&[(0, resized.region.clone())], start),
            None => target.records(start),
        };
        let records = open(Start::Oldest)?;
        let (record, tails) = (region.geometry().record(), region.geometry().tails());
        let largest = record + tails.map_or(0, |tails| tails.longest());
        let began: BTreeMap<_, _> = records.positions().into_iter().collect();
        let next = match now {
            true => open(Start::Now)?.positions().into_iter().collect(),
            false => began.clone(),
        };
        let losses = Vec::new();
        Ok(Self { target, records, stamp, identity, resized, began, next, losses, largest })
    }

    /// The present end of each shard.
    pub(crate) fn ends(&self) -> Result<Ends> {
        let now = match &self.resized {
            Some(resized) => untyped::records(&[(0, resized.region.clone())], Start::Now)?,
            None => self.target.records(Start::Now)?,
        };
        Ok(now.positions().into_iter().collect())
    }

    /// The ring that replaced this resizable one, once all of this was read and published. First returns messages for
    /// what was lost at the end of this ring.
    pub(crate) fn next_ring(&mut self) -> Result<(Vec<Message>, Option<Self>)> {
        let Some(ended) = self.records.ended() else { return Ok((Vec::new(), None)) };
        let mut ends = BTreeMap::<_, u64>::new();
        for loss in &self.losses {
            if let (Some(shard), Some(tickets)) = (loss.shard, &loss.tickets) {
                let end = ends.entry(shard).or_default();
                *end = tickets.end.max(*end);
            }
        }
        let mut messages = Vec::new();
        for (shard, end) in ends {
            let next = self.next.get(&shard).copied().unwrap_or_default();
            let lost = if next < end { self.lost_in(shard, &(next..end)) } else { 0 };
            if lost > 0 {
                messages.push(Message::of_loss(shard, next..end, lost, NOT_READ));
                self.next.insert(shard, end);
            }
        }
        let Some(mine) = self.resized.as_ref().filter(|_| messages.is_empty()) else {
            return Ok((messages, None));
        };
        let so_far = mine.order.0.wrapping_add(ended);
        let mut next = Self::open(self.target.location.clone(), false)?;
        match &mut next.resized {
            Some(resized) if resized.family == mine.family => {
                if resized.order <= mine.order {
                    return Ok((messages, None));
                }
                resized.missed = Some(resized.order.0.saturating_sub(so_far));
                next.next.values_mut().for_each(|next| *next = 0);
            }
            _ => {}
        }
        Ok((messages, Some(next)))
    }

    /// Whether it replaced a ring that had tickets.
    pub(crate) fn is_successor(&self) -> bool {
        self.resized.as_ref().is_some_and(|resized| resized.order.0 > 0)
    }

    /// Whether the id of a message is of a ring that replaced this one.
    pub(crate) fn is_before(&self, id: &str) -> bool {
        let theirs = self.resized.as_ref().and_then(|mine| mine.earlier(id).map(|theirs| (mine, theirs)));
        theirs.is_some_and(|(mine, (order, _))| order > mine.order)
    }

    /// The first message of a ring that replaced others: how many of their records are not in the stream, whose last
    /// messages have these ids. Its shard is the first one, and it stands for no ticket of this ring. `None` for the first
    /// ring.
    pub(crate) fn beginning(&mut self, last: &[String], now: bool) -> Option<Message> {
        let resized = self.resized.as_ref().filter(|resized| resized.order.0 > 0)?;
        let shard = *self.next.keys().next()?;
        let earlier: Vec<_> = last.iter().filter_map(|id| resized.earlier(id)).collect();
        let newest = earlier.iter().map(|(order, _)| *order).max();
        if newest.is_some() {
            // Tickets that were overwritten in this ring count as lost.
            self.next.values_mut().for_each(|next| *next = 0);
        }
        let before = resized.order.0;
        let lost = match (resized.missed, newest) {
            (Some(missed), _) => missed,
            (None, Some(newest)) => {
                let known = earlier.iter().filter(|(order, _)| *order == newest).map(|(_, end)| *end);
                before.saturating_sub(known.fold(newest.0, u64::saturating_add))
            }
            (None, None) => {
                if now {
                    0
                } else {
                    before
                }
            }
        };
        if lost > 0 {
            eprintln!("mapring: lost: {lost} records of rings before the last resize");
        }
        let object = json!({ "shard": null, "ticket": 0, "until": 0, "lost": lost });
        Some(Message { shard, tickets: 0..0, lost, payload: json_line(&object).into_bytes(), sent: None })
    }

    /// The id of a message with these tickets.
    pub(crate) fn id(&self, shard: usize, tickets: &Range<u64>) -> String {
        format!("{}-{shard}-{}-{}", self.identity, tickets.start, tickets.end)
    }

    /// The ticket after those that a message with this id stands for, if it is of this ring.
    pub(crate) fn position(&self, id: &str, shard: usize) -> Option<u64> {
        let rest = id.strip_prefix(&self.identity)?.strip_prefix(&format!("-{shard}-"))?;
        rest.split_once('-')?.1.parse().ok()
    }

    /// Reads up to `limit` records, if there are ends those before them; returns how many, and their messages.
    pub(crate) fn read(
        &mut self,
        limit: usize,
        clock: &WallClock,
        ends: Option<&Ends>,
    ) -> Result<(usize, Vec<Message>)> {
        let Self { target, records, stamp, losses, .. } = self;
        let mut found = Vec::new();
        let count = records.each(limit, &mut |item| {
            if ends.is_none_or(|ends| ends.get(&item.shard).is_some_and(|end| item.ticket < *end)) {
                let time = stamp.and_then(|stamp| stamp.time(item.bytes, clock)).map(line::time);
                let line = line::json("", &item, time.as_deref(), &target.decode(item.bytes));
                found.push((item.shard, item.ticket, line.into_bytes()));
            }
        });
        losses.extend(records.take_losses());
        // Programs dropped these: they have no tickets, so they are not in the stream.
        losses.retain(|loss| {
            if loss.cause.is_drop() {
                eprintln!("mapring: lost: {loss}");
            }
            !loss.cause.is_drop()
        });
        if let Some(e) = records.take_error() {
            ensure!(count > 0, e);
        }
        let mut messages = Vec::new();
        for (shard, ticket, payload) in found {
            let next = self.next.get(&shard).copied().unwrap_or_default();
            if ticket < next {
                continue; // It is in the stream, or older than the first record that is wanted.
            }
            let lost = self.lost_in(shard, &(next..ticket));
            if lost > 0 {
                messages.push(Message::of_loss(shard, next..ticket, lost, NOT_READ));
            }
            let tickets = ticket..ticket + 1;
            self.next.insert(shard, tickets.end);
            messages.push(Message { shard, tickets, lost: 0, payload, sent: None });
        }
        Ok((count, messages))
    }

    /// How many of these tickets were lost. Programs discarded the others, or stepped over them.
    fn lost_in(&mut self, shard: usize, tickets: &Range<u64>) -> u64 {
        let began = self.began.get(&shard).copied().unwrap_or_default();
        let before = began.clamp(tickets.start, tickets.end) - tickets.start;
        let mut room = tickets.end - tickets.start - before;
        let stats = self.records.stats();
        let is_whole = stats.discarded == 0 && stats.stepped_over == 0;
        let mut known = before;
        self.losses.retain_mut(|loss| {
            if loss.shard.is_some_and(|of| of != shard) {
                return true;
            }
            // Losses that were merged lie in several gaps, with records between, and those of several shards anywhere.
            let lost = loss.tickets.clone().unwrap_or(tickets.start..u64::MAX);
            let here = lost.end.min(tickets.end).saturating_sub(lost.start.max(tickets.start));
            let taken = loss.count.min(here).min(room);
            (loss.count, room, known) = (loss.count - taken, room - taken, known + taken);
            lost.end > tickets.end && loss.count > 0
        });
        if is_whole { tickets.end - tickets.start } else { known }
    }
}

impl Message {
    /// Says what was lost.
    pub(crate) fn of_loss(shard: usize, tickets: Range<u64>, lost: u64, why: &str) -> Self {
        let Range { start, end } = tickets;
        eprintln!("mapring: lost: shard {shard}: {lost} {why}, tickets {start} to {}", end.saturating_sub(1));
        Self::loss(shard, tickets, lost)
    }

    fn loss(shard: usize, tickets: Range<u64>, lost: u64) -> Self {
        let object = json!({ "shard": shard, "ticket": tickets.start, "until": tickets.end, "lost": lost });
        Self { shard, tickets, lost, payload: json_line(&object).into_bytes(), sent: None }
    }

    pub(crate) fn is_record(&self) -> bool {
        self.lost == 0 && !self.tickets.is_empty()
    }

    /// A record that no message can have becomes a loss.
    pub(crate) fn lose(&mut self, why: &str) {
        *self = Self::of_loss(self.shard, self.tickets.clone(), 1, why);
    }

    /// What the stream lacks if it has all tickets before this one.
    pub(crate) fn after(self, position: u64) -> Option<Self> {
        let Range { start, end } = self.tickets;
        if position <= start && start < end {
            return Some(self);
        }
        (position < end).then(|| Self::loss(self.shard, position..end, self.lost.min(end - position)))
    }
}

impl Resized {
    /// The ring that is in use. It is opened by its descriptor, so its reader does not continue with the next one.
    fn new(target: &Target, family: String) -> Result<Self> {
        let location = &target.location;
        let Layout::RingInMaps(regions) = &target.layout else {
            bail!(
                "{location}: one of the maps of a resizable ring: export the map of maps, from which programs reserve"
            )
        };
        let (_, now) = regions.first().context("no ring")?;
        let map = AnyMap::open(now.as_fd())?;
        let mut words = Vec::new();
        // The preamble may be larger than a value.
        let values = (Gate::BEFORE + 1).div_ceil(map.facts().value_size.div_ceil(8).max(1));
        map.read_run(0, values, &mut words)?;
        let before = *words.get(Gate::BEFORE).context("no preamble")?;
        ensure!(
            before & Gate::COUNTING == 0,
            "{location}: a process is resizing this ring, or died in it: try again, or call mapring_loader::initialize"
        );
        let region = OpenOptions::new().any_record().open(now.as_fd())?;
        Ok(Self { region, family, order: (before, map.facts().id), missed: None })
    }

    /// The order of the ring of a message, and the ticket after those of the message, if it is of this family.
    fn earlier(&self, id: &str) -> Option<((u64, u32), u64)> {
        let mut parts = id.strip_prefix(&self.family)?.split('-');
        let map = parts.next()?.parse().ok()?;
        let before = parts.next()?.split_once('.')?.1.parse().ok()?;
        let end = parts.nth(2)?.parse().ok()?;
        Some(((before, map), end))
    }
}
