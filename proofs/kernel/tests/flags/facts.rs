//! The effect of one combination of flags: the kernel's results, and mapring's.

use std::fmt::Debug;

use libbpf_rs::libbpf_sys::{BPF_F_RDONLY, BPF_F_WRONLY};
use mapring::dispatch::Dispatch;
use mapring_kernel_tests::prelude::*;
use mapring_kernel_tests::raw::{RawMap, SysResult};

use crate::kernel::Kernel;
use crate::through::through_mapring;

/// The kernel's internal "not supported", which libc does not define.
const ENOTSUPP: i32 = 524;

/// The words of a latch's or a cell's value here.
pub(crate) type Value = [u64; 7];
pub(crate) const VALUE: Value = [7; 7];
pub(crate) const OTHER: Value = [8; 7];

/// The content of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    Values,
    /// Only tables of cells.
    Cells,
    Locks,
    Timers,
    OfEachCpu,
    Programs,
}

impl Holds {
    /// The tables with this content.
    fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Values => &[Kind::Cells, Kind::Latches],
            Self::Cells | Self::Locks | Self::Timers => &[Kind::Cells],
            Self::OfEachCpu => &[Kind::PerCpuCells],
            Self::Programs => &[],
        }
    }

    /// A table of two elements.
    fn shape(self, kind: Kind) -> Geometry {
        let record = match self {
            Self::Locks => size_of::<[u64; 17]>(),
            Self::Timers => size_of::<[u64; 18]>(),
            _ => size_of::<Value>(),
        };
        Geometry::new(kind, record as u64, 2, 1).unwrap()
    }
}

/// The permitted use of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fd {
    ReadWrite,
    ReadOnly,
    WriteOnly,
}

impl Fd {
    pub(crate) const ALL: [Self; 3] = [Self::ReadWrite, Self::ReadOnly, Self::WriteOnly];
    /// The flag that gives such a descriptor, for creating a map and for opening one.
    fn flag(self) -> u32 {
        [0, BPF_F_RDONLY, BPF_F_WRONLY][self as usize]
    }
}

/// A combination.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) holds: Holds,
    /// `BPF_F_…`, except the flags of descriptors.
    pub(crate) flags: u32,
    pub(crate) fd: Fd,
    pub(crate) frozen: bool,
}

/// The result of a combination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    NotMade(i32),
    NotFrozen(i32),
    Facts(Box<Facts>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) map_writable: SysResult,
    pub(crate) map_read_only: SysResult,
    pub(crate) lookup: SysResult,
    pub(crate) lookup_batch: SysResult,
    pub(crate) update: SysResult,
    pub(crate) update_batch: SysResult,
    /// The results of mapring.
    pub(crate) reads: String,
    pub(crate) writes: String,
}

/// The parts for creating maps.
pub(crate) struct Workshop {
    program: OwnedFd,
    locked: Typed,
    timed: Typed,
    cpus: usize,
    kernel: Kernel,
}

/// A value with BTF.
struct Typed {
    btf: OwnedFd,
    key: u32,
    value: u32,
}

impl Workshop {
    pub(crate) fn new() -> Self {
        let object = &bpf::FLAGS.load(|object| {
            object.progs_mut().for_each(|mut program| program.set_autoload(false));
        });
        let typed = |name: &str| {
            let info = raw::info(map(object, name).as_fd());
            let btf = raw::btf_by_id(info.btf_id).unwrap();
            Typed { btf, key: info.btf_key_type_id, value: info.btf_value_type_id }
        };
        Self {
            program: raw::nothing().unwrap(),
            locked: typed("locked_cells"),
            timed: typed("timed_cells"),
            cpus: possible_cpus().unwrap().len(),
            kernel: Kernel::running(),
        }
    }

    /// Creates the map and tests it. With `every_way`, gets such a descriptor in every way; all results must be the
    /// same.
    pub(crate) fn outcome(&self, case: Case, every_way: bool) -> Outcome {
        let outcome = self.one(case, case.fd, false);
        // The flag used to create the map does not matter: only the opened descriptor counts.
        for made in Fd::ALL.into_iter().filter(|_| every_way) {
            assert_eq!(outcome, self.one(case, made, true), "{case:?} made {made:?}");
        }
        outcome
    }

