//! What was asked of disks, and how long it took.

use super::super::event::{Event, What};
use super::super::names::Names;
use super::super::text::escape;
use super::figures::{Disk, Figures, Request};
use super::largest::{Map, sorted};
use super::longest::Took;
use super::tasks::task;

#[derive(Default)]
pub(super) struct Disks {
    /// By the address of the request.
    open: Map<u64, Open>,
    rows: Map<Row, Requests>,
    /// Of a disk: ends of requests whose begin is not known, so that neither their kind nor their time is.
    without_begin: Map<u32, u64>,
}

/// A request that is not over.
struct Open {
    dev: u32,
    request: Request,
    /// Where the next part of it begins, and its bytes.
    sector: u64,
    bytes: u32,
    is_failed: bool,
}

/// A disk, and what its requests do.
type Row = (u32, &'static str);

#[derive(Default)]
struct Requests {
    took: Took,
    bytes: u64,
    errors: u64,
    slowest: Option<Request>,
    open: u64,
    oldest: Option<Request>,
}

impl Disks {
    pub(super) fn see(&mut self, event: &Event, names: &mut Names) {
        let &Event { ns, pid, tid, ref what, .. } = event;
        match *what {
            What::BlockIssue { request, dev, sector, bytes, op } => {
                // One that was put back, whole or after a part, counts from its first issue.
                let is_again = |it: &Open| it.dev == dev && it.sector == sector && it.bytes <= bytes;
                if self.open.get(&request).is_some_and(is_again) {
                    return;
                }
                let op = String::from_utf8_lossy(&op).trim_end_matches('\0').to_owned();
                let [pid, tid] = [pid, tid].map(|number| names.id(number));
                let task = task(pid, tid, names, ns);
                let new = Request { task, op, sector, bytes, from_ns: ns, ns: 0 };
                self.open.insert(request, Open { dev, request: new, sector, bytes, is_failed: false });
            }
            What::BlockComplete { request, dev, bytes, error, .. } => {
                match self.open.get_mut(&request).filter(|it| it.dev == dev) {
                    Some(open) => {
                        open.is_failed |= error != 0;
                        (open.sector, open.bytes) = (
                            open.sector.saturating_add(u64::from(bytes / SECTOR)),
                            open.bytes.saturating_sub(bytes),
                        );
                        if open.bytes == 0 || bytes == 0 {
                            self.complete(ns, request);
                        }
                    }
                    None => *self.without_begin.entry(dev).or_default() += 1,
                }
            }
            _ => {}
        }
    }

    fn complete(&mut self, ns: u64, request: u64) {
        let Some(Open { dev, mut request, is_failed, .. }) = self.open.remove(&request) else { return };
        request.ns = ns.saturating_sub(request.from_ns);
        let row = self.rows.entry((dev, kind(&request.op))).or_default();
        row.bytes = row.bytes.saturating_add(request.bytes.into());
        row.errors += u64::from(is_failed);
        if row.took.see(request.ns) {
            row.slowest = Some(request);
        }
    }

    /// Events are missing up to now: what has begun may have ended.
    pub(super) fn forget(&mut self) {
        self.open.clear();
    }

    pub(super) fn put(mut self, figures: &mut Figures, names: &Names, end: u64) {
        for (_, Open { dev, mut request, .. }) in std::mem::take(&mut self.open) {
            request.ns = end.saturating_sub(request.from_ns);
            let row = self.rows.entry((dev, kind(&request.op))).or_default();
            row.open += 1;
            let age = |it: &Request| (it.ns, std::cmp::Reverse(it.sector));
            if row.oldest.as_ref().is_none_or(|oldest| age(oldest) < age(&request)) {
                row.oldest = Some(request);
            }
        }
        let is_here = names.machine().is_here;
        let device = |dev| {
            let device = format!("{}:{}", dev >> 20, dev & 0xf_ffff);
            let name = is_here.then(|| disk_name(&device)).flatten();
            (device, name)
        };
        let longest = |row: &Requests| row.took.max.max(row.oldest.as_ref().map_or(0, |it| it.ns));
        figures.disks = sorted(self.rows, longest)
            .map(|((dev, requests), Requests { took, bytes, errors, slowest, open, oldest })| {
                let (device, name) = device(dev);
                let took = took.distribution();
                Disk { device, name, requests, bytes, errors, took, slowest, open, oldest }
            })
            .collect();
        figures.requests_without_begin =
            self.without_begin.values().fold(0, |sum, it| sum.saturating_add(*it));
    }
}

/// The unit of a request's place.
const SECTOR: u32 = 512;

/// What a request does, by the letters of its operation. An F before another letter is a flush before it.
fn kind(op: &str) -> &'static str {
    match op.strip_prefix('F').filter(|rest| !rest.is_empty()).unwrap_or(op).as_bytes().first() {
        Some(b'R') => "reads",
        Some(b'W') => "writes",
        Some(b'D') => "discards",
        Some(b'F') => "flushes",
        _ => "commands",
    }
}

