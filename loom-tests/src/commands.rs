//! A ring of commands in loom's memory, and the programs that carry them out: `ring/include/mapring/commands.bpf.h` on a
//! machine with weak memory order, step by step.

use std::sync::Arc;
use std::sync::Mutex as Log;

use mapring_core::abi::commands::{APPLIED, CommandsPlace, HEADER, LOCK, OWNER, PUSHED, SKIPPED};
use mapring_core::abi::{Geometry, Kind};
use mapring_core::protocol::{Words, WordsMut, commands, latch};

use crate::bpf::Bpf;
use crate::sync::{AtomicU64, Mutex, Ordering, fence, words};

/// Both words are the command's number.
pub type Command = [u64; 2];

/// The most commands of one drain.
const AT_ONCE: usize = 16;

/// A ring of commands, the latch that they change, and what was carried out.
#[derive(Clone)]
pub struct Commands(Arc<Inner>);

struct Inner {
    places: CommandsPlace,
    region: Box<[AtomicU64]>,
    latch: Box<[AtomicU64]>,
    /// The threads of the process that owns the ring take turns.
    turn: Mutex<()>,
    /// Invisible to loom: it orders nothing.
    log: Log<(bool, Vec<u64>)>,
}

/// What a program's drain found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// There was nothing to do.
    Idle,
    /// Another program was at it.
    Busy,
    /// It had the lock.
    Done,
}

impl Commands {
    /// An empty ring of `slots` slots.
    pub fn new(slots: u64) -> Self {
        let geometry = Geometry::new(Kind::Commands, 16, slots, 1).unwrap();
        let places = CommandsPlace::new(&geometry);
        let inner = Inner {
            places,
            region: words(geometry.bytes() / 8),
            latch: words(5),
            turn: Mutex::new(()),
            log: Log::default(),
        };
        Self(Arc::new(inner))
    }

    /// The words of the region.
    pub fn words(&self) -> WordsMut<'_> {
        WordsMut::new(&self.0.region)
    }

    /// Its places.
    pub fn places(&self) -> &CommandsPlace {
        &self.0.places
    }

    /// Pushes the command `value`, as a thread of the owner. Returns its number.
    pub fn push(&self, value: u64) -> Option<u64> {
        let _turn = self.0.turn.lock().unwrap();
        self.push_alone(value)
    }

    /// The same as its only thread.
    pub fn push_alone(&self, value: u64) -> Option<u64> {
        commands::push(self.words(), self.places(), &[value; 2])
    }

    /// The number of commands that were carried out, for userspace.
    pub fn acknowledged(&self) -> u64 {
        commands::acknowledged(*self.words(), self.places())
    }

    /// A word of the header.
    pub fn header(&self, word: usize) -> u64 {
        assert!(matches!(word, PUSHED | APPLIED | LOCK | SKIPPED | OWNER) && OWNER < HEADER);
        self.load(self.places().header() + word)
    }

    /// `mapring_commands_drain`
    pub fn drain(&self, bpf: Bpf) -> Drained {
        let [pushed, applied, lock] = [PUSHED, APPLIED, LOCK].map(|word| self.places().header() + word);
        let (seen, done) = (self.load(pushed), self.load(applied));
        fence(Ordering::SeqCst); // `mapring__barrier`
        if seen == done {
            return Drained::Idle;
        }
        if self.load(lock) != 0 || Bpf::cmpxchg(&self.0.region[lock], 0, 1) != 0 {
            return Drained::Busy;
        }
        for _ in 0..AT_ONCE {
            let (pushed, done) = (self.load(pushed), self.load(applied));
            fence(Ordering::SeqCst);
            if pushed == done {
                break;
            }
            assert!(pushed - done <= self.places().count() as u64, "{pushed} pushed, {done} carried out");
            let number = done + 1;
            let (slot, _) = self.places().slot(number);
            assert_eq!(self.load(slot), number, "the slot of another command");
            self.apply([self.load(slot + 1), self.load(slot + 2)]);
            bpf.publish(&self.0.region[applied], number);
        }
        bpf.publish(&self.0.region[lock], 0);
        Drained::Done
    }

    /// The program's function: it is the latch's only writer.
    fn apply(&self, command: Command) {
        assert_eq!(command[0], command[1], "words of two commands");
        {
            let mut log = self.0.log.lock().unwrap();
            assert!(!log.0, "two programs carry out commands at once");
            log.0 = true;
            log.1.push(command[0]);
        }
        latch::set(WordsMut::new(&self.0.latch), &command);
        self.0.log.lock().unwrap().0 = false;
    }

    /// What an event sees: the value of the last command, and how many were carried out; `None` if some were meanwhile.
    pub fn event(&self) -> Option<(u64, u64)> {
        let mut value = Command::default();
        let version = latch::try_read(Words::new(&self.0.latch), &mut value)?;
        assert_eq!(value[0], value[1], "a mixture");
        Some((value[0], version))
    }

    /// The values of all commands that were carried out.
    pub fn log(&self) -> Vec<u64> {
        self.0.log.lock().unwrap().1.clone()
    }

    fn load(&self, word: usize) -> u64 {
        self.0.region[word].load(Ordering::Relaxed)
    }
}
