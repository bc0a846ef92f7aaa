//! The machine of the measurements.

use std::fs;
use std::process::Command;

use rustix::process::getpriority_process;
use serde_json::{Value, json};

/// The machine and the kernel.
#[derive(Clone, Debug)]
pub struct Machine {
    cpu: String,
    cpus: usize,
    kernel: String,
    hypervisor: bool,
    pinned: usize,
    load: f64,
    details: Vec<(&'static str, String)>,
}

impl Machine {
    /// This machine, with the measuring thread pinned to CPU `pinned`.
    pub fn here(pinned: usize) -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        let field = |name| cpuinfo.lines().find_map(|line| line.strip_prefix(name)?.split_once(':'));
        let text = |name| field(name).map_or_else(String::new, |(_, value)| value.trim().to_owned());
        let cpu = text("model name");
        Self {
            cpu: if cpu.is_empty() { std::env::consts::ARCH.to_owned() } else { cpu },
            cpus: libbpf_rs::num_possible_cpus().unwrap_or(1),
            kernel: read("/proc/sys/kernel/osrelease"),
            hypervisor: text("flags").split(' ').any(|flag| flag == "hypervisor"),
            pinned,
            load: read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0),
            details: details(),
        }
    }

    /// A description in one sentence.
    pub fn describe(&self) -> String {
        let Self { cpu, cpus, kernel, hypervisor, pinned, .. } = self;
        let virtual_ = if *hypervisor { ", a virtual machine" } else { "" };
        format!("{cpu}, {cpus} CPUs{virtual_}, Linux {kernel}; the thread that measures on CPU {pinned}")
    }

    /// A warning if other programs were using the machine at the start.
    pub fn busy(&self) -> Option<String> {
        let Self { load, cpus, .. } = self;
        // Building the benchmarks causes half of this load, for a minute.
        (*load > *cpus as f64).then(|| {
            format!("**The machine was busy**: a load of {load} on {cpus} CPUs before the run. Measurements that need two CPUs at once are not reliable.")
        })
    }

    /// Further details.
    pub(crate) fn details(&self) -> impl Iterator<Item = (&'static str, String)> {
        let Self { cpu, cpus, kernel, hypervisor, load, .. } = self;
        let known = [
            (
                "CPU",
                format!("{cpu}, {cpus} possible{}", if *hypervisor { ", under a hypervisor" } else { "" }),
            ),
            ("kernel", format!("Linux {kernel}")),
            ("load average before the run", load.to_string()),
        ];
        known.into_iter().chain(self.details.clone())
    }

    /// For `report.json`.
    pub(crate) fn json(&self) -> Value {
        let details: serde_json::Map<_, _> =
            self.details.iter().map(|(what, value)| ((*what).to_owned(), value.as_str().into())).collect();
        json!({
            "cpu": self.cpu,
            "arch": std::env::consts::ARCH,
            "cpus": self.cpus,
            "kernel": self.kernel,
            "hypervisor": self.hypervisor,
            "pinned": self.pinned,
            "load": self.load,
            "details": details,
        })
    }
}

/// The details that the system provides; missing ones are left out.
fn details() -> Vec<(&'static str, String)> {
    let cache = "/sys/devices/system/cpu/cpu0/cache";
    let caches = (0..8).filter_map(|index| {
        let of = |what: &str| read(&format!("{cache}/index{index}/{what}"));
        let size = of("size");
        (!size.is_empty()).then(|| format!("L{} {} {size}", of("level"), of("type").to_lowercase()))
    });
    let memory = read("/proc/meminfo").lines().next().unwrap_or_default().replace("MemTotal:", "");
    let first = |text: &str| text.lines().next().unwrap_or_default().to_owned();
    let output = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok()?;
        output.status.success().then(|| first(String::from_utf8_lossy(&output.stdout).trim()))
    };
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".into());
    let repository = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let jit = match read("/proc/sys/net/core/bpf_jit_enable").as_str() {
        "" => "",
        "0" => "off",
        _ => "on",
    };
    [
        ("caches", caches.collect::<Vec<_>>().join(", ")),
        ("memory", memory.trim().to_owned()),
        ("clock source", read("/sys/devices/system/clocksource/clocksource0/current_clocksource")),
        ("frequency governor", read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")),
        ("BPF JIT", jit.to_owned()),
        ("Spectre v2", read("/sys/devices/system/cpu/vulnerabilities/spectre_v2")),
        ("Rust", output("rustc", &["--version"]).unwrap_or_default()),
        ("clang", output(&clang, &["--version"]).unwrap_or_default()),
        ("libbpf", crate::version_of("libbpf-sys").to_owned()),
        (
            "priority (`nice`)",
            getpriority_process(None).map_or_else(|_| String::new(), |nice| nice.to_string()),
        ),
        ("commit", output("git", &["-C", repository, "describe", "--always", "--dirty"]).unwrap_or_default()),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .collect()
}

/// A file's text without surrounding blanks; empty if it can't be read.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// Whether `error` means that this process may not use BPF at all.
pub fn bpf_is_missing(error: &anyhow::Error) -> bool {
    let denied = |e: &libbpf_rs::Error| e.kind() == libbpf_rs::ErrorKind::PermissionDenied;
    error.chain().filter_map(|cause| cause.downcast_ref::<libbpf_rs::Error>()).any(denied)
}
