//! Machine code as far as ordering matters: each instruction's effect on shared memory, and its successors.

/// One instruction, or several that form one atomic.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// Its address in the kernel.
    pub(crate) address: u64,
    /// Its assembly text.
    pub(crate) text: String,
    pub(crate) does: Does,
    /// Its jump target, conditional or not.
    pub(crate) jump: Option<u64>,
    /// Whether the next instruction may follow.
    pub(crate) falls: bool,
}

/// The effect of an instruction on shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    Nothing,
    /// A plain store of a word, anywhere but to the stack.
    Store {
        offset: i64,
    },
    /// A store of a word that comes after all earlier accesses, where plain stores may not.
    Release,
    /// An atomic read-modify-write.
    Atomic {
        operation: Operation,
        /// Orders everything before it and everything after it.
        full: bool,
    },
    /// A call, with its address if known.
    Call(Option<u64>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    CompareExchange,
    Exchange,
    /// An addition or similar, with or without using its result.
    Other,
}

/// The steps that can follow one of `from`, without passing one that is `closed`.
pub(crate) fn reachable(
    steps: &[Step],
    from: impl IntoIterator<Item = usize>,
    closed: impl Fn(usize) -> bool,
) -> Vec<usize> {
    let mut seen = vec![false; steps.len()];
    let mut open: Vec<_> = from.into_iter().collect();
    while let Some(at) = open.pop() {
        if seen[at] || closed(at) {
            continue;
        }
        seen[at] = true;
        open.extend(next(steps, at));
    }
    (0..steps.len()).filter(|&at| seen[at]).collect()
}

/// The steps that can directly follow a step; none if it leaves the function.
pub(crate) fn next(steps: &[Step], at: usize) -> impl Iterator<Item = usize> {
    let falls = steps[at].falls.then_some(at + 1).filter(|&next| next < steps.len());
    let jump = steps[at].jump.and_then(|to| {
        let inside = (steps[0].address..=steps[steps.len() - 1].address).contains(&to);
        let found = steps.iter().position(|step| step.address == to);
        assert!(found.is_some() || !inside, "{}: into the midst of an instruction", steps[at].text);
        found
    });
    falls.into_iter().chain(jump)
}
