//! The table of the orderings. Code asks for the ordering of its site by name: `order!(At::RingCommit)`.
//!
//! [`ORDERINGS`] says what each ordering guarantees, and by which two sides. [`At`] lists the sites of these sides in the
//! Rust sources; those in the BPF headers have a `SYNC` comment. A build for loom can weaken one site when it runs
//! (`weaken.rs`): these are the mutants in `loom-tests/mutants.toml`. Everything else here is known to the compiler.
//!
//! `xtask` compiles this file, too. It checks that the table in `docs/guarantees.md` is this one, that each site has a
//! mutant, and that the sources have no other orderings.

use core::sync::atomic::Ordering;

/// An ordering between two sides, as in `docs/guarantees.md`.
pub(crate) struct Named {
    pub(crate) name: &'static str,
    pub(crate) writer: &'static str,
    /// The reader's side, or the next writer's.
    pub(crate) reader: &'static str,
    pub(crate) so_that: &'static str,
}

/// A site in the sources.
pub(crate) struct Site {
    pub(crate) name: &'static str,
    pub(crate) order: Ordering,
    /// The names of the orderings of which it is a side.
    pub(crate) of: &'static [&'static str],
}

/// Parses `SITE=ORDERING`. `None` if the site is unknown or the ordering is not weaker.
pub(crate) fn weakened(text: &str) -> Option<(&'static Site, Ordering)> {
    let (name, left) = text.split_once('=')?;
    let site = SITES.iter().find(|site| site.name == name)?;
    let left = match left {
        "Relaxed" => Ordering::Relaxed,
        "Acquire" if site.order == Ordering::AcqRel => Ordering::Acquire,
        "Release" if site.order == Ordering::AcqRel => Ordering::Release,
        _ => return None,
    };
    Some((site, left))
}

macro_rules! sites {
    ($($at:ident = $order:ident: $($of:literal)+;)*) => {
        /// The sites that have an ordering other than relaxed.
        #[cfg(loom)]
        #[derive(Clone, Copy)]
        pub(crate) enum At {
            $($at),*
        }

        #[cfg(not(loom))]
        pub(crate) enum At {}

        #[cfg(not(loom))]
        #[allow(non_upper_case_globals, reason = "the same names as under loom")]
        impl At {
            $(pub(crate) const $at: Ordering = Ordering::$order;)*
        }

        /// The same with their names and orderings.
        pub(crate) const SITES: &[Site] =
            &[$(Site { name: stringify!($at), order: Ordering::$order, of: &[$($of),+] }),*];
    };
}

sites! {
    // protocol/ring/consume.rs, protocol/ring/consume/search.rs
    RingCopy = Acquire: "publish";
    RingCheck = Acquire: "claim";
    RingPass = Acquire: "order";
    RingMayEnd = Acquire: "order";
    RingAtEnd = Acquire: "order";
    RingLast = Acquire: "order";

    // protocol/ring/produce.rs
    RingHead = Acquire: "order";
    RingSlowHead = Acquire: "order";
    RingBisected = Acquire: "order";
    RingClaim = AcqRel: "follow" "order";
    RingNextHead = Release: "order";
    RingFailedHead = Release: "order";
    RingClaimed = Release: "claim" "overwrite";
    RingCommit = Release: "publish" "follow";
    RingDiscard = Release: "follow";
    RingRecover = AcqRel: "follow";

    // protocol/ring/tails.rs
    TailCheck = Acquire: "overwrite";
    TailClaim = AcqRel: "give back";
    TailEntered = SeqCst: "grant";
    TailIsGranted = Acquire: "grant";
    TailRaise = Acquire: "grant";
    TailRaised = SeqCst: "grant";
    TailGrant = Release: "grant";
    TailInTheWay = Acquire: "give back";
    TailEnd = Release: "give back";
    TailRest = Release: "give back";
    TailRecover = Release: "give back";

    // protocol/ring/retire.rs
    GateClose = Release: "replaced";
    GateClosed = SeqCst: "retire";
    GateRetire = Release: "retired";
    GateLoad = Acquire: "retired";

    // protocol/readers.rs
    SeatTake = Acquire: "leave";
    SeatLeave = Release: "leave";
    WantsCount = Release: "agree";
    WantsGather = Acquire: "agree";
    Asleep = SeqCst: "asleep" "idle";
    HasRead = Release: "read";
    Required = SeqCst: "keep";

    // protocol/ring/memfd_readers.rs
    TicketEnded = SeqCst: "asleep";
    StopsLooking = SeqCst: "idle";
    Claimed = SeqCst: "keep";
    Positions = Acquire: "read";
    LimitStore = Release: "read";
    LimitLoad = Acquire: "read";

    // protocol/cell.rs
    CellCopy = Acquire: "publish";
    CellCheck = Acquire: "claim";
    CellClaim = Acquire: "follow";
    CellClaimed = Release: "claim";
    CellEnd = Release: "publish" "follow";
    CellRecover = Release: "claim";

    // protocol/latch.rs
    LatchCopy = Acquire: "publish";
    LatchCheck = Acquire: "claim";
    LatchClaim = Release: "claim";
    LatchEnd = Release: "publish";

    // protocol/commands.rs
    CommandSlot = Acquire: "applied";
    CommandPush = Release: "publish";
    CommandAcknowledged = Acquire: "applied";
    CommandsOwn = Acquire: "own";
    CommandsDisown = Release: "own";

    // protocol/gauge.rs
    GaugeRaise = Release: "extremes";
    GaugeRead = Acquire: "extremes";

    // protocol/torn_copy.rs
    Copies = SeqCst: "publish" "claim";

    // sync.rs
    ProgramOrder = SeqCst: "look";
    Clock = SeqCst: "clock";
}

