//! Checks whether the kernel has the fetching atomics that programs need for claims (Linux 5.12, aarch64 5.18). If not,
//! users get a clear error instead of the verifier's "BPF_STX uses reserved fields".

use mapring::Result;
use mapring_core::text::printable;
use mapring_sys::bpf;
use rustix::io::Errno;

use crate::error::Refused;

/// `BPF_STX | BPF_ATOMIC` for words of 8 and 4 bytes.
const ATOMIC: [u8; 2] = [0xdb, 0xc3];
/// Set in the immediate of atomics that return the old value.
const FETCH: i32 = 1;

/// The first release whose JIT has fetching atomics.
const SINCE: [u32; 2] = if cfg!(target_arch = "aarch64") { [5, 18] } else { [5, 12] };

/// Refuses a program with fetching atomics if the kernel does not have them.
pub(crate) fn check(program: &str) -> Result<()> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    if has_atomics(&release) {
        return Ok(());
    }
    let [major, minor] = SINCE;
    Err(Refused::NoFetchingAtomics {
        program: printable(program),
        since: format!("{major}.{minor}"),
        release,
    }
    .into())
}

/// Whether an instruction with this code and immediate is a fetching atomic. (The second half of a wide load has code
/// 0.)
pub(crate) fn is_fetching(code: u8, imm: i32) -> bool {
    ATOMIC.contains(&code) && imm & FETCH != 0
}

/// Decides by the release. On an older release it loads a test program, as the distributor may have added the atomics.
/// If this process may not load programs, the real load fails for that reason anyway.
fn has_atomics(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    let version: [u32; 2] = std::array::from_fn(|_| numbers.next().unwrap_or(0));
    version >= SINCE || try_one().is_none_or(|error| error == Errno::PERM)
}

/// Loads a program that adds to a word of its stack and fetches the old value. Returns the kernel's error if it refuses
/// the program.
fn try_one() -> Option<Errno> {
    let insn = |code: u8, to: u8, offset: i16, imm: i32| {
        let to = if cfg!(target_endian = "big") { to << 4 } else { to };
        let ([o0, o1], [i0, i1, i2, i3]) = (offset.to_ne_bytes(), imm.to_ne_bytes());
        u64::from_ne_bytes([code, to, o0, o1, i0, i1, i2, i3])
    };
    let program = [
        insn(0xb7, 0, 0, 0),       // r0 = 0
        insn(0x7b, 10, -8, 0),     // *(u64 *)(r10 - 8) = r0
        insn(0xdb, 10, -8, FETCH), // r0 = fetch_add(r10 - 8, r0)
        insn(0xb7, 0, 0, 0),
        insn(0x95, 0, 0, 0),
    ];
    bpf::load_program(&program).err().and_then(|e| Errno::from_io_error(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fetching_ones_are_told_apart() {
        assert!(
            [(0xdb, 0xf1), (0xdb, 0xe1), (0xdb, 1), (0xc3, 1)]
                .into_iter()
                .all(|(code, imm)| is_fetching(code, imm))
        );
        // The end of the program, a plain `lock +=`, and a store of the same number.
        assert!(![(0x95, 0), (0xdb, 0), (0x7a, 0xf1)].into_iter().any(|(code, imm)| is_fetching(code, imm)));
    }

    #[test]
    fn the_kernel_here_takes_one() {
        // PERM: this process may not load programs. NOSYS: an emulator has no bpf(2). Kernels without the atomics return
        // other errors.
        assert!(matches!(try_one(), None | Some(Errno::PERM | Errno::NOSYS)));
    }

    #[test]
    fn newer_kernels_are_not_asked() {
        assert!(["5.18.0", "5.19.0-50-generic", "6.1", "7.2-rc1"].into_iter().all(has_atomics));
    }
}