    /// A map created with the flag of `made`; with `again`, its descriptor is opened again.
    fn one(&self, case: Case, made: Fd, again: bool) -> Outcome {
        if case.holds == Holds::Programs {
            return self.programs(case, made, again).unwrap_or_else(|outcome| outcome);
        }
        let mut outcomes = case.holds.kinds().iter().map(|&kind| {
            let geometry = case.holds.shape(kind);
            let fd = match self.made(case, made, again, &geometry) {
                Ok(fd) => fd,
                Err(outcome) => return outcome,
            };
            let (reads, writes) = through_mapring(kind, case.holds, &fd);
            let value = vec![0; geometry.element_words() * self.copies(case.holds)];
            Outcome::Facts(Box::new(self.facts(&fd, &geometry, &value, reads, writes)))
        });
        let mut outcome = outcomes.next().unwrap();
        // The kernel treats both kinds the same; mapring's writers may not.
        for other in outcomes {
            if let (Outcome::Facts(facts), Outcome::Facts(other)) = (&mut outcome, &other)
                && facts.writes != other.writes
            {
                facts.writes = format!("latches {}; others {}", other.writes, facts.writes);
                let both = Facts { writes: facts.writes.clone(), ..*other.clone() };
                assert_eq!(**facts, both, "{case:?}");
            } else {
                assert_eq!(outcome, other, "{case:?}");
            }
        }
        outcome
    }

    /// The verifier's result for a program that reads and one that writes, if such a map exists.
    pub(crate) fn programs_may(&self, case: Case) -> Option<[SysResult; 2]> {
        let fd = match case.holds {
            Holds::Programs => self.made_of_programs(case, case.fd, false),
            holds => self.made(case, case.fd, false, &holds.shape(holds.kinds()[0])),
        };
        let fd = fd.ok()?;
        Some([false, true].map(|writes| raw::program(fd.as_fd(), writes).map(drop)))
    }

    fn copies(&self, holds: Holds) -> usize {
        if holds == Holds::OfEachCpu { self.cpus } else { 1 }
    }

    /// A region of this shape with a value, and its descriptor.
    fn made(&self, case: Case, made: Fd, again: bool, geometry: &Geometry) -> Result<OwnedFd, Outcome> {
        let (ty, btf) = match case.holds {
            Holds::Values | Holds::Cells => (MapType::Array, None),
            Holds::Locks => (MapType::Array, Some(&self.locked)),
            Holds::Timers => (MapType::Array, Some(&self.timed)),
            Holds::OfEachCpu => (MapType::PercpuArray, None),
            Holds::Programs => (MapType::ProgArray, None),
        };
        let map = RawMap {
            ty,
            flags: case.flags | made.flag(),
            btf: btf.map_or((0, 0, 0), |typed| (typed.btf.as_raw_fd(), typed.key, typed.value)),
            ..RawMap::array(
                u32::try_from(geometry.element()).unwrap(),
                u32::try_from(geometry.entries()).unwrap(),
                0,
            )
        };
        let fd = map.make().map_err(Outcome::NotMade)?;
        // Another descriptor, with all permissions, prepares it.
        let all = raw::by_id(raw::info(&fd).id, 0).unwrap();
        let name = String::from("value");
        let words = Preamble { geometry: *geometry, generation: 1, name }.encode();
        let element = geometry.element_words();
        let mut image = vec![0; geometry.entries() * element];
        image[..words.len()].copy_from_slice(&words);
        let first = geometry.first() * element;
        image[first] = 2 * u64::from(geometry.kind() != Kind::Latches);
        image[first + 1..][..VALUE.len()].copy_from_slice(&VALUE);
        for (index, value) in (0..).zip(image.chunks(element)) {
            raw::update(&all, index, &value.repeat(self.copies(case.holds))).unwrap();
        }
        self.ready(case, made, again, fd, &all)
    }

    /// Freezes the map if required. Returns the original descriptor, or one opened again.
    fn ready(
        &self,
        case: Case,
        made: Fd,
        again: bool,
        fd: OwnedFd,
        all: &OwnedFd,
    ) -> Result<OwnedFd, Outcome> {
        if case.frozen {
            raw::freeze(all).map_err(Outcome::NotFrozen)?;
        }
        assert!(again || made == case.fd);
        Ok(if again { raw::by_id(raw::info(all).id, case.fd.flag()).unwrap() } else { fd })
    }

