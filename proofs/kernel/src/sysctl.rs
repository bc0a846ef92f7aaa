//! Kernel settings that a test changes temporarily.

use std::fs;

const UNPRIVILEGED_BPF: &str = "kernel.unprivileged_bpf_disabled";
/// If set, tests may change settings of this machine. Virtual machines that run nothing else set it.
const ALLOWED: &str = "MAPRING_CHANGE_SYSCTLS";

fn file(name: &str) -> String {
    format!("/proc/sys/{}", name.replace('.', "/"))
}

fn value(name: &str) -> Result<String, String> {
    fs::read_to_string(file(name)).map_err(|e| format!("{name}: {e}"))
}

/// A setting that has another value until this is dropped.
#[derive(Debug)]
struct Setting {
    name: &'static str,
    before: String,
}

impl Setting {
    fn change(name: &'static str, to: &str) -> Result<Self, String> {
        if std::env::var_os(ALLOWED).is_none_or(|value| value != "1") {
            return Err(format!(
                "changes {name} for a moment: {ALLOWED}=1 allows that, and virtual machines do"
            ));
        }
        // Created before the change, so that a panic in between restores the setting.
        let restored = Self { name, before: value(name)? };
        fs::write(file(name), to).map_err(|e| format!("{name}: {e}"))?;
        Ok(restored)
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        fs::write(file(self.name), self.before.trim()).expect("what was there can be set again");
    }
}

/// While this lives, everybody may load BPF programs: `kernel.unprivileged_bpf_disabled` is 0.
#[derive(Debug)]
pub struct UnprivilegedBpf {
    _setting: Option<Setting>,
}

impl UnprivilegedBpf {
    /// Allows it.
    ///
    /// # Errors
    /// Returns why it can't be changed here.
    pub fn allow() -> Result<Self, String> {
        let _setting = match value(UNPRIVILEGED_BPF)?.trim() {
            "0" => None,
            "1" => return Err(format!("{UNPRIVILEGED_BPF} is 1, which stays until the next boot")),
            _ => Some(Setting::change(UNPRIVILEGED_BPF, "0")?),
        };
        Ok(Self { _setting })
    }
}
