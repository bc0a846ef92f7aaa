//! Maps of a real program, exported by their types; and what a scrape costs.

use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::time::Duration;

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapHandle, MapType, ProgramInput};
use mapring::Counters;
use rustix::time::{ClockId, clock_gettime};

use super::nobody::as_nobody;
use super::{Dir, Running, get, mapring, scrape, until, value};

#[allow(clippy::all, missing_docs, unreachable_pub, dead_code, unsafe_op_in_unsafe_fn)]
#[allow(clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block, unsafe_code)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/regions.skel.rs"));
}

/// The loaded program, with pins in a directory of its own.
struct Loaded {
    skel: skel::RegionsSkel<'static>,
    dir: PathBuf,
}

impl Loaded {
    /// `None`, after a loud message, if BPF is refused here.
    fn new(name: &str) -> Option<Self> {
        let dir = PathBuf::from(format!("/sys/fs/bpf/mapring-export-{}-{name}", std::process::id()));
        let made = fs::create_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()));
        match made.and_then(|()| Self::load().map_err(|e| format!("{e:#}"))) {
            Ok(skel) => {
                let mut new = Self { skel, dir };
                new.pin().unwrap();
                Some(new)
            }
            Err(why) => {
                let _ = fs::remove_dir_all(&dir);
                super::servers::skipped(&why)
            }
        }
    }

    fn load() -> anyhow::Result<skel::RegionsSkel<'static>> {
        let storage = Box::leak(Box::new(MaybeUninit::uninit()));
        let mut open = skel::RegionsSkelBuilder::default().open(storage)?;
        mapring::loader::prepare(&mut open)?;
        let skel = open.load()?;
        mapring::loader::initialize(&skel)?;
        Ok(skel)
    }

    fn pin(&mut self) -> anyhow::Result<()> {
        let maps = &mut self.skel.maps;
        for map in [
            &mut maps.t_events,
            &mut maps.t_sized,
            &mut maps.t_nodes,
            &mut maps.t_loads,
            &mut maps.t_calls,
            &mut maps.t_waits,
            &mut maps.t_depths,
            &mut maps.t_keys,
            &mut maps.t_settings,
            &mut maps.t_each,
            &mut maps.data,
            &mut maps.bss,
        ] {
            let name = map.name().to_string_lossy().replace('.', "_");
            map.pin(self.dir.join(name))?;
        }
        Ok(())
    }

    fn fill(&self, count: u64) {
        for program in [&self.skel.progs.fill, &self.skel.progs.fill_others] {
            let mut input = count.to_ne_bytes();
            let input = ProgramInput { context_in: Some(&mut input), ..ProgramInput::default() };
            program.test_run(input).unwrap();
        }
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn every_kind_is_exported_by_its_types() {
    let Some(loaded) = Loaded::new("kinds") else { return };
    loaded.fill(10);
    let names = [
        "t_events",
        "t_sized",
        "t_nodes",
        "t_loads",
        "t_calls",
        "t_waits",
        "t_depths",
        "t_keys",
        "t_settings",
        "t_each",
        "data",
        "bss",
    ];
    let files: Vec<_> = fs::read_dir(&loaded.dir).unwrap().map(|file| file.unwrap().file_name()).collect();
    let find = |name: &str| files.iter().find(|file| file.to_string_lossy().ends_with(name)).unwrap();
    let paths: Vec<_> = names.iter().map(|name| loaded.path(find(name).to_str().unwrap())).collect();
    let mut args = vec!["export", "prometheus", "--once"];
    args.extend(paths.iter().map(String::as_str));
    let output = mapring(&args);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    for (map, series, more, expected) in [
        ("t_calls", "mapring_t_calls_total", ",index=\"9\"", 10.0),
        ("t_calls", "mapring_t_calls_total", ",index=\"999\"", 0.0),
        ("t_waits", "mapring_t_waits_count", "", 10.0),
        ("t_waits", "mapring_t_waits_bucket", ",le=\"15\"", 4.0),
        ("t_depths", "mapring_t_depths_max", ",index=\"1\"", 17.0),
        ("t_loads", "mapring_t_loads_number", ",index=\"3\"", 42.0),
        ("t_loads", "mapring_t_loads_at_x", ",index=\"3\"", -1.0),
        ("t_settings", "mapring_t_settings_number", ",index=\"1\"", 5.0),
        ("t_keys", "mapring_t_keys_total", ",key=\"0\"", 40.0),
        ("t_events", "mapring_dropped_total", ",cause=\"no_slot\"", 0.0),
        ("t_sized", "mapring_up", "", 1.0),
        ("t_each", "mapring_up", "", 1.0),
    ] {
        let at = names.iter().position(|name| *name == map).unwrap();
        let series = format!("{series}{{region=\"{}\"{more}}}", paths[at]);
        assert_eq!(value(&text, &series), Some(expected), "{series}\n{text}");
    }
    let sum = |prefix: &str| -> f64 {
        let of = text.lines().filter(|line| line.starts_with(prefix) && !line.starts_with('#'));
        of.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    };
    // How libbpf names these maps differs between kernels.
    for (suffix, expected) in [("data_t_place_y{", -4.0), ("bss_t_total{", 10.0)] {
        let line = text.lines().find(|line| !line.starts_with('#') && line.contains(suffix)).unwrap();
        assert_eq!(line.rsplit(' ').next().unwrap().parse(), Ok(expected), "{line}");
    }
    for (ring, records) in [("t_events", 10.0), ("t_sized", 1.0), ("t_nodes", 1.0)] {
        assert_eq!(sum(&format!("mapring_{ring}_records_total{{")), records, "{text}");
    }
    // Each CPU has its own values.
    assert_eq!((sum("mapring_t_each_x{"), sum("mapring_t_each_y{")), (1.0, -2.0), "{text}");
    assert!(text.contains(",index=\"1\",cpu=\"0\"}"), "{text}");

    let dir = Dir::new();
    let metric = |field: &str| {
        let region = &paths[3];
        format!(
            "[[metric]]\nregion = {region:?}\nname = \"load\"\nfield = \"{field}\"\nscale = 0.5\nentries = {{ 3 = \"a\" }}"
        )
    };
    let good = mapring(&["export", "prometheus", "--once", "--config", &dir.file("c", &metric("number"))]);
    let text = String::from_utf8(good.stdout).unwrap();
    assert!(text.contains(&format!("load{{region=\"{}\",index=\"a\"}} 21\n", paths[3])), "{text}");
    let bad = mapring(&["export", "prometheus", "--once", "--config", &dir.file("c", &metric("x"))]);
    assert!(String::from_utf8(bad.stderr).unwrap().contains("number, at.x, at.y"));
}

#[test]
fn all_regions_are_exported_and_a_new_loader_is_followed() {
    let Some(mut loaded) = Loaded::new("all") else { return };
    loaded.fill(5);
    let mut exporter = Running::mapring(&["export", "prometheus", "--listen", "127.0.0.1:0"]);
    let address = exporter.address();
    let calls = loaded.path("t_calls");
    let series = format!("mapring_t_calls_total{{region=\"{calls}\",index=\"4\"}}");
    let sized = format!("mapring_up{{region=\"{}\"}}", loaded.path("t_sized"));
    let text = scrape(&address);
    assert_eq!((value(&text, &series), value(&text, &sized)), (Some(5.0), Some(1.0)), "{text}");
    // Arrays and global data are exported only by name.
    assert!(!text.contains("mapring_t_settings") && !text.contains("t_place"), "{text}");
    // Another loader replaces the map.
    let old = std::mem::replace(&mut loaded.skel, Loaded::load().unwrap());
    fs::remove_file(&calls).unwrap();
    loaded.skel.maps.t_calls.pin(&calls).unwrap();
    loaded.fill(10);
    loaded.fill(10);
    until("the new counters", || (value(&scrape(&address), &series) == Some(10.0)).then_some(()));
    drop(old);
    assert_eq!(exporter.interrupt(), Some(0));
}

#[test]
fn nobody_exports_what_is_readable_and_is_told_what_is_not() {
    let Some(loaded) = Loaded::new("nobody") else { return };
    loaded.fill(5);
    let denied = as_nobody(&["export", "prometheus", "--once", &loaded.path("t_calls")]);
    let said = String::from_utf8(denied.stderr).unwrap();
    assert!(denied.status.code() == Some(77) && said.contains(&loaded.path("t_calls")), "{said}");
    let denied = as_nobody(&["export", "nats", "--stream", "s", "--subject", "r", &loaded.path("t_events")]);
    assert_eq!(denied.status.code(), Some(77));
    let all = as_nobody(&["export", "prometheus", "--once"]);
    let said = String::from_utf8(all.stderr).unwrap();
    assert!(all.status.success() && !said.is_empty(), "it says what is hidden");
}

/// The CPU time of a call by this thread, in nanoseconds: the smallest of several means.
fn cost(mut f: impl FnMut()) -> u64 {
    let now = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
    let mean = |f: &mut dyn FnMut()| {
        let before = now();
        (0..500).for_each(|_| f());
        u64::try_from((now() - before).as_nanos()).unwrap() / 500
    };
    (0..20).map(|_| mean(&mut f)).min().unwrap()
}

/// Prints what a scrape of 1,000 counters of each CPU costs. Run it in release:
/// `cargo test --release -p mapring-cli --features bpf --test export -- --ignored --nocapture cost`
#[test]
#[ignore = "a measurement, not a test"]
fn cost_of_a_scrape() {
    const COUNTERS: u32 = 1000;
    let loaded = Loaded::new("cost").expect("BPF");
    loaded.fill(100);
    let counters = Counters::open(loaded.path("t_calls").as_str()).unwrap();
    assert!(counters.access() == mapring::Access::Mapped && counters.len() == COUNTERS as usize);
    let mut sums = vec![0; COUNTERS as usize];
    let mapped = cost(|| counters.sums(&mut sums).unwrap());
    let expected = sums.clone();

    // The same numbers in a per-CPU array, as exporters usually read them.
    let options = libbpf_rs::libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_rs::libbpf_sys::bpf_map_create_opts>() as u64,
        ..Default::default()
    };
    let map = MapHandle::create(MapType::PercpuArray, Some("peer"), 4, 8, COUNTERS, &options).unwrap();
    let cpus = libbpf_rs::num_possible_cpus().unwrap();
    for (index, sum) in (0..COUNTERS).zip(&expected) {
        let mut values = vec![vec![0; 8]; cpus];
        values[0] = sum.to_ne_bytes().to_vec();
        map.update_percpu(&index.to_ne_bytes(), &values, libbpf_rs::MapFlags::ANY).unwrap();
    }
    let (mut keys, mut values) = (vec![0_u32; COUNTERS as usize], vec![0_u64; COUNTERS as usize * cpus]);
    let by_batch = cost(|| {
        let (mut next, mut count) = (0_u64, COUNTERS);
        #[allow(unsafe_code)]
        // SAFETY: the buffers have room for `count` keys of 4 bytes, and for as many values of 8 bytes for each CPU.
        let done = unsafe {
            libbpf_rs::libbpf_sys::bpf_map_lookup_batch(
                map.as_fd().as_raw_fd(),
                std::ptr::null_mut(),
                (&raw mut next).cast(),
                keys.as_mut_ptr().cast(),
                values.as_mut_ptr().cast(),
                &raw mut count,
                std::ptr::null(),
            )
        };
        assert!(
            (done == 0 || done == -rustix::io::Errno::NOENT.raw_os_error()) && count == COUNTERS,
            "{done} {count}"
        );
        for (sum, of_cpus) in sums.iter_mut().zip(values.chunks(cpus)) {
            *sum = of_cpus.iter().fold(0, |sum: u64, value| sum.wrapping_add(*value));
        }
    });
    assert_eq!(sums, expected);

    let mut exporter =
        Running::mapring(&["export", "prometheus", "--listen", "127.0.0.1:0", &loaded.path("t_calls")]);
    let address = exporter.address();
    let pid = exporter.child.id();
    let used = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().map(str::to_owned).collect();
        // Ticks of 10 ms, in user and in kernel mode.
        [11, 12].map(|at| fields[at].parse::<u64>().unwrap() * 10_000_000)
    };
    let scrapes = 5000;
    let before = used();
    let mut size = 0;
    for _ in 0..scrapes {
        size = get(&address, "/metrics", "").unwrap().2.len();
    }
    let [user, kernel] = [0, 1].map(|at| (used()[at] - before[at]) / scrapes);
    println!("{COUNTERS} counters of {cpus} CPUs, CPU time:");
    println!("  mapped, read and summed:           {mapped:>8} ns");
    println!("  BPF_MAP_LOOKUP_BATCH, and summed:  {by_batch:>8} ns: {} times", by_batch / mapped.max(1));
    println!("  a whole scrape of {size} bytes over HTTP: {user} ns in user, {kernel} ns in kernel mode");
    assert_eq!(exporter.interrupt(), Some(0));
}