/// All named orderings, in the order of `docs/guarantees.md`.
pub(crate) const ORDERINGS: &[Named] = &[
    Named {
        name: "publish",
        writer: "release store of the even `seq` (BPF on x86: a plain store; BPF with store-release instructions: \
         a store-release; BPF elsewhere: `xchg`)",
        reader: "acquire fence after the first load of `seq`",
        so_that: "a reader that sees the record ended sees all of it",
    },
    Named {
        name: "claim",
        writer: "release fence after the compare-and-swap (BPF: the fetching atomic is a full barrier)",
        reader: "acquire fence before the second load of `seq`",
        so_that: "a reader that sees a word of a new record sees that the slot was claimed",
    },
    Named {
        name: "order",
        writer: "release store of `head` (BPF: the claim before it is a full barrier)",
        reader: "acquire load of `head` in the next claim (BPF: the claim after it is a full barrier); acquire \
         fence before a reader loads `seq` again of a ticket that it is about to skip",
        so_that: "a thread that sees a later ticket ended sees that the earlier ticket was claimed",
    },
    Named {
        name: "applied",
        writer: "BPF: the store of `applied`, as in *publish*",
        reader: "acquire load of `applied`; BPF: a barrier after the load",
        so_that: "a thread that sees a command acknowledged, and events that begin later, see its effect; a slot is \
         written again after it was copied",
    },
    Named {
        name: "lock",
        writer: "BPF: the store that frees the lock, as in *publish*",
        reader: "BPF: the compare-and-swap that takes it is a full barrier",
        so_that: "a program that drains sees what earlier drains did",
    },
    Named {
        name: "own",
        writer: "release on giving the ring of commands back",
        reader: "acquire on the compare-and-swap that takes it",
        so_that: "the next owner continues after the last command",
    },
    Named {
        name: "retire",
        writer: "BPF: the claim is a full barrier before the second load of the gate",
        reader: "SC fence between closing the gate and loading the slots",
        so_that: "each claim is given back, or every reader that has seen the ring retired sees it",
    },
    Named {
        name: "replaced",
        writer: "BPF: a barrier after the load that found the gate closed",
        reader: "release store that closes the gate",
        so_that: "a program that finds the ring closed finds the next ring",
    },
    Named {
        name: "retired",
        writer: "release store of the gate",
        reader: "acquire load of the gate",
        so_that: "a reader that sees the ring retired sees all claims that were not given back",
    },
    Named {
        name: "keep",
        writer: "a full barrier between the claims of earlier tickets and the load of the bits",
        reader: "SC fence between setting the bit and finding the end of the ring",
        so_that: "the program sees that the reader is required, or the reader sees the claims",
    },
    Named {
        name: "read",
        writer: "release store of the reader's position",
        reader: "BPF: a branch on the position before the stores of a claim; memfd: acquire load of the position or \
         of the limit, which is stored as a release",
        so_that: "the reader has copied what the program overwrites",
    },
    Named {
        name: "leave",
        writer: "release swap of a seat's owner by the reader that leaves, after its bits are cleared",
        reader: "acquire swap by the next reader",
        so_that: "what the next reader says in this seat is not cleared",
    },
    Named {
        name: "asleep",
        writer: "a full barrier between the end of a ticket and the load of the readers' bits",
        reader: "SC fence between setting the bit and checking for records",
        so_that: "the program sees that the reader sleeps, or the reader sees the record",
    },
    Named {
        name: "look",
        writer: "the end of a ticket comes before the load that says whether to look for sleepers, in the order of \
         the program",
        reader: "an RCU grace period (memfd: membarrier(2)) between the store of that word and the first sleep: each \
         CPU has issued a full barrier",
        so_that: "the program looks for sleepers, or the reader sees the record",
    },
    Named {
        name: "idle",
        writer: "BPF: the swap by which programs stop looking for sleepers is a full barrier before the load of \
         the readers' bits; memfd: SC fence between the two",
        reader: "SC fence between setting the bit and loading the word that was swapped",
        so_that: "the program sees that the reader sleeps, or the reader sees that programs do not look",
    },
    Named {
        name: "agree",
        writer: "release addition to the count of changes, after the store of what a reader wants",
        reader: "acquire load of the count, before the loads of what all readers want; a compare-and-swap of the \
         loaded word",
        so_that: "a reader that leaves sees what one that comes wants, or its compare-and-swap fails, or the other \
         one's change comes later",
    },
    Named {
        name: "extremes",
        writer: "release compare-and-swap of a gauge's minimum, after its maximum (BPF: full barrier)",
        reader: "acquire fence between the loads of minimum and maximum",
        so_that: "a reader that sees a minimum sees a maximum that is at least as large",
    },
    Named {
        name: "clock",
        writer: "a full barrier between the claim and reading the clock (a guarded claim: [10 \
         µs](#order-across-cpus))",
        reader: "`lfence` and SC fence between reading the clock and loading the end of the shard",
        so_that: "a merged reader that finds a ticket unclaimed has read an earlier clock than the ticket's program",
    },
    Named {
        name: "overwrite",
        writer: "release fence after the claim of the slot, which follows that of the tail (BPF: the claim of the \
         slot is a full barrier)",
        reader: "acquire fence between the copy of a tail and the load of `high`",
        so_that: "a reader that sees a byte of a later tail sees that `high` was moved",
    },
    Named {
        name: "grant",
        writer: "full barrier between the entry in `active` and the load of `high`",
        reader: "full barrier between moving `high` and loading `active`",
        so_that: "one of two writers whose tails would overlap sees the other",
    },
    Named {
        name: "give back",
        writer: "release: 0 in `active`, and the swap of `next`",
        reader: "acquire: the loads of `active`, and the addition to `next`",
        so_that: "a tail is written after the tail that had its bytes before",
    },
    Named {
        name: "follow",
        writer: "the release store that ended the previous record in the slot",
        reader: "acquire on the compare-and-swap (BPF: full barrier)",
        so_that: "the words of a record are written after the words of the previous record in the slot",
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordering_is_weakened_to_less_than_it_was() {
        let both = SITES.iter().find(|site| site.order == Ordering::AcqRel).unwrap();
        let one = SITES.iter().find(|site| site.order == Ordering::Release).unwrap();
        for (site, left, expected) in [
            (both, "Relaxed", Some(Ordering::Relaxed)),
            (both, "Acquire", Some(Ordering::Acquire)),
            (both, "Release", Some(Ordering::Release)),
            (both, "AcqRel", None),
            (one, "Relaxed", Some(Ordering::Relaxed)),
            (one, "Acquire", None),
            (one, "Release", None),
        ] {
            let found = weakened(&format!("{}={left}", site.name));
            assert_eq!(
                found.map(|(site, order)| (site.name, order)),
                expected.map(|order| (site.name, order))
            );
        }
        for text in ["", "Relaxed", "NoSite=Relaxed"] {
            assert!(weakened(text).is_none(), "{text}");
        }
    }
}
