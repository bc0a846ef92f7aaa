//! What the numbers were measured on.

use std::fs;

use serde_json::{Value, json};

/// The machine and the kernel.
#[derive(Clone, Debug)]
pub struct Machine {
    cpu: String,
    cpus: usize,
    kernel: String,
    hypervisor: bool,
    pinned: usize,
}

impl Machine {
    /// This one, with the thread that measures pinned to CPU `pinned`.
    pub fn here(pinned: usize) -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let field = |name| cpuinfo.lines().find_map(|line| line.strip_prefix(name)?.split_once(':'));
        let text = |name| field(name).map_or_else(String::new, |(_, value)| value.trim().to_owned());
        Self {
            cpu: text("model name"),
            cpus: libbpf_rs::num_possible_cpus().unwrap_or(1),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            hypervisor: text("flags").split(' ').any(|flag| flag == "hypervisor"),
            pinned,
        }
    }

    /// In a sentence.
    pub fn describe(&self) -> String {
        let Self { cpu, cpus, kernel, hypervisor, pinned } = self;
        let virtual_ = if *hypervisor { ", a virtual machine" } else { "" };
        let cpu = if cpu.is_empty() { std::env::consts::ARCH } else { cpu };
        format!("{cpu}, {cpus} CPUs{virtual_}, Linux {kernel}; one thread, on CPU {pinned}")
    }

    /// For the report.
    pub(crate) fn json(&self) -> Value {
        json!({
            "cpu": self.cpu,
            "arch": std::env::consts::ARCH,
            "cpus": self.cpus,
            "kernel": self.kernel,
            "hypervisor": self.hypervisor,
            "pinned": self.pinned,
        })
    }
}

/// Whether `error` means that this process may not use BPF at all.
pub fn bpf_is_missing(error: &anyhow::Error) -> bool {
    let denied = |e: &libbpf_rs::Error| e.kind() == libbpf_rs::ErrorKind::PermissionDenied;
    error.chain().filter_map(|cause| cause.downcast_ref::<libbpf_rs::Error>()).any(denied)
}
