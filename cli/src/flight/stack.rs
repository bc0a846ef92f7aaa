//! The stack of a thread, as the kernel recorded it: numbers, without names.

/// The frames that were found by frame pointers, the innermost one first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Stack {
    /// Addresses of instructions in the kernel; empty if the thread was in userspace.
    pub(crate) kernel: Vec<u64>,
    pub(crate) user: Vec<UserFrame>,
    /// Outer frames are missing: there were more than a record holds.
    pub(crate) is_cut: bool,
}

/// A frame of userspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum UserFrame {
    /// An offset in the file with this build id, zeros at its end. It has a meaning without the process.
    File { build_id: [u8; 20], offset: u64 },
    /// An address in the process: its page was in no file with a build id, or could not be looked at.
    Address(u64),
}
