//! `hostile-tests-faults SCENARIO` does the same thing three times. The second time runs between two calls of
//! getppid(2), so that a tracer can make one system call between them fail. It must return the same result or an error,
//! and leave nothing open; the third time must succeed. `--list` prints the names of the scenarios.

mod maps;
mod memfd;

use std::cell::RefCell;
use std::error::Error;
use std::fs;
use std::path::PathBuf;

use mapring_kernel_tests::PinDir;
use rustix::process::{Resource, Rlimit, getppid, getrlimit, setrlimit};

/// One try: its result, or its error.
type Act = Box<dyn FnOnce() -> Result<String, Box<dyn Error>>>;

/// A use of the library.
struct Scenario {
    name: &'static str,
    /// Prepares a try, by system calls that do not fail.
    prepare: fn() -> Act,
}

const fn scenario(name: &'static str, prepare: fn() -> Act) -> Scenario {
    Scenario { name, prepare }
}

thread_local! {
    /// The pins of the tries. They are removed between the tries, where no system call fails.
    static PINS: RefCell<Vec<PinDir>> = const { RefCell::new(Vec::new()) };
}

/// A path for a pin, until the try has ended.
fn pin_of_a_try() -> PathBuf {
    let dir = PinDir::new();
    let path = dir.path("pin");
    PINS.with_borrow_mut(|pins| pins.push(dir));
    path
}

fn all() -> impl Iterator<Item = &'static Scenario> {
    memfd::ALL.iter().chain(maps::ALL)
}

fn main() {
    let name = std::env::args().nth(1).expect("a scenario");
    if name == "--list" {
        all().for_each(|scenario| println!("{}", scenario.name));
        return;
    }
    // This ends an endless loop: CPU time does not depend on the load of the machine.
    let limit = Rlimit { current: Some(60), ..getrlimit(Resource::Cpu) };
    setrlimit(Resource::Cpu, limit).expect("a lower limit is always allowed");

    let scenario = all().find(|scenario| scenario.name == name).expect("one of --list");
    let (expected, left) = attempt(scenario, || {});
    let expected = expected.expect("no system call fails yet");
    let (faulted, left_then) = attempt(scenario, || _ = getppid());
    match &faulted {
        Ok(result) => assert_eq!(*result, expected, "a result that differs, and no error"),
        Err(e) => assert!(!e.to_string().is_empty(), "an error that says nothing: {e:?}"),
    }
    assert_eq!(left_then, left, "descriptors and mappings left behind, after {faulted:?}");
    assert_eq!(attempt(scenario, || {}).0.expect("no system call fails any more"), expected);
    println!("{}", faulted.map_or_else(|e| format!("error: {e}"), |_| "ok".to_owned()));
}

/// Runs one try. Returns its result, and how many more descriptors and mappings exist now.
fn attempt(scenario: &Scenario, mark: impl Fn()) -> (Result<String, Box<dyn Error>>, [isize; 2]) {
    let before = open_now();
    let act = (scenario.prepare)();
    mark();
    let came_of_it = act();
    mark();
    let now = open_now();
    PINS.take();
    (came_of_it, std::array::from_fn(|i| now[i].cast_signed() - before[i].cast_signed()))
}

/// The number of open descriptors, and the number of mapped maps and memfds.
fn open_now() -> [usize; 2] {
    let shared = |line: &&str| line.contains("bpf-map") || line.contains("memfd:");
    let maps = fs::read_to_string("/proc/self/maps").expect("procfs is mounted");
    [fs::read_dir("/proc/self/fd").expect("procfs is mounted").count(), maps.lines().filter(shared).count()]
}
