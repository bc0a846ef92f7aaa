//! How many steps a call may take.

/// The most steps of a call between two records, and whether one needed more.
#[derive(Debug)]
pub(super) struct Budget {
    pub(super) steps: u32,
    pub(super) stopped_early: bool,
}

impl Budget {
    /// See [`Reader::STEPS`](crate::Reader::STEPS).
    pub(super) const STEPS: u32 = 1 << 14;
    /// See [`Reader::STEPS_BY_CALL`](crate::Reader::STEPS_BY_CALL).
    pub(super) const STEPS_BY_CALL: u32 = 1 << 11;

    pub(super) fn new(by_call: bool) -> Self {
        Self { steps: if by_call { Self::STEPS_BY_CALL } else { Self::STEPS }, stopped_early: false }
    }
}
