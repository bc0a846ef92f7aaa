//! Loads objects, runs their programs by hand, and accesses maps without the library.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libbpf_rs::libbpf_sys::{
    self, bpf_get_fd_by_id_opts, bpf_map_create_opts, bpf_prog_info, bpf_test_run_opts,
};
use libbpf_rs::{Map, MapCore, MapFlags, MapHandle, MapType, Object, ObjectBuilder, OpenObject, ProgramMut};
use mapring::ErrorKind;
use mapring::abi::{Geometry, Kind};
use mapring::cpus::possible_cpus;
use mapring_loader::initialize_object;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// A compiled object.
#[derive(Clone, Copy, Debug)]
pub struct Compiled {
    pub(crate) name: &'static str,
    pub(crate) bytes: &'static [u8],
}

impl Compiled {
    /// Opens the object, whose maps and programs can be changed then.
    ///
    /// # Panics
    /// Panics with libbpf's error.
    pub fn open(&self) -> OpenObject {
        let mut builder = ObjectBuilder::default();
        builder.name(self.name).unwrap();
        builder.open_memory(self.bytes).unwrap_or_else(|e| panic!("open {}: {e:#}", self.name))
    }

    /// Opens, prepares and loads the object, and initializes its maps for readers. If the object was not prepared, its maps
    /// are not initialized.
    ///
    /// # Panics
    /// Panics with the kernel's, libbpf's or the library's error.
    pub fn load(&self, prepare: impl FnOnce(&mut OpenObject)) -> Object {
        let object = self.load_only(prepare);
        match initialize_object(&object) {
            Err(e) if e.kind() != ErrorKind::NotFitted => panic!("initialize {}: {e}", self.name),
            _ => object,
        }
    }

    /// The same without initializing its maps for readers.
    ///
    /// # Panics
    /// Panics with the kernel's or libbpf's error.
    pub fn load_only(&self, prepare: impl FnOnce(&mut OpenObject)) -> Object {
        let mut open = self.open();
        prepare(&mut open);
        open.load().unwrap_or_else(|e| panic!("load {}: {e:#}", self.name))
    }
}

/// Prepares an object as users do: a shard for each CPU.
///
/// # Panics
/// Panics with the library's error.
pub fn fitted(object: &mut OpenObject) {
    // Use the guard on every machine, even if slow: programs without it are compiled separately.
    mapring_loader::Prepare::new().guard(true).object(object).unwrap_or_else(|e| panic!("fit: {e}"));
}

/// The same with the programs of `bpf/options.bpf.c` that tests run by hand. The others take long to verify.
///
/// # Panics
/// Panics with the library's error.
pub fn by_hand(object: &mut OpenObject) {
    let others = object.progs_mut().filter(|program| !program.name().to_string_lossy().starts_with("push_"));
    others.for_each(|mut program| program.set_autoload(false));
    fitted(object);
}

/// The same without programs, which not every kernel loads.
///
/// # Panics
/// Panics with the library's error.
pub fn fitted_alone(object: &mut OpenObject) {
    without_programs(object);
    fitted(object);
}

/// Leaves out the programs.
pub fn without_programs(object: &mut OpenObject) {
    object.progs_mut().for_each(|mut program| program.set_autoload(false));
}

/// Leaves an object as it is: one shard.
pub fn unfitted(_: &mut OpenObject) {}

/// The shape of a ring that was not prepared: one shard.
///
/// # Panics
/// Panics if no such ring can exist.
pub fn one_shard(record: u64, slots: u64) -> Geometry {
    Geometry::new(Kind::Ring, record, slots, 1).unwrap()
}

/// A map of a loaded object.
///
/// # Panics
/// Panics if no map has this name.
pub fn map<'a>(object: &'a Object, name: &str) -> Map<'a> {
    object.maps().find(|map| map.name() == name).unwrap_or_else(|| panic!("no map {name}"))
}

/// A program of a loaded object.
///
/// # Panics
/// Panics if no program has this name.
pub fn program<'a>(object: &'a Object, name: &str) -> ProgramMut<'a> {
    object.progs_mut().find(|program| program.name() == name).unwrap_or_else(|| panic!("no program {name}"))
}

