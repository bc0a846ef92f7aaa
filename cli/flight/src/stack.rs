//! The stack of a thread, as the kernel recorded it: numbers, without names.

/// The frames that were found by frame pointers, the innermost one first.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stack {
    /// Addresses of instructions in the kernel; empty if the thread was in userspace.
    pub kernel: Vec<u64>,
    /// Frames of userspace.
    pub user: Vec<UserFrame>,
    /// Outer frames are missing: there were more than a record holds, or code without frame pointers hides them.
    pub is_cut: bool,
    /// When the process began, in units of 2^20 nanoseconds since the machine started: its number may be used again. 0: not known.
    pub began: u32,
}

/// A frame of userspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UserFrame {
    /// An offset in the file with this build id, zeros at its end. It has a meaning without the process.
    File {
        /// The build id.
        build_id: [u8; 20],
        /// Where in the file.
        offset: u64,
    },
    /// An address in the process: its page was in no file with a build id, or could not be looked at.
    Address(u64),
}

/// The layout of a frame of userspace in a tail: `struct bpf_stack_build_id` of the kernel.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Frame {
    status: i32,
    build_id: [u8; 20],
    /// Of the file, or the address.
    offset: u64,
}

/// No process has code elsewhere.
const CODE: std::ops::Range<u64> = 1 << 12..1 << 56;

impl Stack {
    /// Reads the tail of a record: `kernel` bytes are frames of the kernel, the rest are frames of userspace. The stack ends at the
    /// first number that can't be a frame: code without frame pointers leaves such numbers, and the stack is cut there.
    pub(crate) fn of_tail(tail: &[u8], kernel: u16, is_cut: bool, began: u32) -> Self {
        let kernel = usize::from(kernel).min(tail.len());
        let (kernel, user) = tail.split_at(kernel);
        let frame = |bytes: &[u8]| match bytemuck::pod_read_unaligned(bytes) {
            Frame { status: 1, build_id, offset } => Some(UserFrame::File { build_id, offset }),
            Frame { status: 2, offset, .. } if CODE.contains(&offset) => Some(UserFrame::Address(offset)),
            _ => None,
        };
        let frames = user.chunks_exact(size_of::<Frame>());
        let all = frames.len();
        let user: Vec<_> = frames.map_while(frame).collect();
        Self {
            kernel: kernel.chunks_exact(size_of::<u64>()).map(bytemuck::pod_read_unaligned).collect(),
            is_cut: is_cut || user.len() < all,
            user,
            began,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_tails_have_the_frames_before_what_is_none() {
        let mut tail = vec![0xff; 16];
        for (status, offset) in [(1_u32, 7_u64), (2, 1 << 12), (2, 9), (1, 10)] {
            tail.extend(status.to_ne_bytes());
            tail.extend([1; 20]);
            tail.extend(offset.to_ne_bytes());
        }
        let user = [UserFrame::File { build_id: [1; 20], offset: 7 }, UserFrame::Address(1 << 12)];
        let stack = Stack { kernel: vec![u64::MAX; 2], user: user.to_vec(), is_cut: true, began: 9 };
        assert_eq!(Stack::of_tail(&tail, 16, true, 9), stack);
        for len in 0..tail.len() {
            for kernel in [0, 1, 7, 8, 15, 17, 144, 145, u16::MAX] {
                let stack = Stack::of_tail(&tail[..len], kernel, false, 0);
                let user = len.saturating_sub(usize::from(kernel)) / 32;
                assert!(8 * stack.kernel.len() + 32 * stack.user.len() <= len);
                assert_eq!(stack.is_cut, stack.user.len() < user);
            }
        }
    }
}
