//! The words of an image. The library's writers make those that a process writes in a memfd; the others are laid by hand, as
//! docs/abi.md says.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use mapring::Region;
use mapring::abi::{Gate, Geometry, Kind, Preamble, WORD, readers};

/// A region as words, and perhaps what a memfd has behind it.
#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) geometry: Geometry,
    pub(crate) words: Vec<u64>,
}

/// Words of the preamble, and of a shard's header.
pub(crate) const OPTIONS: usize = 2;
pub(crate) const SIZE: usize = 6;
pub(crate) const NO_SHARD: usize = 12;
pub(crate) const GATE: usize = 14;
pub(crate) const HEAD: usize = 0;
pub(crate) const END: usize = 2;
pub(crate) const GATE_OF_SHARD: usize = 3;
pub(crate) const LIMIT: usize = 4;
pub(crate) const FULL: usize = 5;
pub(crate) const DROP_TIMES: usize = 6;
/// The options, as bits 8 to 15 of word 2 of the preamble have them.
pub(crate) const WAKEABLE: u64 = 1;
pub(crate) const KEEP_OLDEST: u64 = 2;
pub(crate) const TAILS: u64 = 4;
pub(crate) const PER_CPU_MAPS: u64 = 8;
pub(crate) const RESIZABLE: u64 = 16;
/// When records were dropped first and last: nanoseconds.
const DROPPED_AT: [u64; 2] = [5_000_000_000, 5_500_000_000];

impl Image {
    /// What is in the memory of a region, without what differs from run to run.
    pub(crate) fn of(region: &Region) -> Self {
        let file = File::from(region.as_fd().try_clone_to_owned().unwrap());
        let mut words = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap() / WORD];
        file.read_exact_at(bytemuck::cast_slice_mut::<u64, u8>(&mut words), 0).unwrap();
        let mut image = Self { geometry: *region.geometry(), words };
        let preamble = Preamble { geometry: image.geometry, generation: 1_000_000_000, name: "event".into() };
        image.words[..Preamble::WORDS].copy_from_slice(&preamble.encode());
        if image.geometry.kind() == Kind::Ring {
            for shard in 0..image.geometry.shards() {
                let at = image.header(shard) + DROP_TIMES;
                if image.words[at + 1] != 0 {
                    image.words[at..at + 2].copy_from_slice(&DROPPED_AT);
                }
            }
        }
        image
    }

    /// An empty region in a memfd.
    pub(crate) fn new(kind: Kind, record: u64, capacity: u64, shards: u64) -> Self {
        let geometry = Geometry::new(kind, record, capacity, shards).unwrap();
        Self::of(&Region::create_memfd(geometry, "event").unwrap())
    }

    /// Only a preamble, of a region with any options that has the same size without them.
    pub(crate) fn preamble(geometry: Geometry) -> Self {
        let preamble = Preamble { geometry, generation: 1_000_000_000, name: "event".into() };
        Self { geometry, words: preamble.encode().to_vec() }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.words)
    }

    /// The first word of a shard's header.
    pub(crate) fn header(&self, shard: usize) -> usize {
        let element = self.geometry.shard(shard) * self.geometry.element_words();
        if self.geometry.tails().is_some() { element + 16 } else { element }
    }

    /// The first word of a shard's header for tails.
    pub(crate) fn tails(&self, shard: usize) -> usize {
        self.header(shard) + 8
    }

    /// The first word of the slot of a ticket.
    pub(crate) fn slot(&self, shard: usize, ticket: u64) -> usize {
        let slot = usize::try_from(ticket % self.geometry.capacity() as u64).unwrap();
        if self.geometry.tails().is_some() {
            return self.tails(shard) + 32 + slot * (1 + self.geometry.record().div_ceil(WORD));
        }
        (self.geometry.slots(shard) + slot) * self.geometry.element_words()
    }

    /// The state of a slot whose ticket has ended.
    pub(crate) fn ended(&self, ticket: u64) -> u64 {
        2 * (ticket / self.geometry.capacity() as u64) + 2
    }

    /// Lays a record that has ended, and `head`.
    pub(crate) fn lay(&mut self, shard: usize, ticket: u64, record: &[u64]) {
        let (header, slot, seq) = (self.header(shard), self.slot(shard, ticket), self.ended(ticket));
        self.words[slot] = seq;
        self.words[slot + 1..][..record.len()].copy_from_slice(record);
        self.words[header + HEAD] = ticket + 1;
    }

    /// Counts records that programs dropped.
    pub(crate) fn drop(&mut self, at: usize, count: u64, shard: usize) {
        let header = self.header(shard);
        self.words[at] = count;
        self.words[header + DROP_TIMES..][..2].copy_from_slice(&DROPPED_AT);
    }

    /// Sets options that no memfd has. A ring that wakes readers gets their words.
    pub(crate) fn set_options(&mut self, bits: u64) {
        let plain = self.clone();
        self.words[OPTIONS] |= bits << 8;
        if bits & RESIZABLE != 0 {
            self.words[GATE] = Gate::Open.encode(self.geometry.capacity());
        }
        let preamble = *self.words.first_chunk().unwrap();
        self.geometry = Preamble::decode(&preamble).unwrap().geometry;
        if bits & RESIZABLE != 0 {
            self.move_slots(&plain);
        }
        if let Some((first, count)) = readers::in_memfd(&self.geometry)
            && self.words.len() < first + count
        {
            self.words.resize(first + count, 0);
            self.words[first + readers::LOOK] = readers::NEVER;
        }
    }

    /// In a resizable ring all headers come before all slots.
    fn move_slots(&mut self, plain: &Self) {
        let first = self.geometry.first() * self.geometry.element_words();
        let end = self.geometry.bytes() / WORD;
        self.words[first..end].fill(0);
        for shard in 0..self.geometry.shards() {
            let (to, from) = (self.header(shard), plain.header(shard));
            self.words[to..to + 8].copy_from_slice(&plain.words[from..from + 8]);
            self.words[to + GATE_OF_SHARD] =
                Gate::Open.encode_shard(&self.geometry, shard, Default::default());
            for slot in 0..self.geometry.capacity() as u64 {
                let (to, from) = (self.slot(shard, slot), plain.slot(shard, slot));
                let words = self.geometry.element_words();
                self.words[to..to + words].copy_from_slice(&plain.words[from..from + words]);
            }
        }
    }

    /// Puts a reader into a seat of a ring in a memfd, which requires records from this ticket on.
    pub(crate) fn require(&mut self, seat: usize, position: u64) {
        let (first, _) = readers::in_memfd(&self.geometry).unwrap();
        self.words[first + readers::REQUIRED] |= 1 << seat;
        self.words[first + readers::owner(seat)] = owner();
        self.words[first + readers::lease(seat)] = 1_000_000_000;
        for shard in 0..self.geometry.shards() {
            self.words[first + readers::position(shard, seat)] = position;
        }
    }
}

/// A process that no machine has: its pid is the largest.
pub(crate) fn owner() -> u64 {
    readers::Owner::new((1 << 22) - 1, 77, 0xf_fffc).encode()
}
