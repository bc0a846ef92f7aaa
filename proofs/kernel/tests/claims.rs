//! Claims inside other claims: programs sleep or loop between reading a slot's sequence and the store that claims the
//! slot, while other tasks of the same CPU claim. The shipped claims pass. Unguarded claims are forced on the same
//! programs, and must be detected; otherwise these tests prove nothing.

use std::io::Write as _;
use std::sync::atomic::AtomicUsize;
use std::sync::{Barrier, Mutex};

use mapring_kernel_tests::prelude::*;

/// `struct item`: words computed from the writer.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable, Record)]
#[repr(C)]
struct Item {
    writer: u64,
    words: [u64; 6],
}

/// The longest wait for events that should happen soon.
const PATIENCE: Duration = Duration::from_secs(60);
/// Tasks that claim at the same time on one CPU.
const TASKS: usize = 3;
/// The number of nested claims after which claims count as sound.
const ENOUGH: u64 = 300;
/// `INTERRUPTED`, one of the counts.
const INTERRUPTED: u32 = 1;

/// The programs, their ring, and the records that they wrote.
struct Claims {
    push: Runner,
    counts: MapHandle,
    reader: Mutex<Reader<Item>>,
    writer: AtomicU64,
    /// The writer of each ticket.
    tickets: Mutex<BTreeMap<u64, u64>>,
    /// Events that no sound claim causes.
    wrong: Mutex<Vec<String>>,
}

impl Claims {
    fn new(object: &Object) -> Self {
        let ring: OwnedFd = map(object, "records").as_fd().try_clone_to_owned().unwrap();
        Self {
            push: Runner::new(object, "push"),
            counts: MapHandle::try_from(&map(object, "counts")).unwrap(),
            reader: Mutex::new(Ring::open(ring).unwrap().reader()),
            writer: AtomicU64::new(1),
            tickets: Mutex::default(),
            wrong: Mutex::default(),
        }
    }

    /// Writes a record with a program that sleeps on this page during its claims, or does not.
    fn push(&self, page: Option<u64>) {
        let writer = self.writer.fetch_add(1, Ordering::Relaxed);
        let mut args = [writer, page.unwrap_or(0), 0];
        self.push.run(&mut args);
        let [_, _, ticket] = args;
        if ticket != u64::MAX
            && let Some(other) = self.tickets.lock().unwrap().insert(ticket, writer)
        {
            self.is_wrong(format!("ticket {ticket} was given to writer {other}, and again to {writer}"));
        }
    }

    fn is_wrong(&self, what: String) {
        self.wrong.lock().unwrap().push(what);
    }

    fn caught(&self) -> bool {
        !self.wrong.lock().unwrap().is_empty()
    }

    /// After all writers have ended: each record is whole, and from the writer that got its ticket.
    fn read(&self) {
        let tickets = self.tickets.lock().unwrap();
        for event in self.reader.lock().unwrap().drain() {
            let Item { writer, words } = event.record;
            let mixed = |i: u64| writer.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(i);
            if (0..).zip(words).any(|(i, word)| word != mixed(i)) {
                self.is_wrong(format!("torn: {event:?}"));
            }
            if tickets.get(&event.ticket) != Some(&writer) {
                self.is_wrong(format!("{event:?}, but {:?} had its ticket", tickets.get(&event.ticket)));
            }
        }
    }

    fn interrupted(&self) -> u64 {
        word_at(&self.counts, INTERRUPTED, 0)
    }
}

/// Two tasks sleep during their claims. The first one wakes and ends, a third one claims, the second one wakes.
fn one_after_the_other(claims: &Claims) {
    let pages = SlowPages::new(2);
    let asleep = |index: usize| {
        let deadline = Instant::now() + PATIENCE;
        while !pages.asleep().contains(&index) {
            if Instant::now() > deadline {
                (0..2).for_each(|index| _ = pages.give(index));
                panic!("task {index} does not sleep");
            }
            std::thread::yield_now();
        }
    };
    let claim = |index: usize| {
        on_cpu(cpus()[0]);
        pages.take_away(index);
        claims.push(Some(pages.address(index)));
    };
    std::thread::scope(|scope| {
        let first = scope.spawn(|| claim(0));
        asleep(0);
        let second = scope.spawn(|| claim(1));
        asleep(1);
        pages.give(0);
        first.join().unwrap();
        let third = scope.spawn(|| {
            on_cpu(cpus()[0]);
            claims.push(None);
        });
        third.join().unwrap();
        pages.give(1);
        second.join().unwrap();
    });
    claims.read();
}

/// Tasks that sleep during their claims, again and again, until `enough`.
fn again_and_again(claims: &Claims, enough: impl Fn() -> bool + Sync) {
    let pages = SlowPages::new(TASKS);
    let asleep = AtomicUsize::new(TASKS);
    std::thread::scope(|scope| {
        for index in 0..TASKS {
            let (claims, pages, asleep, enough) = (&claims, &pages, &asleep, &enough);
            scope.spawn(move || {
                on_cpu(cpus()[0]);
                while !enough() {
                    pages.take_away(index);
                    claims.push(Some(pages.address(index)));
                }
                asleep.fetch_sub(1, Ordering::Relaxed);
            });
        }
        pages.serve(|| (asleep.load(Ordering::Relaxed) > 0).then_some(Duration::from_micros(20)));
    });
    claims.read();
}

