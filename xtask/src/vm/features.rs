//! Kernel features that mapring or its tests use, in the order of their releases, and how to probe each.

use super::probe::{self, ARRAY, Found, PERCPU_ARRAY, RAW_TRACEPOINT, insn};
use super::protocol::{Answer, Probed};

/// A feature that some kernels lack.
pub(super) struct Feature {
    pub(super) name: &'static str,
    /// The first release with the feature.
    pub(super) since: Version,
    /// Its use.
    pub(super) used: &'static str,
    /// The behaviour without it.
    pub(super) without: &'static str,
    /// Whether this message of the kernel or the loader is the refusal of something that needs the feature.
    refused: fn(&str) -> bool,
    probe: fn() -> Found,
}

/// Major and minor number of a kernel's release.
pub(super) type Version = (u32, u32);

const STACK: u32 = 10;
const MOV: u8 = 0xb7;
const STORE: u8 = 0x7a;
const ATOMIC: u8 = 0xdb;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

/// All features, the oldest first.
pub(super) const FEATURES: [Feature; 15] = [
    Feature {
        name: "arrays that can be mapped (`BPF_F_MMAPABLE`)",
        since: (5, 5),
        used: "reading without a system call",
        without: "everything is read by system call",
        refused: |_| false,
        probe: || probe::map(ARRAY, 8, probe::MMAPABLE).and_then(|map| probe::can_be_mapped(&map)),
    },
    Feature {
        name: "batched lookup in an `ARRAY`",
        since: (5, 6),
        used: "fewer system calls where mapping is refused",
        without: "one lookup for each element",
        refused: |_| false,
        probe: || probe::map(ARRAY, 8, 0).and_then(|map| probe::batch(&map)),
    },
    Feature {
        name: "inner maps of other sizes (`BPF_F_INNER_MAP`)",
        since: (5, 10),
        used: "replacing a ring by a larger one",
        without: "no resizable rings",
        refused: |_| false,
        probe: || probe::map(ARRAY, 8, probe::INNER_MAP).map(drop),
    },
    Feature {
        name: "maps not limited by `RLIMIT_MEMLOCK`",
        since: (5, 11),
        used: "loading",
        without: "libbpf raises the limit, which needs CAP_SYS_RESOURCE",
        refused: |_| false,
        probe: probe::map_without_memlock,
    },
    Feature {
        name: "fetching atomics",
        since: (5, 12),
        used: "programs that write rings and cells",
        without: "`mapring_loader::prepare` refuses them, and says what to do; single writers on x86-64, counters, \
                  latches, readers and writers in userspace work (see below)",
        refused: |output| {
            let words = [
                "BPF_STX uses reserved fields",
                "claims by fetching atomics",
                "NoFetchingAtomics",
                "the flight recorder needs Linux 5.15",
            ];
            words.iter().any(|words| output.contains(words))
        },
        probe: || atomic(STACK, 1, FETCH_ADD).and_then(|()| atomic(STACK, 1, COMPARE_EXCHANGE)),
    },
    Feature {
        name: "batched lookup in a `PERCPU_ARRAY`",
        since: (5, 13),
        used: "fewer system calls",
        without: "one lookup for each element",
        refused: |_| false,
        probe: || probe::map(PERCPU_ARRAY, 8, 0).and_then(|map| probe::batch(&map)),
    },
    Feature {
        name: "`bpf_for_each_map_elem`",
        since: (5, 13),
        used: "programs that walk their own arrays",
        without: "a bounded loop of lookups",
        refused: |output| output.contains("#164"),
        probe: || helper(164),
    },
    Feature {
        name: "programs run by hand (`SEC(\"syscall\")`)",
        since: (5, 14),
        used: "most tests on a real kernel",
        without: "such tests cannot run",
        // The type is unknown, so the kernel fails before the verifier reports anything.
        refused: |output| output.contains("failed to load: -EINVAL") && !output.contains("PROG LOAD LOG"),
        probe: probe::run_by_hand,
    },
    Feature {
        name: "`bpf_loop`",
        since: (5, 17),
        used: "programs that publish in long loops",
        without: "a bounded loop",
        // Before 5.13 a function can't be passed to a helper: the verifier rejects this before it checks the helper's
        // number.
        refused: |output| {
            output.contains("#181") || output.contains("number of funcs in func_info doesn't match")
        },
        probe: || helper(181),
    },
    Feature {
        name: "`bpf_map_lookup_percpu_elem`",
        since: (5, 19),
        used: "programs that read other CPUs' values",
        without: "an `ARRAY` with an element for each CPU",
        refused: |output| output.contains("#195"),
        probe: || helper(195),
    },
    Feature {
        name: "readers without privilege",
        since: (5, 19),
        used: "pins that processes without CAP_BPF open",
        without: "bpf(2) is refused to them as a whole: hand the file descriptor over (SCM_RIGHTS or inheritance), \
                  which they map without bpf(2)",
        refused: |output| {
            let places = ["can't open", "Error: Operation not permitted", "Error: bpf("];
            output.contains("Operation not permitted") && places.iter().any(|place| output.contains(place))
        },
        probe: probe::open_pin_without_privilege,
    },
    Feature {
        name: "events of contended locks",
        since: (5, 19),
        used: "the group `locks` of `mapring flight`",
        without: "`mapring flight start` says so, and records the other groups",
        refused: |output| output.contains("group locks needs Linux 5.19"),
        probe: || probe::tracepoint("contention_end"),
    },
    Feature {
        name: "values of 64 MiB",
        since: (6, 0),
        used: "large records",
        without: "a record has at most about 4 MiB (E2BIG)",
        refused: |output| output.contains("failed to create: -E2BIG"),
        probe: || probe::map(ARRAY, 64 << 20, probe::MMAPABLE).map(drop),
    },
    Feature {
        name: "load-acquire and store-release",
        since: (6, 15),
        used: "publishing on other than x86-64, where clang knows them",
        without: "an exchange, which is a full barrier",
        refused: |output| output.contains("invalid atomic opcode"),
        probe: || atomic(STACK, 1, STORE_RELEASE).and_then(|()| atomic(2, STACK, LOAD_ACQUIRE)),
    },
    Feature {
        name: "lookup of one CPU's value (`BPF_F_CPU`)",
        since: (7, 0),
        used: "reading one CPU of a `PERCPU_ARRAY`",
        without: "all CPUs' values are copied",
        refused: |_| false,
        probe: || probe::map(PERCPU_ARRAY, 8, 0).and_then(|map| probe::lookup_of_one_cpu(&map)),
    },
];

