//! Maps from other loaders: loaded by aya or by libbpf, found by descriptor or by pin, described by BTF or by the
//! process that opens them.

use aya::maps::{ArrayOfMaps, Map, MapData};
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader};
use mapring::Array;
use mapring::abi::PreambleError;
use mapring::loader::initialize_map;
use mapring::record::UncheckedReason;
use mapring_kernel_tests::prelude::*;

static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/foreign.bpf.o"));
static LEGACY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/legacy.bpf.o"));

fn sample(number: u32) -> Sample {
    let cpu = u32::try_from(cpus()[0]).unwrap();
    Sample { number: number.into(), twice: 2 * number, cpu }
}

fn shards() -> usize {
    possible_cpus().unwrap().last().unwrap() + 1
}

/// The layouts of mapring's maps, which a loader without libbpf-rs must know.
fn geometry(name: &str) -> Geometry {
    let (kind, record, capacity, shards) = match name {
        "ring" | "moving__first" => (Kind::Ring, size_of::<Sample>(), 64, shards()),
        "cells" => (Kind::Cells, size_of::<Sample>(), 4, 1),
        "counters" => (Kind::Counters, 8, 3, shards()),
        "percpu_cells" => (Kind::PerCpuCells, size_of::<Sample>(), 2, 1),
        _ => (Kind::PerCpuCounters, 8, 3, 1),
    };
    let geometry = Geometry::new(kind, record as u64, capacity, shards as u64).unwrap();
    if name == "moving__first" { geometry.resizable().unwrap() } else { geometry }
}

const REGIONS: [&str; 5] = ["ring", "cells", "counters", "percpu_cells", "percpu_counters"];

/// An object that aya loaded; its program stays loaded as long as this value.
struct Aya(Ebpf);

impl Aya {
    fn load(object: &[u8]) -> Self {
        let entries = |name| u32::try_from(geometry(name).entries()).unwrap();
        // Does the same as `loader::prepare` for libbpf-rs.
        let object = EbpfLoader::new()
            .map_max_entries("ring", entries("ring"))
            .map_max_entries("counters", entries("counters"))
            .map_max_entries("moving__first", entries("moving__first"))
            .map_max_entries("placed", u32::try_from(shards()).unwrap())
            .load(object);
        let mut object = object.unwrap_or_else(|e| panic!("aya: {e:?}"));
        let program: &mut Xdp = object.program_mut("on_packet").unwrap().try_into().unwrap();
        program.load().unwrap_or_else(|e| panic!("aya: {e:?}"));
        Self(object)
    }

    fn map(&self, name: &str) -> &MapData {
        match self.0.map(name) {
            Some(Map::Array(map) | Map::PerCpuArray(map)) => map,
            other => panic!("{name}: {other:?}"),
        }
    }

    /// The map of maps of this name.
    fn outer(&self, name: &str) -> OwnedFd {
        let Some(Map::ArrayOfMaps(map)) = self.0.map(name) else { panic!("no map of maps {name}") };
        map.fd().as_fd().try_clone_to_owned().unwrap()
    }

    /// Inserts the first map.
    fn put_first(&mut self, name: &str) -> OwnedFd {
        type First = aya::maps::Array<MapData, [u8; 8 + size_of::<Sample>()]>;
        let first = First::try_from(self.0.take_map(&format!("{name}__first")).unwrap()).unwrap();
        let mut maps: ArrayOfMaps<_, First> = self.0.map_mut(name).unwrap().try_into().unwrap();
        maps.set(0, &first, 0).unwrap();
        self.outer(name)
    }

    fn packets(&self, times: i32) {
        let program: &Xdp = self.0.program("on_packet").unwrap().try_into().unwrap();
        send(program.fd().unwrap().as_fd(), &[0; 64], times);
    }
}

