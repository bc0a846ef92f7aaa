//! Records that were reserved and have not ended.

use std::fmt;
use std::time::Duration;

#[cfg(doc)]
use super::Reader;

/// A record that a program or a writer reserved and has not ended: [`Reader::unended`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unended {
    /// Its shard.
    pub shard: usize,
    /// Its ticket.
    pub ticket: u64,
    /// For how long the reader has known it.
    pub noticed: Duration,
}

/// `shard 3: the record of ticket 7 has been reserved for 12s or more and not ended; a path of the program has no commit`
impl fmt::Display for Unended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shard, ticket, noticed } = self;
        write!(f, "shard {shard}: the record of ticket {ticket} has been reserved ")?;
        if noticed.as_secs() > 0 {
            write!(f, "for {}s or more ", noticed.as_secs())?;
        }
        f.write_str("and not ended; a path of the program has no commit")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_was_not_ended() {
        let mut unended = Unended { shard: 3, ticket: 7, noticed: Duration::from_millis(12_900) };
        let rest = "and not ended; a path of the program has no commit";
        let message = format!("shard 3: the record of ticket 7 has been reserved for 12s or more {rest}");
        assert_eq!(unended.to_string(), message);
        unended.noticed = Duration::from_millis(900);
        assert_eq!(unended.to_string(), format!("shard 3: the record of ticket 7 has been reserved {rest}"));
    }
}
