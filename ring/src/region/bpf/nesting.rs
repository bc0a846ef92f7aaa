//! Whether an object's programs can only nest, so that its rings may use [`Claim::Nested`]: what
//! is known of program types, of where they are attached, and of the kernel.

use std::fmt;
use std::fs;

use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::Func;
use libbpf_rs::{OpenObject, OpenProgram, ProgramType};

use crate::layout::Claim;

/// Why a ring's producers claim slots as they do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Grounds {
    /// Nested: every program of the object runs where no other task can preempt it (XDP, TC, perf
    /// events), and the kernel is none of real time.
    OnlyNest,
    /// Atomic: the caller asked for it.
    Asked,
    /// Atomic: this program may be preempted, or nothing is known of where it runs.
    Preemptible {
        /// The program.
        program: String,
        /// Its section: what kind it is, where it is attached.
        section: String,
    },
    /// Atomic: this kernel function may run the object's code in a task of its own.
    Deferred {
        /// The function.
        function: String,
    },
    /// Atomic: no program of the object is to be loaded, so that others must be the producers.
    NoPrograms,
    /// Atomic: the kernel is one of real time (PREEMPT_RT), where interrupts are tasks.
    RealTime,
    /// Atomic: the object was not compiled for x86 (`-D__TARGET_ARCH_x86`), which alone keeps
    /// stores in order, or by headers older than nested claims.
    NotX86,
    /// Atomic: the ring can be replaced by another, and who claims a slot must see that.
    Resizable,
    /// Atomic: the ring has fewer than [`NESTED_MIN`](crate::layout::Geometry::NESTED_MIN) slots.
    TooSmall,
}

impl Grounds {
    /// What it is a reason for.
    pub fn claim(&self) -> Claim {
        match self {
            Self::OnlyNest => Claim::Nested,
            _ => Claim::Atomic,
        }
    }
}

impl fmt::Display for Grounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnlyNest => f.write_str("no program of the object can be preempted by another"),
            Self::Asked => f.write_str("as asked"),
            Self::Preemptible { program, section } => {
                write!(f, "program {program} ({section}) may be preempted")
            }
            Self::Deferred { function } => write!(f, "{function} may run code in a task of its own"),
            Self::NoPrograms => f.write_str("the object loads no program: others write its rings"),
            Self::RealTime => f.write_str("a PREEMPT_RT kernel, where interrupts are tasks"),
            Self::NotX86 => f.write_str("not compiled for x86 (-D__TARGET_ARCH_x86) by current headers"),
            Self::Resizable => f.write_str("the ring can be resized"),
            Self::TooSmall => f.write_str("too few slots"),
        }
    }
}

/// What speaks against nested claims in `object`, or that nothing does.
pub(super) fn grounds(object: &OpenObject, btf: &Btf<'_>) -> Grounds {
    if !cfg!(target_arch = "x86_64") {
        return Grounds::NotX86;
    }
    if real_time() {
        return Grounds::RealTime;
    }
    if let Some(function) = deferring(btf) {
        return Grounds::Deferred { function };
    }
    let mut programs = object.progs().filter(OpenProgram::autoload).peekable();
    if programs.peek().is_none() {
        return Grounds::NoPrograms;
    }
    let text = |name: &std::ffi::OsStr| name.to_string_lossy().into_owned();
    programs.find(|program| !only_nests(program)).map_or(Grounds::OnlyNest, |program| Grounds::Preemptible {
        program: text(program.name()),
        section: text(program.section()),
    })
}

/// Whether a program always runs with preemption, bottom halves or interrupts off. What it is
/// attached to counts only where that is fixed when it is loaded.
fn only_nests(program: &OpenProgram<'_>) -> bool {
    match program.prog_type() {
        // Their helpers keep state per CPU (`bpf_redirect_info`), for which the kernel turns
        // bottom halves off, in BPF_PROG_TEST_RUN (`bpf_test_run`), too.
        ProgramType::Xdp | ProgramType::SchedCls => true,
        // Interrupts, and `perf_swevent` with preemption off (`bpf_overflow_handler`).
        ProgramType::PerfEvent => true,
        // Not `tp_btf/sched_switch`, though `__schedule` has interrupts off: libbpf does not say where
        // `set_attach_target` moved a program, and the section stays.
        _ => false,
    }
}

/// A function that the object uses to have its code called by another task: work queues, task work.
fn deferring(btf: &Btf<'_>) -> Option<String> {
    let defers = |name: &str| name.starts_with("bpf_wq_") || name.starts_with("bpf_task_work_");
    (1..u32::try_from(btf.len()).ok()?).find_map(|id| {
        let function: Func<'_> = btf.type_by_id(id.into())?;
        function.name()?.to_str().filter(|name| defers(name)).map(str::to_owned)
    })
}

/// Whether this is a PREEMPT_RT kernel, or can't be told.
fn real_time() -> bool {
    let version = rustix::system::uname();
    let version = version.version().to_string_lossy();
    let says = version.contains("PREEMPT_RT") || version.contains("PREEMPT RT");
    says || version.is_empty() || fs::read_to_string("/sys/kernel/realtime").is_ok_and(|it| it.trim() != "0")
}
