//! The names of frames in a file of `save`: found where the recording was made, and read where nothing of that machine is.

use std::collections::HashMap;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::{FRAMES, Frame, Place, shown};

/// Frames with their names.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Saved(Vec<(Place, bool, Frame)>);

/// The same, to look them up.
pub(super) type Known = HashMap<(Place, bool), Rc<Frame>, foldhash::fast::RandomState>;

impl Saved {
    pub(super) fn of(known: &Known) -> Self {
        Self(known.iter().map(|(&(place, is_return), frame)| (place, is_return, (**frame).clone())).collect())
    }

    /// Texts of a file can be anything.
    pub(super) fn known(&self) -> Known {
        let escaped = |text: &String| shown(text.as_bytes());
        let known = |(place, is_return, frame): &(Place, bool, Frame)| {
            let names = frame.names.iter().map(escaped).collect();
            ((*place, *is_return), Rc::new(Frame { names, module: escaped(&frame.module), ..*frame }))
        };
        self.0.iter().filter(|(.., frame)| !frame.names.is_empty()).take(FRAMES).map(known).collect()
    }
}
