//! The names of frames in a file of `save`: found where the recording was made, and read where nothing of that machine is.

use std::collections::HashMap;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::{CodeAddress, FRAMES, Frame, shown};

/// Frames with their names.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Saved(Vec<(CodeAddress, bool, Frame)>);

/// The same, to look them up.
pub(super) type Known = HashMap<(CodeAddress, bool), Rc<Frame>, foldhash::fast::RandomState>;

impl Saved {
    pub(super) fn of(known: &Known) -> Self {
        Self(known.iter().map(|(&(code, is_return), frame)| (code, is_return, (**frame).clone())).collect())
    }

    /// Leaves out half of the frames. Returns whether there were any.
    pub(crate) fn shorten(&mut self) -> bool {
        let is_some = !self.0.is_empty();
        self.0.truncate(self.0.len() / 2);
        is_some
    }

    /// Texts of a file can be anything.
    pub(super) fn known(&self) -> Known {
        let escaped = |text: &String| shown(text.as_bytes());
        let known = |(code, is_return, frame): &(CodeAddress, bool, Frame)| {
            let names = frame.names.iter().map(escaped).collect();
            ((*code, *is_return), Rc::new(Frame { names, module: escaped(&frame.module), ..*frame }))
        };
        self.0.iter().filter(|(.., frame)| !frame.names.is_empty()).take(FRAMES).map(known).collect()
    }
}
