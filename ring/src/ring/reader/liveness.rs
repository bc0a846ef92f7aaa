//! Liveness of a ring's writers: its loader, its programs, and how long a reader has found nothing.

use std::fmt;
use std::time::Duration;

use bytemuck::AnyBitPattern;

use super::super::event::Event;
use super::super::order::Order;
use super::Reader;
use crate::abi::Process;
use crate::error::Result;
use crate::record::Tailed;
use crate::region::{MapUser, is_alive};
use crate::ring::unended::Unended;

/// What is known of the writers of a ring: [`Reader::liveness`].
///
/// A flight recorder has programs that are attached by pinned links, and a loader that has ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct Liveness {
    /// How long the reader has found no new record. Exact to the time between two sweeps of the reader: to a
    /// millisecond or two if it polls all the time.
    pub idle: Duration,
    /// The process that initialized the ring; `None` if the ring does not name it.
    pub loader: Option<Process>,
    /// Whether that process lives. True if procfs hides this. Pids of another PID namespace are not found.
    pub loader_lives: bool,
    /// The loaded programs that can write the ring; empty for a memfd. Otherwise why they are not known: the kernel lists
    /// them only for processes with CAP_SYS_ADMIN.
    pub programs: Result<Vec<MapUser>>,
}

impl Liveness {
    /// Whether a program that can write the ring is attached by a link; `None` if that is not known: see
    /// [`MapUser::links`] for programs that seem to have none.
    pub fn attached(&self) -> Option<bool> {
        let programs = self.programs.as_ref().ok()?;
        let linked = programs.iter().any(|program| program.links > 0);
        (linked || programs.is_empty()).then_some(linked)
    }
}

/// `idle for 3.0s; loader 4711 is gone; attached: on_switch (id 7, 1 link)`
impl fmt::Display for Liveness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "idle for {:.1?}; ", self.idle)?;
        match self.loader {
            Some(Process { pid, .. }) if self.loader_lives => write!(f, "loader {pid} lives; ")?,
            Some(Process { pid, .. }) => write!(f, "loader {pid} is gone; ")?,
            None => f.write_str("loader unknown; ")?,
        }
        let programs = match &self.programs {
            Ok(programs) if programs.is_empty() => return f.write_str("no program is loaded"),
            Ok(programs) => programs,
            Err(e) => return write!(f, "programs unknown: {e}"),
        };
        f.write_str(if self.attached() == Some(true) { "attached: " } else { "loaded, no link found: " })?;
        for (at, program) in programs.iter().enumerate() {
            let (comma, plural) =
                (if at == 0 { "" } else { ", " }, if program.links == 1 { "" } else { "s" });
            write!(f, "{comma}{} (id {}, {} link{plural})", program.name, program.id, program.links)?;
        }
        Ok(())
    }
}

impl<T: AnyBitPattern, O: Order<T>> Reader<T, O> {
    /// For a reader that finds no records: how long it has found none, whether the loader lives, and which programs that
    /// use the ring's maps are loaded and attached. In a `PER_CPU_MAPS` ring or a resizable ring, programs use the map of maps.
    /// Makes many system calls; none of them waits.
    pub fn liveness(&self) -> Liveness {
        let region = self.region();
        let loader = region.loader().ok().flatten();
        Liveness {
            idle: self.rings.sweep.idle(),
            loader,
            loader_lives: loader.is_some_and(is_alive),
            programs: region.programs(),
        }
    }
}

impl<T: AnyBitPattern, O: Order<T>> Reader<T, O> {
    /// Calls `f` with the newest record of each shard. So a reader that was just opened finds the age of the last record, if records
    /// have a stamp; [`Liveness::idle`] is only what this reader has seen. Records whose last few tickets are being written
    /// or were discarded are not found.
    ///
    /// Does not change what the reader reads next. Takes a few dozen loads for each shard, and makes system calls if the
    /// ring is not mapped.
    ///
    /// ```
    /// # let ring = mapring::Ring::<[u64; 2]>::create_memfd(64, 2)?;
    /// # ring.writer(0)?.push(&[70, 1]);
    /// let mut last = None;
    /// ring.reader().for_each_newest(|event| last = last.max(Some(event.record[0])));
    /// assert_eq!(last, Some(70));
    /// # Ok::<(), mapring::Error>(())
    /// ```
    pub fn for_each_newest(&mut self, mut f: impl FnMut(Event<&T>)) {
        if self.tails.is_some() {
            self.rings.sweep.for_each_newest(|Event { shard, ticket, record, tail }: Event<&Tailed<T>>| {
                f(Event { shard, ticket, record: &record.record, tail });
            });
        } else {
            self.rings.sweep.for_each_newest(f);
        }
    }
}

impl<T: AnyBitPattern, O: Order<T>> Reader<T, O> {
    /// The records that were reserved and have not ended, although later ones have: at most one for each shard, and only
    /// those that this reader passed, or whose slots it found taken. Either a program was interrupted for that long, or
    /// nothing ends the record: then its slot is unusable for good.
    ///
    /// Makes system calls if the ring is not mapped.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let ring = mapring::Ring::<[u64; 2]>::create_memfd(64, 2)?;
    /// # let writer = ring.writer(1)?;
    /// let mut reader = ring.reader().with_patience(Duration::ZERO);
    /// std::mem::forget(writer.reserve());
    /// writer.push(&[1, 2]);
    /// while reader.poll().is_none() {}
    /// let unended = reader.unended();
    /// assert_eq!((unended[0].shard, unended[0].ticket), (1, 0));
    /// # Ok::<(), mapring::Error>(())
    /// ```
    pub fn unended(&mut self) -> Vec<Unended> {
        self.rings.sweep.unended()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Cause, Error};

    #[test]
    fn it_says_who_writes() {
        let loader = Some(Process { pid: 4711, start: 1 });
        let idle = Duration::from_secs(3);
        let mut live = Liveness { idle, loader, loader_lives: false, programs: Ok(Vec::new()) };
        assert_eq!(live.to_string(), "idle for 3.0s; loader 4711 is gone; no program is loaded");
        assert_eq!(live.attached(), Some(false));
        (live.loader_lives, live.idle) = (true, Duration::from_millis(1));
        live.programs = Err(Error::from(Cause::ResizeUnfinished { what: "x".to_owned() }));
        assert!(
            live.to_string().starts_with("idle for 1.0ms; loader 4711 lives; programs unknown: "),
            "{live}"
        );
        assert_eq!(live.attached(), None);
    }
}
