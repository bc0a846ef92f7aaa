//! Records that were reserved and not ended, for reports at intervals.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use mapring::Start;
use mapring::abi::Kind;
use mapring::liveness::Unended;
use serde_json::{Value, json};

use crate::follow::{Ends, HELD, has_passed};
use crate::target::Target;
use crate::untyped::Records;

/// Those among the records that a ring held when a report began.
pub(crate) struct Earlier(Box<dyn Records>);

impl Earlier {
    /// Reads the ring, and waits for the reader's patience if a record is not ended. `None` for what is not a ring of records.
    pub(crate) fn new(target: &Target) -> Result<Option<Self>> {
        let Some(region) = target.region().filter(|_| target.kind() == Some(Kind::Ring)) else {
            return Ok(None);
        };
        let ends: Ends = target.records(Start::Now)?.positions().into_iter().collect();
        let limit = region.geometry().capacity().saturating_mul(ends.len());
        let mut records = target.records(Start::Oldest)?;
        let end = Instant::now() + HELD;
        loop {
            records.each(limit, &mut |_| {});
            if has_passed(&*records, &ends) || Instant::now() > end {
                return Ok(Some(Self(records)));
            }
            records.wait(Duration::from_millis(1))?;
        }
    }

    /// These records, and those that the reader of the report found: at most one of each shard.
    pub(crate) fn unended(&mut self, found: Vec<Unended>) -> Vec<Unended> {
        let all = found.into_iter().chain(self.0.unended());
        let by_shard: BTreeMap<_, _> = all.map(|unended| (unended.shard, unended)).collect();
        by_shard.into_values().collect()
    }
}

/// A JSON object with a record that is not ended.
pub(crate) fn json_of(unended: &Unended) -> Value {
    let Unended { shard, ticket, noticed, .. } = unended;
    json!({ "shard": shard, "ticket": ticket, "noticed_seconds_ago": noticed.as_secs_f64() })
}
