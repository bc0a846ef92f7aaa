//! The names of system calls, with 64 or 32 bits.

use syscalls::Sysno;
#[cfg(target_arch = "aarch64")]
use syscalls::arm::Sysno as Sysno32;
#[cfg(not(target_arch = "aarch64"))]
use syscalls::x86::Sysno as Sysno32;

/// The ABI of 32-bit calls, as the kernel and strace name it.
pub(super) const ABI_32: &str = if cfg!(target_arch = "aarch64") { "arm" } else { "i386" };

/// The name of a call, if it is known.
pub(super) fn name(nr: i32, is_32bit: bool) -> Option<&'static str> {
    let nr = usize::try_from(nr).ok()?;
    if is_32bit { Sysno32::new(nr).map(|call| call.name()) } else { Sysno::new(nr).map(|call| call.name()) }
}

/// The name of a call, or its number; a 32-bit call also has its ABI.
pub(in crate::flight) fn shown(nr: i32, is_32bit: bool) -> String {
    let name = name(nr, is_32bit).map_or_else(|| format!("call {nr}"), str::to_owned);
    if is_32bit { format!("{name} ({ABI_32})") } else { name }
}

/// The number by which Perfetto names a call. Its traces have one ABI: a 32-bit call gets the number of the 64-bit call with
/// the same name, or a number that Perfetto does not know.
pub(super) fn perfetto_id(nr: i32, is_32bit: bool) -> i64 {
    let same_name = || name(nr, true)?.parse().ok().map(|call: Sysno| call.id().into());
    if is_32bit { same_name().unwrap_or(i64::from(nr.cast_unsigned()) | 1 << 31) } else { nr.into() }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn calls_have_the_names_of_their_abi() {
        let names = [(20, false), (20, true), (-1, true)].map(|(nr, is_32bit)| name(nr, is_32bit));
        assert_eq!(names, [Some("writev"), Some("getpid"), None]);
    }

    #[test]
    fn perfetto_gets_numbers_of_one_abi() {
        let mmap2 = 192;
        let ids = [(20, false), (20, true), (mmap2, true)].map(|(nr, is_32bit)| perfetto_id(nr, is_32bit));
        assert_eq!(ids, [20, libc::SYS_getpid, 1 << 31 | 192]);
    }
}