/// What the programs of an object did on a CPU, as its map `did` says.
///
/// # Panics
/// Panics if there is no such map.
pub fn did<T: bytemuck::AnyBitPattern>(object: &Object, cpu: usize) -> T {
    let copies = map(object, "did").lookup_percpu(&0_u32.to_ne_bytes(), MapFlags::ANY).unwrap().unwrap();
    let at = possible_cpus().unwrap().binary_search(&cpu).unwrap();
    bytemuck::pod_read_unaligned(&copies[at])
}

/// A descriptor of its own.
///
/// # Panics
/// Panics with the kernel's error.
pub fn fd_of(map: &impl AsFd) -> OwnedFd {
    map.as_fd().try_clone_to_owned().unwrap()
}

/// A map without BTF.
///
/// # Panics
/// Panics with the kernel's error.
pub fn raw_map(ty: MapType, value: usize, entries: usize, map_flags: u32) -> MapHandle {
    let opts =
        bpf_map_create_opts { sz: size_of::<bpf_map_create_opts>() as u64, map_flags, ..Default::default() };
    let [value, entries] = [value, entries].map(|n| u32::try_from(n).unwrap());
    MapHandle::create(ty, Some("raw"), 4, value, entries, &opts).unwrap()
}

/// A read-only descriptor of a map, as from a pin of mode 0444.
///
/// # Panics
/// Panics with the kernel's error.
pub fn read_only(map: &impl MapCore) -> OwnedFd {
    let id = map.info().unwrap().info.id;
    let opts = bpf_get_fd_by_id_opts {
        sz: size_of::<bpf_get_fd_by_id_opts>() as u64,
        open_flags: libbpf_sys::BPF_F_RDONLY,
        ..Default::default()
    };
    // SAFETY: the options contain their own size.
    let fd = unsafe { libbpf_sys::bpf_map_get_fd_by_id_opts(id, &raw const opts) };
    assert!(fd >= 0, "map id {id}: {}", io::Error::from_raw_os_error(-fd));
    // SAFETY: a new descriptor that nothing else owns.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A program to be run by hand, from any thread.
#[derive(Debug)]
pub struct Runner(OwnedFd);

impl Runner {
    /// The program of this name in a loaded object.
    ///
    /// # Panics
    /// Panics if no program has this name.
    pub fn new(object: &Object, name: &str) -> Self {
        Self(program(object, name).as_fd().try_clone_to_owned().unwrap())
    }

    /// The number of instructions that the verifier processed to load the program; `None` before 5.16, which does not
    /// report it.
    ///
    /// # Panics
    /// Panics if the kernel reports nothing about the program.
    pub fn verified(&self) -> Option<u32> {
        let mut info = bpf_prog_info::default();
        let mut size = u32::try_from(size_of_val(&info)).unwrap();
        // SAFETY: `info` has the stated size, and requests no arrays.
        let ret =
            unsafe { libbpf_sys::bpf_prog_get_info_by_fd(self.0.as_raw_fd(), &raw mut info, &raw mut size) };
        assert!(ret == 0 && info.xlated_prog_len > 0, "program info: {ret}");
        (info.verified_insns > 0).then_some(info.verified_insns)
    }

    /// Runs the program once on this CPU, with `args` as its context, which it may change.
    ///
    /// # Panics
    /// Panics if the kernel does not run it.
    pub fn run<const N: usize>(&self, args: &mut [u64; N]) {
        self.run_for(args);
    }

    /// The same, and returns what the program returns.
    ///
    /// # Panics
    /// Panics if the kernel does not run it.
    pub fn run_for<const N: usize>(&self, args: &mut [u64; N]) -> u32 {
        let mut opts = bpf_test_run_opts {
            sz: size_of::<bpf_test_run_opts>() as u64,
            ctx_in: args.as_mut_ptr().cast(),
            ctx_size_in: u32::try_from(size_of_val(args)).unwrap(),
            ..Default::default()
        };
        // SAFETY: the context has the stated length, and a `syscall` program's context is written back to it.
        let ret = unsafe { libbpf_sys::bpf_prog_test_run_opts(self.0.as_raw_fd(), &raw mut opts) };
        assert_eq!(ret, 0, "test run: {}", io::Error::last_os_error());
        opts.retval
    }
}

impl Runner {
    /// Runs the program, of type XDP, `count` times on a packet, on this CPU.
    ///
    /// # Panics
    /// Panics if the kernel does not run it.
    pub fn packets(&self, count: i32) {
        send(self.0.as_fd(), &[0; 64], count);
    }
}

/// Runs an XDP program `times` times on a packet, on this CPU, and returns its last return value.
///
/// # Panics
/// Panics if the kernel does not run it.
pub fn send(program: BorrowedFd<'_>, packet: &[u8], times: i32) -> u32 {
    let mut opts = bpf_test_run_opts {
        sz: size_of::<bpf_test_run_opts>() as u64,
        data_in: packet.as_ptr().cast(),
        data_size_in: u32::try_from(packet.len()).unwrap(),
        repeat: times,
        ..Default::default()
    };
    // SAFETY: the packet has the stated length, and no output packet is requested.
    let ret = unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &raw mut opts) };
    assert_eq!(ret, 0, "test run: {}", io::Error::last_os_error());
    opts.retval
}

