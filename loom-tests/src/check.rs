//! Runs a model, and checks that it covered the intended events.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// Runs `model` in every interleaving with at most `preemptions` preemptions (`None`: no limit). `LOOM_MAX_PREEMPTIONS`
/// overrides the limit.
#[cfg(loom)]
pub fn check(preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    use tracing_subscriber::{EnvFilter, fmt, util::SubscriberInitExt};

    let runs = Arc::new(Mutex::new(0_u64));
    let counted = Arc::clone(&runs);
    // As `loom::model` does it, which takes its limit only from the environment.
    let log =
        fmt().with_env_filter(EnvFilter::from_env("LOOM_LOG")).with_test_writer().without_time().finish();
    let _log = log.set_default();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(preemptions);
    builder.max_branches = 10_000;
    builder.check(move || {
        *counted.lock().unwrap() += 1;
        model();
    });
    let runs = *runs.lock().unwrap();
    if runs > 1 {
        println!("explored {runs} executions, preemptions at most {:?}", builder.preemption_bound);
    }
}

/// Runs `model` on real threads, a hundred times.
#[cfg(not(loom))]
pub fn check(_preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    (0..100).for_each(|_| model());
}

/// The events of all executions: a model in which nothing can go wrong proves nothing.
#[derive(Clone, Debug, Default)]
pub struct Seen(Arc<Mutex<BTreeSet<&'static str>>>);

impl Seen {
    /// Records that `what` happened, if it did.
    pub fn note(&self, what: &'static str, happened: bool) {
        if happened {
            self.0.lock().unwrap().insert(what);
        }
    }

    /// Asserts that each of these events happened. Checked only under loom, since real threads may never meet.
    pub fn expect(&self, all: &[&'static str]) {
        let seen = self.0.lock().unwrap();
        let missing: Vec<_> = all.iter().filter(|&what| !seen.contains(what)).collect();
        assert!(cfg!(not(loom)) || missing.is_empty(), "never happened: {missing:?}; did: {seen:?}");
    }
}