/// Tasks that do not sleep during their claims, but take long, until `enough`. Returns whether others claimed
/// meanwhile.
fn preempted(claims: &Claims, enough: impl Fn() -> bool + Sync) -> bool {
    let start = Instant::now();
    let hopeless = || claims.interrupted() == 0 && start.elapsed() > Duration::from_secs(3);
    let given_up = AtomicBool::new(false);
    let turns = Turns::default();
    let all_take_part = Barrier::new(TASKS);
    std::thread::scope(|scope| {
        for _ in 0..TASKS {
            scope.spawn(|| {
                on_cpu(cpus()[0]);
                turns.take_part();
                all_take_part.wait();
                while !enough() && !given_up.load(Ordering::Relaxed) {
                    claims.push(Some(1));
                    given_up.fetch_or(hopeless(), Ordering::Relaxed);
                }
            });
        }
        scope.spawn(|| turns.give(|| enough() || given_up.load(Ordering::Relaxed)));
    });
    claims.read();
    claims.interrupted() > 0
}

/// Enough for claims that must be sound, and for claims that must be detected as unsound.
fn sound(claims: &Claims) -> impl Fn() -> bool + Sync {
    || claims.caught() || claims.interrupted() >= ENOUGH
}

fn to_be_caught(claims: &Claims) -> impl Fn() -> bool + Sync {
    let deadline = Instant::now() + PATIENCE;
    move || claims.caught() || Instant::now() > deadline
}

/// `syscall` programs, which may sleep, exist since 5.14.
fn may_sleep(test: &str) -> bool {
    let may = kernel() >= (5, 14);
    if !may {
        skipped(test, "no programs that sleep before 5.14");
    }
    may
}

fn skipped(test: &str, why: &str) {
    // Not by `eprintln!`, which the harness captures.
    std::io::stderr().write_all(format!("SKIPPED {test}: {why}\n").as_bytes()).unwrap();
}

#[test]
fn claims_of_tasks_that_sleep_in_them_are_sound() {
    require_bpf!();
    if !may_sleep("claims_of_tasks_that_sleep_in_them_are_sound") {
        return;
    }
    let object = &bpf::CLAIMS.load(fitted);
    let claims = Claims::new(object);
    one_after_the_other(&claims);
    assert_eq!(claims.tickets.lock().unwrap().len(), 3, "nothing is dropped");
    again_and_again(&claims, sound(&claims));
    assert!(claims.interrupted() >= ENOUGH, "no claims in the midst of others");
    assert_eq!(*claims.wrong.lock().unwrap(), [""; 0]);
}

#[test]
fn unguarded_claims_of_tasks_that_sleep_in_them_are_caught() {
    require_bpf!();
    if !may_sleep("unguarded_claims_of_tasks_that_sleep_in_them_are_caught") {
        return;
    }
    let object = &bpf::CLAIMS_UNGUARDED.load(fitted);
    let claims = Claims::new(object);
    one_after_the_other(&claims);
    assert!(claims.caught(), "two claims of one slot, and nobody noticed");
    let object = &bpf::CLAIMS_UNGUARDED.load(fitted);
    let claims = Claims::new(object);
    again_and_again(&claims, to_be_caught(&claims));
    assert!(claims.caught(), "{} claims in the midst of others, and nobody noticed", claims.interrupted());
    println!("after {} interrupted claims: {:?}", claims.interrupted(), claims.wrong.lock().unwrap()[0]);
}

/// Kernels with `preempt=full` preempt programs anywhere; others do not, and then this test sees nothing.
#[test]
fn claims_of_tasks_that_are_preempted() {
    require_bpf!();
    const TEST: &str = "claims_of_tasks_that_are_preempted";
    if !may_sleep(TEST) {
        return;
    }
    let object = &bpf::CLAIMS_LINGER_NO_GUARD.load(fitted);
    let claims = Claims::new(object);
    if preempts_nobody() || !preempted(&claims, sound(&claims)) {
        let asked = std::fs::read_to_string("/proc/cmdline").unwrap();
        assert!(!asked.contains("preempt=full"), "no task was preempted in the midst of a claim");
        return skipped(TEST, "this kernel does not preempt programs (preempt=full does)");
    }
    println!("{} claims in the midst of others", claims.interrupted());
    assert_eq!(*claims.wrong.lock().unwrap(), [""; 0]);
    let object = &bpf::CLAIMS_LINGER_UNGUARDED.load(fitted);
    let claims = Claims::new(object);
    preempted(&claims, to_be_caught(&claims));
    assert!(claims.caught(), "{} claims in the midst of others, and nobody noticed", claims.interrupted());
    println!("after {} interrupted claims: {:?}", claims.interrupted(), claims.wrong.lock().unwrap()[0]);
    if kernel() < (6, 10) || !cfg!(target_arch = "x86_64") {
        return skipped(TEST, "no guard before 6.10, and on x86 alone: the claims above are those that ship");
    }
    // No other task runs inside the guard.
    let object = &bpf::CLAIMS_LINGER.load(fitted);
    let claims = Claims::new(object);
    let enough = || claims.caught() || claims.tickets.lock().unwrap().len() >= TASKS * 1000;
    assert!(!preempted(&claims, enough), "{} guarded claims were interrupted", claims.interrupted());
    assert_eq!(*claims.wrong.lock().unwrap(), [""; 0]);
}