/// Writes a whole element by system call.
///
/// # Panics
/// Panics if the kernel refuses.
pub fn update(map: &impl MapCore, index: u32, words: &[u64]) {
    map.update(&index.to_ne_bytes(), bytemuck::cast_slice(words), MapFlags::ANY).unwrap();
}

/// Reads one word of an element by system call.
///
/// # Panics
/// Panics if the element or word does not exist.
pub fn word_at(map: &impl MapCore, index: u32, at: usize) -> u64 {
    let bytes = map.lookup(&index.to_ne_bytes(), MapFlags::ANY).unwrap().expect("arrays have all elements");
    u64::from_ne_bytes(bytes[at * 8..at * 8 + 8].try_into().unwrap())
}

/// Runs `test` in a thread where batch commands fail, as on kernels before 5.6.
///
/// # Panics
/// Panics if `test` does.
pub fn without_batches(test: impl FnOnce() + Send) {
    without_commands(&[libbpf_sys::BPF_MAP_LOOKUP_BATCH, libbpf_sys::BPF_MAP_UPDATE_BATCH], test);
}

/// Runs `test` in a thread where a seccomp filter makes these commands of bpf(2) fail with EINVAL, as if the kernel did
/// not know them.
///
/// # Panics
/// Panics if `test` does.
pub fn without_commands(commands: &[u32], test: impl FnOnce() + Send) {
    failing_commands(commands, libc::EINVAL, test);
}

/// Runs `test` in a thread for which these commands of bpf(2) fail with `errno`.
///
/// # Panics
/// Panics if `test` does.
pub fn failing_commands(commands: &[u32], errno: i32, test: impl FnOnce() + Send) {
    let rule = |command: &u32| {
        let is = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, u64::from(*command));
        SeccompRule::new(vec![is.unwrap()]).unwrap()
    };
    refusing_bpf(commands.iter().map(rule).collect(), errno, test);
}

/// Runs `test` in a thread that may not call bpf(2) at all (EPERM), like processes without privilege before Linux 5.19.
///
/// # Panics
/// Panics if `test` does.
pub fn without_bpf(test: impl FnOnce() + Send) {
    refusing_bpf(Vec::new(), libc::EPERM, test);
}

/// Runs `test` in a thread where a seccomp filter makes these calls of bpf(2) fail with `errno`; without rules, all
/// calls.
fn refusing_bpf(calls: Vec<SeccompRule>, errno: i32, test: impl FnOnce() + Send) {
    let filter = SeccompFilter::new(
        [(libc::SYS_bpf, calls)].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(errno.unsigned_abs()),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let filter = BpfProgram::try_from(filter.unwrap()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            seccompiler::apply_filter(&filter).unwrap();
            test();
        });
    });
}
