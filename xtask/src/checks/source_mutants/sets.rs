//! The sets of tests to run on mutants.

/// The sources that are compiled under loom.
const UNDER_LOOM: [&str; 3] = ["ring/core/src/protocol/", "ring/core/src/abi/", "ring/core/src/text.rs"];

pub(super) struct Tests {
    pub(super) name: &'static str,
    /// The paths of their sources in git: if these change, the mutants that they missed run again.
    pub(super) sources: &'static [&'static str],
    /// Arguments of `cargo test`.
    pub(super) args: &'static str,
    /// Arguments of the test programs that skip slow tests which detect little more.
    pub(super) less: &'static [&'static str],
    pub(super) flags: &'static str,
    /// A mutant that runs for this many seconds counts as endless.
    pub(super) timeout: u32,
}

/// All sets, the quick ones first.
pub(super) const TESTS: [Tests; 5] = [
    Tests {
        name: "unit",
        sources: &["HEAD:ring"],
        args: "--package=mapring --package=mapring-core --package=mapring-sys --package=mapring-loader --lib --test=memfd --test=protocol",
        less: &["--skip=scribbled_words_cost_records_and_nothing_else"],
        flags: "",
        timeout: 60,
    },
    Tests {
        name: "hostile",
        sources: &["HEAD:proofs/hostile", "HEAD:ring/tests"],
        args: "--package=mapring --package=mapring-hostile-tests --features=mapring-hostile-tests/bpf --test=memfd \
               --test=copies --test=threads --test=death --test=hostile",
        less: &[],
        flags: "",
        timeout: 300,
    },
    Tests {
        name: "loom",
        sources: &["HEAD:loom-tests"],
        args: "--package=mapring-loom-tests --release --tests",
        less: &["--skip=bpf_xchg"],
        flags: "--cfg loom",
        timeout: 900,
    },
    Tests {
        name: "faults",
        sources: &["HEAD:proofs/hostile"],
        args: "--package=mapring-hostile-tests --features=mapring-hostile-tests/bpf --test=faults",
        less: &[],
        flags: "",
        timeout: 600,
    },
    Tests {
        name: "kernel",
        sources: &["HEAD:proofs/kernel"],
        args: "--package=mapring-kernel-tests --release",
        less: &[],
        flags: "",
        timeout: 900,
    },
];

impl Tests {
    /// Whether these tests cover that file at all.
    pub(super) fn see(&self, file: &str) -> bool {
        self.name != "loom" || UNDER_LOOM.iter().any(|start| file.starts_with(start))
    }
}

#[cfg(test)]
mod tests {
    use super::TESTS;
    use crate::cmd;

    #[test]
    fn the_sources_of_tests_exist() {
        let sources = TESTS.iter().flat_map(|tests| tests.sources);
        cmd::output(cmd::line("git rev-parse").args(sources)).unwrap();
    }
}
