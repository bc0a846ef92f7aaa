//! The names of system calls, with 64 or 32 bits.

use syscalls::{aarch64, arm, x86, x86_64};

use super::super::machine::Machine;

/// The numbers of the calls of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Abi {
    X86,
    Arm,
}

/// Of this machine.
impl Default for Abi {
    fn default() -> Self {
        if cfg!(target_arch = "aarch64") { Self::Arm } else { Self::X86 }
    }
}

impl Abi {
    pub(crate) fn of(machine: &Machine) -> Self {
        match &*machine.machine {
            "x86_64" => Self::X86,
            "aarch64" => Self::Arm,
            _ => Self::default(),
        }
    }

    /// The name of 32-bit calls, as the kernel and strace have it.
    pub(super) fn of_32_bits(self) -> &'static str {
        match self {
            Self::X86 => "i386",
            Self::Arm => "arm",
        }
    }

    /// The name of a call, if it is known.
    pub(super) fn name(self, nr: i32, is_32bit: bool) -> Option<&'static str> {
        let nr = usize::try_from(nr).ok()?;
        Some(match (self, is_32bit) {
            (Self::X86, false) => x86_64::Sysno::new(nr)?.name(),
            (Self::X86, true) => x86::Sysno::new(nr)?.name(),
            (Self::Arm, false) => aarch64::Sysno::new(nr)?.name(),
            (Self::Arm, true) => arm::Sysno::new(nr)?.name(),
        })
    }

    /// The name of a call, or its number; a 32-bit call also has its ABI.
    pub(crate) fn shown(self, nr: i32, is_32bit: bool) -> String {
        let name = self.name(nr, is_32bit).map_or_else(|| format!("call {nr}"), str::to_owned);
        if is_32bit { format!("{name} ({})", self.of_32_bits()) } else { name }
    }

    /// The number by which Perfetto names a call. Its traces have one ABI: a 32-bit call gets the number of the 64-bit call with
    /// the same name, or a number that Perfetto does not know.
    pub(super) fn perfetto_id(self, nr: i32, is_32bit: bool) -> i64 {
        let same_name = || {
            let name = self.name(nr, true)?;
            Some(match self {
                Self::X86 => name.parse::<x86_64::Sysno>().ok()?.id().into(),
                Self::Arm => name.parse::<aarch64::Sysno>().ok()?.id().into(),
            })
        };
        if is_32bit { same_name().unwrap_or(i64::from(nr.cast_unsigned()) | 1 << 31) } else { nr.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_have_the_names_of_their_abi() {
        let names =
            |abi: Abi| [(20, false), (20, true), (-1, true)].map(|(nr, is_32bit)| abi.name(nr, is_32bit));
        assert_eq!(names(Abi::X86), [Some("writev"), Some("getpid"), None]);
        assert_eq!(names(Abi::Arm), [Some("epoll_create1"), Some("getpid"), None]);
    }

    #[test]
    fn perfetto_gets_numbers_of_one_abi() {
        let mmap2 = 192;
        let ids = [(20, false), (20, true), (mmap2, true)];
        assert_eq!(ids.map(|(nr, is_32bit)| Abi::X86.perfetto_id(nr, is_32bit)), [20, 39, 1 << 31 | 192]);
        assert_eq!(ids.map(|(nr, is_32bit)| Abi::Arm.perfetto_id(nr, is_32bit)), [20, 172, 1 << 31 | 192]);
    }
}