/// The loader of the maps, and how they are found.
enum From<'a> {
    AyaFd(&'a Aya),
    AyaPin(&'a Aya, &'a PinDir),
    LibbpfFd(&'a Object),
    LibbpfPin(&'a Object, &'a PinDir),
}

impl From<'_> {
    fn fd(&self, name: &str) -> OwnedFd {
        let owned = |fd: &dyn AsFd| fd.as_fd().try_clone_to_owned().unwrap();
        match self {
            Self::AyaFd(object) => owned(&object.map(name).fd()),
            Self::LibbpfFd(object) => owned(&map(object, name)),
            _ => owned(&MapHandle::from_pinned_path(self.pin(name)).unwrap()),
        }
    }

    /// Pins the map if it has no pin yet.
    fn pin(&self, name: &str) -> PathBuf {
        let (Self::AyaPin(_, pins) | Self::LibbpfPin(_, pins)) = self else { panic!("no pins") };
        let path = pins.path(name);
        match self {
            _ if path.exists() => {}
            Self::AyaPin(object, _) => object.map(name).pin(&path).unwrap(),
            Self::LibbpfPin(object, _) => {
                MapHandle::try_from(&map(object, name)).unwrap().pin(&path).unwrap();
            }
            _ => {}
        }
        path
    }

    fn region(&self, name: &str, options: OpenOptions) -> mapring::Result<Region> {
        match self {
            Self::AyaFd(_) | Self::LibbpfFd(_) => options.open(self.fd(name)),
            Self::AyaPin(..) | Self::LibbpfPin(..) => options.open(self.pin(name)),
        }
    }

    fn array<T: Record>(&self, name: &str) -> mapring::Result<Array<T>> {
        match self {
            Self::AyaFd(_) | Self::LibbpfFd(_) => Array::open(self.fd(name)),
            Self::AyaPin(..) | Self::LibbpfPin(..) => Array::open(self.pin(name)),
        }
    }
}

