//! Hostile threads and their victims, at the same time for `MAPRING_HOSTILE_SECONDS` (default 2), and again until each
//! victim has met what it must survive.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use mapring_hostile_tests::Neighbour;

pub(crate) fn time() -> Duration {
    let seconds = std::env::var("MAPRING_HOSTILE_SECONDS").map_or(2.0, |s| s.parse().expect("seconds"));
    Duration::from_secs_f64(seconds)
}

/// The name of a thread, its rounds, and its two other counts.
type Done = (&'static str, [u64; 3]);

/// Threads that run at the same time.
pub(crate) struct Threads<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    stop: Arc<AtomicBool>,
    hostile: Vec<ScopedJoinHandle<'scope, u64>>,
    victims: Vec<(&'static str, ScopedJoinHandle<'scope, [u64; 3]>)>,
}

impl<'scope> Threads<'scope, '_> {
    /// A victim: runs `round` until the end, and at least once. Both counts that it returns must be more than 0 at the end,
    /// except for latches.
    pub(crate) fn run(&mut self, name: &'static str, mut round: impl FnMut() -> [u64; 2] + Send + 'scope) {
        let stop = Arc::clone(&self.stop);
        let thread = self.scope.spawn(move || {
            let mut sum = [0; 3];
            loop {
                let [a, b] = round();
                sum = [sum[0] + 1, sum[1] + a, sum[2] + b];
                if stop.load(Ordering::Relaxed) {
                    return sum;
                }
            }
        });
        self.victims.push((name, thread));
    }

    /// The same on each CPU, whose number `round` gets.
    #[cfg(feature = "bpf")]
    pub(crate) fn run_on_cpus(
        &mut self,
        name: &'static str,
        round: impl Fn(usize) -> [u64; 2] + Send + Copy + 'scope,
    ) {
        for &cpu in mapring_kernel_tests::cpus() {
            self.run(name, move || {
                mapring_kernel_tests::on_cpu(cpu);
                round(cpu)
            });
        }
    }

    /// A hostile thread, which returns at `stop` how many words it has stored.
    pub(crate) fn hostile(&mut self, thread: impl FnOnce(&AtomicBool) -> u64 + Send + 'scope) {
        let stop = Arc::clone(&self.stop);
        self.hostile.push(self.scope.spawn(move || thread(&stop)));
    }

    /// Overwrites all of these, each from its own thread. Begins with their saved content.
    pub(crate) fn scribble(&mut self, neighbours: impl IntoIterator<Item = &'scope Neighbour>) {
        for (seed, neighbour) in (1..).zip(neighbours) {
            neighbour.restore();
            self.hostile(move |stop| neighbour.scribble(seed, stop));
        }
    }
}

/// Runs the threads that `start` begins, for the configured duration. Again, up to ten times, until each victim met all that
/// it must survive: records and losses, values and busy cells, opened and refused.
///
/// # Panics
/// Panics if one of them does, or if that did not happen.
pub(crate) fn survive<'env>(start: impl for<'scope> Fn(&mut Threads<'scope, 'env>)) {
    survive_and(|| true, start);
}

/// The same until `met` also says so, after a time.
pub(crate) fn survive_and<'env>(
    mut met: impl FnMut() -> bool,
    start: impl for<'scope> Fn(&mut Threads<'scope, 'env>),
) {
    // On a busy machine, some events do not happen every time.
    let happened = (0..10).any(|_| {
        let all = at_once(&start);
        for (name, [rounds, a, b]) in &all {
            println!("{name:28} {rounds:>9} rounds: {a} and {b}");
        }
        met() && all.iter().all(|(name, [_, a, b])| *a > 0 && (*b > 0 || *name == "latches"))
    });
    assert!(happened, "nothing to survive");
}

fn at_once<'env>(start: &impl for<'scope> Fn(&mut Threads<'scope, 'env>)) -> Vec<Done> {
    std::thread::scope(|scope| {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads =
            Threads { scope, stop: Arc::clone(&stop), hostile: Vec::new(), victims: Vec::new() };
        start(&mut threads);
        let Threads { hostile, victims, .. } = threads;
        let end = Instant::now() + time();
        while Instant::now() < end && !victims.iter().any(|(_, thread)| thread.is_finished()) {
            std::thread::sleep(Duration::from_millis(10));
        }
        stop.store(true, Ordering::Relaxed);
        let came_to = |(name, thread): (_, ScopedJoinHandle<'_, _>)| {
            (name, thread.join().unwrap_or_else(|_| panic!("{name} panicked")))
        };
        let mut done: Vec<_> = victims.into_iter().map(came_to).collect();
        let written = hostile.into_iter().map(|thread| thread.join().unwrap()).sum();
        done.push(("words scribbled", [1, written, written]));
        done
    })
}