    fn facts(
        &self,
        fd: &OwnedFd,
        geometry: &Geometry,
        value: &[u64],
        reads: String,
        writes: String,
    ) -> Facts {
        let last = u32::try_from(geometry.entries()).unwrap() - 1;
        let mut seen = value.to_owned();
        let mut two = value.repeat(2);
        let mut facts = Facts {
            map_writable: raw::map(fd, geometry.bytes(), true),
            map_read_only: raw::map(fd, geometry.bytes(), false),
            lookup: raw::lookup(fd, 0, &mut seen),
            lookup_batch: raw::lookup_batch(fd, 2, &mut two),
            update: raw::update(fd, last, value),
            update_batch: raw::update_batch(fd, &[last - 1, last], &value.repeat(2)),
            reads,
            writes,
        };
        if MapType::from(raw::info(fd).type_) == MapType::PercpuArray && self.kernel.no_per_cpu_batches() {
            for (one, batch) in
                [(facts.lookup, &mut facts.lookup_batch), (facts.update, &mut facts.update_batch)]
            {
                assert_eq!(*batch, one.and(Err(ENOTSUPP)));
                *batch = one;
            }
        }
        facts
    }

    fn made_of_programs(&self, case: Case, made: Fd, again: bool) -> Result<OwnedFd, Outcome> {
        const SLOTS: u32 = 4;
        let map = RawMap { ty: MapType::ProgArray, ..RawMap::array(4, SLOTS, case.flags | made.flag()) };
        let fd = map.make().map_err(Outcome::NotMade)?;
        let all = raw::by_id(raw::info(&fd).id, 0).unwrap();
        let program = [u64::try_from(self.program.as_raw_fd()).unwrap()];
        for slot in 0..SLOTS {
            raw::update(&all, slot, &program).unwrap();
        }
        self.ready(case, made, again, fd, &all)
    }

    fn programs(&self, case: Case, made: Fd, again: bool) -> Result<Outcome, Outcome> {
        let fd = self.made_of_programs(case, made, again)?;
        let program = [u64::try_from(self.program.as_raw_fd()).unwrap()];
        let (reads, writes) = self.dispatch(&fd);
        let message =
            "is a map of type prog_array, expected array or percpu_array; open it with Dispatch::open";
        assert_error(Region::open(again_of(&fd)), ErrorKind::WrongType, message);
        let mut two = [0; 2];
        Ok(Outcome::Facts(Box::new(Facts {
            map_writable: raw::map(&fd, 16, true),
            map_read_only: raw::map(&fd, 16, false),
            lookup: raw::lookup(&fd, 0, &mut [0]),
            lookup_batch: raw::lookup_batch(&fd, 2, &mut two),
            update: raw::update(&fd, 1, &program),
            update_batch: raw::update_batch(&fd, &[1, 2], &two),
            reads,
            writes,
        })))
    }

    fn dispatch(&self, fd: &OwnedFd) -> (String, String) {
        let table = Dispatch::open(again_of(fd)).unwrap();
        let reads = match table.id(0) {
            Ok(id) => {
                assert!(id.is_some());
                "`Dispatch`: by lookup".to_owned()
            }
            Err(error) => no(&error),
        };
        let writes = match table.insert(0, &self.program) {
            Ok(()) => "`Dispatch`: by update".to_owned(),
            Err(error) => no(&error),
        };
        (reads, writes)
    }
}

pub(crate) fn again_of(fd: &OwnedFd) -> OwnedFd {
    fd.try_clone().unwrap()
}

/// A typed refusal, by its name.
pub(crate) fn no(error: &Error) -> String {
    if let Some(refusal) = error.refusal() {
        return format!("no: `{:?}({refusal:?})`", error.kind());
    }
    assert_eq!(error.kind(), ErrorKind::System, "{error}");
    let errno = error.io_error().and_then(std::io::Error::raw_os_error).unwrap();
    let text = error.to_string();
    let (call, _) = text.split_once(": ").unwrap();
    format!("no: `System`, {} from {call}", raw::errno(errno))
}