/// Checks everything in mapring's own maps after `number` packets, opened with `options`.
fn regions(from: &From<'_>, options: impl Fn(&str) -> OpenOptions, number: u32, compared: LayoutCheck) {
    let open = |name: &str| from.region(name, options(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let ring = Ring::<Sample>::from_region(open("ring")).unwrap();
    let cells = Cells::<Sample>::from_region(open("cells")).unwrap();
    let percpu_cells = PerCpuCells::<Sample>::from_region(open("percpu_cells")).unwrap();
    assert_eq!([ring.layout_check(), cells.layout_check(), percpu_cells.layout_check()], [compared; 3]);
    assert_eq!([ring.access(), cells.access()], [Access::Mapped; 2]);
    assert_eq!(percpu_cells.access(), Access::Syscall(Refusal::MapType));
    assert_eq!((ring.slots(), ring.shards()), (64, shards()));
    let records: Vec<_> = ring.reader().drain().map(|event| event.record).collect();
    assert_eq!(records, (1..=number).map(sample).collect::<Vec<_>>());
    let snapshot = cells.snapshot(2).unwrap();
    assert_eq!((snapshot.version, snapshot.value), (number.into(), sample(number)));
    assert_eq!(percpu_cells.read(cpus()[0], 1).unwrap(), sample(number));
    for name in ["counters", "percpu_counters"] {
        let counters = Counters::from_region(open(name)).unwrap();
        assert_eq!(counters.get(cpus()[0], 2).unwrap(), number.into(), "{name}");
        assert_eq!((counters.sum(2).unwrap(), counters.sum(1).unwrap()), (number.into(), 0), "{name}");
    }
}

/// Checks the arrays without mapring, after `number` packets.
fn plain(from: &From<'_>, number: u32) {
    let samples = from.array::<Sample>("samples").unwrap();
    assert_eq!(
        (samples.access(), samples.layout_check(), samples.len()),
        (Access::Mapped, LayoutCheck::Fields, 3)
    );
    assert_eq!((samples.get(1).unwrap(), samples.get(0).unwrap()), (sample(number), Sample::zeroed()));
    assert_eq!((samples.each(1).unwrap(), samples.cpus()), (vec![sample(number)], None));
    assert!(matches!(samples.get(3), Err(ReadError::Index { thing: "value", index: 3, count: 3 })));

    let unmapped = from.array::<Sample>("unmapped").unwrap();
    assert_eq!(unmapped.access(), Access::Syscall(Refusal::NotMmapable));
    assert_eq!(unmapped.get(1).unwrap(), sample(number));
    let numbers = from.array::<u32>("numbers").unwrap();
    assert_eq!((numbers.access(), numbers.get(1).unwrap()), (Access::Mapped, number));

    let percpu = from.array::<Sample>("percpu_samples").unwrap();
    let cpus_there = percpu.cpus().unwrap().to_vec();
    assert_eq!(cpus_there, possible_cpus().unwrap());
    let each = percpu.each(1).unwrap();
    for (cpu, value) in cpus_there.into_iter().zip(each) {
        assert_eq!(value, if cpu == cpus()[0] { sample(number) } else { Sample::zeroed() });
    }
    assert!(percpu.each(3).is_err());

    // Its BTF also describes values.
    let error = from.array::<[u64; 2]>("samples").unwrap_err();
    assert!(error.kind() == ErrorKind::Layout && error.to_string().contains(": sample is "), "{error}");
    assert!(error.to_string().contains("struct sample (16 bytes) in C, and 2 times"), "{error}");
    let message = " in C, and ";
    assert_error(from.array::<u64>("numbers"), ErrorKind::Layout, message);
}

#[test]
fn loaded_by_aya() {
    require_bpf!();
    on_one_cpu();
    let (aya, pins) = (Aya::load(OBJECT), PinDir::new());
    let (fds, by_pin) = (From::AyaFd(&aya), From::AyaPin(&aya, &pins));
    let typed = |_: &str| OpenOptions::new().expect_record::<Sample>();
    let described = |name: &str| typed(name).assume_layout(geometry(name));

    // aya passes on the maps' types: readers need nothing else.
    aya.packets(5);
    regions(&fds, typed, 5, LayoutCheck::Fields);
    regions(&by_pin, described, 5, LayoutCheck::Fields);
    // Its loader can write the preambles, for readers without the privilege to read types.
    for name in REGIONS {
        fds.region(name, described(name).write_preamble(true)).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    aya.packets(3);
    for from in [fds, by_pin] {
        regions(&from, typed, 8, LayoutCheck::Fields);
        plain(&from, 8);
    }
    let generations = [0, 1].map(|_| Region::open(pins.path("ring")).unwrap().preamble().generation);
    assert_eq!(generations[0], generations[1], "out of the preamble");
}

#[test]
fn loaded_by_libbpf() {
    let object = &require_bpf!(FOREIGN);
    on_one_cpu();
    let pins = PinDir::new();
    send(program(object, "on_packet").as_fd(), &[0; 64], 7);
    for from in [From::LibbpfFd(object), From::LibbpfPin(object, &pins)] {
        regions(&from, |_| OpenOptions::new().expect_record::<Sample>(), 7, LayoutCheck::Fields);
        plain(&from, 7);
    }
    // By id, and by libbpf-rs's map.
    let id = map(object, "samples").info().unwrap().info.id;
    assert_eq!(Array::<Sample>::open(Source::id(id)).unwrap().get(1).unwrap(), sample(7));
    assert_eq!(
        Array::<Sample>::open(&map(object, "percpu_samples")).unwrap().each(1).unwrap().len(),
        cpus_there()
    );
}

fn cpus_there() -> usize {
    possible_cpus().unwrap().len()
}

/// Maps from before BTF: only the process that opens them can describe their content.
#[test]
fn loaded_by_aya_without_types() {
    require_bpf!();
    on_one_cpu();
    let (aya, pins) = (Aya::load(LEGACY), PinDir::new());
    aya.packets(6);
    for from in [From::AyaFd(&aya), From::AyaPin(&aya, &pins)] {
        for name in ["cells", "percpu_cells", "percpu_counters"] {
            let error = from.region(name, OpenOptions::new()).unwrap_err();
            assert!(error.preamble_error() == Some(&PreambleError::Magic { found: 0 }), "{name}: {error}");
            assert!(error.to_string().contains("OpenOptions::assume_layout"), "{error}");
        }
        let described = |name| OpenOptions::new().expect_record::<Sample>().assume_layout(geometry(name));
        let cells = Cells::<Sample>::from_region(from.region("cells", described("cells")).unwrap()).unwrap();
        let none = LayoutCheck::Size(UncheckedReason::NoBtf);
        assert_eq!((cells.layout_check(), cells.access()), (none, Access::Mapped));
        assert_eq!(cells.snapshot(2).unwrap().version, 6);
        assert_eq!(cells.read(2).unwrap(), sample(6));
        let of_each = from.region("percpu_cells", described("percpu_cells")).unwrap();
        let of_each = PerCpuCells::<Sample>::from_region(of_each).unwrap();
        assert_eq!((of_each.layout_check(), of_each.read(cpus()[0], 1).unwrap()), (none, sample(6)));
        let counters = from.region("percpu_counters", described("percpu_counters")).unwrap();
        assert_eq!(Counters::from_region(counters).unwrap().sum(2).unwrap(), 6);

        let samples = from.array::<Sample>("samples").unwrap();
        assert_eq!((samples.layout_check(), samples.get(1).unwrap()), (none, sample(6)));
        let percpu = from.array::<Sample>("percpu_samples").unwrap();
        assert!(percpu.each(1).unwrap().contains(&sample(6)));

        // An impossible description.
        let other = Geometry::new(Kind::Cells, 16, 5, 1).unwrap();
        let error =
            from.region("cells", OpenOptions::new().assume_layout(other).write_preamble(true)).unwrap_err();
        assert!(error.to_string().contains("makes the number of entries "), "{error}");
        let message = "is a map of type percpu_array, expected array; its preamble or description says so";
        assert_error(from.region("percpu_cells", described("cells")), ErrorKind::WrongType, message);
        assert_error(from.array::<u32>("samples"), ErrorKind::Layout, "has records of 16 bytes (");
        assert_error(from.array::<u32>("samples"), ErrorKind::Layout, "but u32 has 4");
    }
    assert_eq!(
        Cells::<Sample>::from_region(
            OpenOptions::new()
                .assume_layout(geometry("cells"))
                .write_preamble(true)
                .open(pins.path("cells"))
                .unwrap()
        )
        .unwrap()
        .read(2)
        .unwrap(),
        sample(6)
    );
    // Now the preamble describes it.
    assert_eq!(Cells::<Sample>::open(pins.path("cells")).unwrap().read(2).unwrap(), sample(6));
}

/// aya creates maps of maps, but its user must insert the first map.
#[test]
fn rings_of_several_maps_loaded_by_aya() {
    require_bpf!();
    on_one_cpu();
    let mut aya = Aya::load(OBJECT);
    let error = initialize_map(aya.outer("placed")).unwrap_err();
    assert!(error.to_string().contains("nobody has put a map there"), "{error}");
    let [placed, moving] = ["placed", "moving"].map(|name| aya.put_first(name));

    [&placed, &moving].into_iter().for_each(|maps| initialize_map(maps).unwrap());
    let placed = Ring::<Sample>::open(placed).unwrap();
    assert!(
        placed
            .regions()
            .iter()
            .all(|of| (of.layout_check::<Sample>(), of.access()) == (LayoutCheck::Fields, Access::Mapped))
    );
    let moving = Ring::<Sample>::open(moving).unwrap();
    let (mut of_placed, mut of_moving) = (placed.reader(), moving.reader());
    aya.packets(5);
    moving.resize(256).unwrap();
    aya.packets(4);
    let expected: Vec<_> = (1..10).map(sample).collect();
    assert_eq!(of_placed.drain().map(|event| event.record).collect::<Vec<_>>(), expected);
    let moved: Vec<_> = std::iter::from_fn(|| of_moving.poll().map(|event| event.record)).collect();
    assert_eq!((moved, of_moving.rings()), (expected, 2));
}

#[test]
fn what_is_no_array() {
    require_bpf!();
    let nobody = "/sys/fs/bpf/nobody_was_here";
    assert_error(Array::<u64>::open(nobody), ErrorKind::Open, &format!("can't open {nobody}: "));
    let file = std::fs::File::open("/dev/null").unwrap();
    assert_error(Array::<u64>::open(file), ErrorKind::WrongType, " is not a BPF map");
    let opts = libbpf_rs::libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_rs::libbpf_sys::bpf_map_create_opts>() as u64,
        ..Default::default()
    };
    let hash = MapHandle::create(libbpf_rs::MapType::Hash, Some("hash"), 4, 8, 4, &opts).unwrap();
    let error = Array::<u64>::open(&hash).unwrap_err();
    assert!(error.to_string().contains("a map of type hash, expected array or percpu_array"), "{error}");
}
