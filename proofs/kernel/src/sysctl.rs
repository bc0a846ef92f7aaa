//! Kernel settings that a test changes temporarily.

use std::fs;

const UNPRIVILEGED_BPF: &str = "/proc/sys/kernel/unprivileged_bpf_disabled";
/// If set, tests may change settings of this machine. Virtual machines that run nothing else set it.
const ALLOWED: &str = "MAPRING_CHANGE_SYSCTLS";

/// While this lives, everybody may load BPF programs: `kernel.unprivileged_bpf_disabled` is 0.
#[derive(Debug)]
pub struct UnprivilegedBpf(Option<String>);

impl UnprivilegedBpf {
    /// Allows it.
    ///
    /// # Errors
    /// Returns why it can't be changed here.
    pub fn allow() -> Result<Self, String> {
        let before = fs::read_to_string(UNPRIVILEGED_BPF).map_err(|e| format!("{UNPRIVILEGED_BPF}: {e}"))?;
        match before.trim() {
            "0" => Ok(Self(None)),
            "1" => Err("kernel.unprivileged_bpf_disabled is 1, which stays until the next boot".to_owned()),
            _ if std::env::var_os(ALLOWED).is_none_or(|value| value != "1") => Err(format!(
                "changes kernel.unprivileged_bpf_disabled for a moment: {ALLOWED}=1 allows that, and virtual machines do"
            )),
            _ => {
                // Created before the change, so that a panic in between restores the setting.
                let restored = Self(Some(before));
                fs::write(UNPRIVILEGED_BPF, "0").map_err(|e| format!("{UNPRIVILEGED_BPF}: {e}"))?;
                Ok(restored)
            }
        }
    }
}

impl Drop for UnprivilegedBpf {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            fs::write(UNPRIVILEGED_BPF, before.trim()).expect("what was there can be set again");
        }
    }
}
