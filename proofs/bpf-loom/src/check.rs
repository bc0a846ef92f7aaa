//! Runs a model.

/// Runs `model` in every interleaving with at most `preemptions` preemptions (`None`: no limit), and returns their
/// number. `LOOM_MAX_PREEMPTIONS` overrides the limit.
#[cfg(loom)]
pub fn check(preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) -> u64 {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    let runs = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&runs);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(preemptions);
    builder.max_branches = 1_000_000;
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    runs.load(Ordering::Relaxed)
}

/// Runs `model` on real threads, a hundred times.
#[cfg(not(loom))]
pub fn check(_preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) -> u64 {
    (0..100).for_each(|_| model());
    100
}

/// Runs `model`, which starts no threads, once.
pub fn alone(model: impl Fn() + Send + Sync + 'static) {
    if cfg!(loom) {
        assert_eq!(check(None, model), 1, "one thread, one way");
    } else {
        model();
    }
}