const FETCH_ADD: i32 = 0x01;
const COMPARE_EXCHANGE: i32 = 0xf1;
const LOAD_ACQUIRE: i32 = 0x100;
const STORE_RELEASE: i32 = 0x110;

/// Whether the kernel accepts a program with this instruction on a word of its stack.
fn atomic(to: u32, from: u32, operation: i32) -> Found {
    const WORD: i16 = -8;
    probe::load(
        RAW_TRACEPOINT,
        &[
            insn(STORE, STACK, 0, WORD, 0),
            insn(MOV, 0, 0, 0, 0),
            insn(MOV, 1, 0, 0, 1),
            insn(ATOMIC, to, from, WORD, operation),
            insn(MOV, 0, 0, 0, 0),
            insn(EXIT, 0, 0, 0, 0),
        ],
    )
    .map(drop)
}

/// Whether programs may call this helper: a call without arguments is refused for its arguments, not for its number.
fn helper(number: i32) -> Found {
    let program = [insn(CALL, 0, 0, 0, number), insn(MOV, 0, 0, 0, 0), insn(EXIT, 0, 0, 0, 0)];
    match probe::load(RAW_TRACEPOINT, &program) {
        Err(Answer::Unsupported(words)) if !words.contains(&format!("#{number}")) => Ok(()),
        other => other.map(drop),
    }
}

/// Probes the running kernel for each feature.
pub(super) fn probe_all() -> Vec<Probed> {
    let ask = |feature: &Feature| Probed {
        feature: feature.name.to_owned(),
        answer: (feature.probe)().map_or_else(|answer| answer, |()| Answer::Supported),
    };
    FEATURES.iter().map(ask).collect()
}

/// The version in the output of `uname -r`.
pub(super) fn version(release: &str) -> Option<Version> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// The feature that a kernel lacks and whose refusal a failed test printed.
pub(super) fn lacking(probed: &[Probed], output: &str) -> Option<&'static Feature> {
    let lacks = |feature: &Feature, probed: &Probed| {
        probed.feature == feature.name && matches!(probed.answer, Answer::Unsupported(_))
    };
    FEATURES
        .iter()
        .find(|feature| probed.iter().any(|probed| lacks(feature, probed)) && (feature.refused)(output))
}

/// The features where the kernel's answer differs from the expectation for its release.
pub(super) fn surprises(release: &str, probed: &[Probed]) -> Vec<&'static str> {
    let Some(version) = version(release) else { return Vec::new() };
    let differs = |(feature, probed): (&'static Feature, &Probed)| {
        let expected = match probed.answer {
            Answer::Supported => version >= feature.since,
            Answer::Unsupported(_) => version < feature.since,
            Answer::CouldNotTell(_) => false,
        };
        (!expected).then_some(feature.name)
    };
    FEATURES.iter().zip(probed).filter_map(differs).collect()
}

