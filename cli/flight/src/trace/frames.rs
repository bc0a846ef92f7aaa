//! Stacks as text. Frames have no names here: an address of the kernel, and an offset in a file with a build id.

use std::fmt::Write as _;

use super::super::stack::{Stack, UserFrame};

/// The frames, the innermost one first.
pub(super) fn of(stack: &Stack) -> impl Iterator<Item = String> {
    stack.kernel.iter().map(|address| hex(*address)).chain(stack.user.iter().map(user))
}

fn user(frame: &UserFrame) -> String {
    match frame {
        UserFrame::File { build_id, offset } => {
            let mut text = String::with_capacity(64);
            build_id.iter().for_each(|byte| _ = write!(text, "{byte:02x}"));
            let _ = write!(text, "+{}", hex(*offset));
            text
        }
        UserFrame::Address(address) => hex(*address),
    }
}

fn hex(number: u64) -> String {
    format!("{number:#x}")
}