/// The name of the disk with these numbers, escaped.
fn disk_name(device: &str) -> Option<String> {
    let link = std::fs::read_link(format!("/sys/dev/block/{device}")).ok()?;
    Some(escape(link.file_name()?.as_encoded_bytes()))
}

#[cfg(test)]
mod tests {
    use super::super::super::event::tests::event;
    use super::*;

    const DEV: u32 = 8 << 20;

    fn issue(ns: u64, request: u64, sector: u64, bytes: u32, op: &str) -> Event {
        let mut letters = [0; 8];
        letters[..op.len()].copy_from_slice(op.as_bytes());
        event(ns, 7, What::BlockIssue { request, dev: DEV, sector, bytes, op: letters })
    }

    fn complete(ns: u64, request: u64, sector: u64, bytes: u32, error: i32) -> Event {
        event(ns, 0, What::BlockComplete { request, dev: DEV, sector, bytes, error })
    }

    fn figures(events: &[Event]) -> Figures {
        let (mut disks, mut names) = (Disks::default(), Names::of_events());
        events.iter().for_each(|event| disks.see(event, &mut names));
        let mut figures = Figures::default();
        disks.put(&mut figures, &names, 1000);
        figures
    }

    #[test]
    fn requests_for_one_sector_are_told_apart_by_their_addresses() {
        let found = figures(&[
            issue(10, 1, 5, 4096, "R"),
            issue(20, 2, 5, 4096, "R"),
            complete(30, 2, 5, 4096, -5),
            complete(500, 1, 5, 4096, 0),
            complete(600, 9, 5, 4096, 0),
        ]);
        let [disk] = &found.disks[..] else { panic!("{:?}", found.disks) };
        let row = (&*disk.device, disk.requests, disk.took.count, disk.errors, disk.bytes, disk.open);
        assert_eq!(row, ("8:0", "reads", 2, 1, 8192, 0));
        let slowest = disk.slowest.as_ref().unwrap();
        assert_eq!((slowest.sector, slowest.ns), (5, 490));
        assert_eq!(found.requests_without_begin, 1);
    }

    #[test]
    fn reads_writes_discards_and_flushes_are_rows_of_their_own() {
        let ops = ["R", "RA", "W", "WS", "FWFS", "WZ", "D", "DE", "F", "FF", "N"];
        let kinds: Vec<_> = ops.map(kind).into();
        assert_eq!(kinds[..6], ["reads", "reads", "writes", "writes", "writes", "writes"]);
        assert_eq!(kinds[6..], ["discards", "discards", "flushes", "flushes", "commands"]);
        let found = figures(&[
            issue(0, 1, 0, 0, "FF"),
            issue(0, 2, 8, 512, "W"),
            complete(7, 1, 0, 0, 0),
            complete(9, 2, 8, 512, 0),
        ]);
        let rows: Vec<_> = found.disks.iter().map(|it| (it.requests, it.took.max_ns)).collect();
        assert_eq!(rows, [("writes", 9), ("flushes", 7)]);
    }

    #[test]
    fn a_request_that_is_issued_again_counts_from_its_first_issue() {
        let found = figures(&[
            issue(10, 1, 8, 8192, "W"),
            issue(100, 1, 8, 8192, "W"), // it was put back
            complete(200, 1, 8, 4096, 0),
            issue(210, 1, 16, 4096, "W"), // the rest
            complete(300, 1, 16, 4096, 0),
            issue(400, 1, 16, 4096, "W"), // another one at that address
            complete(410, 1, 16, 4096, 0),
        ]);
        let [disk] = &found.disks[..] else { panic!("{:?}", found.disks) };
        assert_eq!((disk.took.count, disk.took.max_ns, disk.bytes), (2, 290, 8192 + 4096));
        assert_eq!(found.requests_without_begin, 0);
    }

    #[test]
    fn a_request_that_is_not_over_is_counted_with_its_age() {
        let found =
            figures(&[issue(100, 1, 8, 512, "W"), issue(700, 2, 8, 512, "W"), complete(701, 2, 8, 512, 0)]);
        let [disk] = &found.disks[..] else { panic!("{:?}", found.disks) };
        assert_eq!((disk.took.count, disk.open, disk.oldest.as_ref().unwrap().ns), (1, 1, 900));
    }
}