/// `cargo xtask features`: probes the running kernel, and prints the behaviour without each missing feature, or why a
/// probe has no result.
pub(crate) fn show() {
    let machine = rustix::system::uname();
    print!("Linux {}\n\n{}", machine.release().to_string_lossy(), table(&probe_all()));
}

fn table(probed: &[Probed]) -> String {
    let mut text = String::new();
    for (Feature { since: (major, minor), name, without, .. }, Probed { answer, .. }) in
        FEATURES.iter().zip(probed)
    {
        let (here, more) = match answer {
            Answer::Supported => ("yes", String::new()),
            Answer::Unsupported(words) => ("no", format!("without it: {without}\nsaid: {words}")),
            Answer::CouldNotTell(words) => ("?", format!("can't tell: {words}")),
        };
        text += &format!("{here:4} {:5} {name}\n", format!("{major}.{minor}"));
        text.extend(more.lines().map(|line| format!("           {line}\n")));
    }
    if probed.iter().any(|probed| matches!(probed.answer, Answer::CouldNotTell(_))) {
        text += "\n?: asking takes CAP_BPF and CAP_PERFMON (and CAP_SYS_ADMIN for some); as root, all is answered that can be.\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(version("6.12.107+deb13-cloud-amd64"), Some((6, 12)));
        assert_eq!(version("5.10.0-32-rt-amd64"), Some((5, 10)));
        assert_eq!(version("7.2-rc1"), Some((7, 2)));
        assert_eq!(version("Linux"), None);
    }

    fn probed(answer: impl Fn(&Feature) -> Answer) -> Vec<Probed> {
        let probed = |feature: &Feature| Probed { feature: feature.name.to_owned(), answer: answer(feature) };
        FEATURES.iter().map(probed).collect()
    }

    #[test]
    fn a_refusal_is_a_missing_feature_only_where_the_probe_says_so() {
        let log = |output: &str| format!("-- BEGIN PROG LOAD LOG --\n{output}\nprocessed 0 insns");
        let output = &log("BPF_STX uses reserved fields");
        let no = probed(|_| Answer::Unsupported("no".into()));
        assert_eq!(lacking(&no, output).unwrap().name, "fetching atomics");
        assert!(lacking(&no, "assertion failed").is_none());
        assert!(lacking(&probed(|_| Answer::Supported), output).is_none());
        let unknown_type = "prog 'x': failed to load: -EINVAL";
        let callback = &log("number of funcs in func_info doesn't match number of subprogs");
        assert_eq!(lacking(&no, callback).unwrap().name, "`bpf_loop`");
        assert!(lacking(&no, unknown_type).unwrap().name.starts_with("programs run by hand"));
        assert!(lacking(&no, &log(unknown_type)).is_none());
    }

    #[test]
    fn answers_are_compared_with_the_release() {
        let since = |feature: &Feature| feature.since <= (6, 1);
        let answers = |feature: &Feature| {
            if since(feature) { Answer::Supported } else { Answer::Unsupported("".into()) }
        };
        assert!(surprises("6.1.0-50", &probed(answers)).is_empty());
        assert_eq!(surprises("5.19.0", &probed(answers)), ["values of 64 MiB"]);
        let unsure = probed(|_| Answer::CouldNotTell("EPERM".into()));
        assert_eq!(surprises("6.1.0-50", &unsure).len(), FEATURES.len());
    }

    #[test]
    fn the_oldest_come_first() {
        assert!(FEATURES.is_sorted_by_key(|feature| feature.since));
    }

    #[test]
    fn the_three_answers() {
        let answers = [
            Answer::Supported,
            Answer::Unsupported("EINVAL".into()),
            Answer::CouldNotTell("Operation not permitted".into()),
        ];
        let probed = |(feature, answer): (&Feature, Answer)| Probed { feature: feature.name.into(), answer };
        let text = table(&FEATURES.iter().zip(answers).map(probed).collect::<Vec<_>>());
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("yes  5.5   arrays that can be mapped"), "{text}");
        assert!(
            lines[1].starts_with("no   5.6   batched") && lines[2].contains("without it: one lookup"),
            "{text}"
        );
        assert!(lines[4].starts_with("?    5.10") && lines[5].ends_with("Operation not permitted"), "{text}");
        assert!(text.ends_with("all is answered that can be.\n"), "{text}");
        assert!(!table(&[]).contains("CAP_BPF"));
    }
}
