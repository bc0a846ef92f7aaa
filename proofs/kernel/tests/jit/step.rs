//! Machine code as far as orderings go: what each instruction does to shared memory, and where it goes on.

/// One instruction, or several that are one atomic.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// Where it lies in the kernel.
    pub(crate) address: u64,
    /// As people write it.
    pub(crate) text: String,
    pub(crate) does: Does,
    /// Where it jumps to, always or not.
    pub(crate) jump: Option<u64>,
    /// Whether the next instruction may follow.
    pub(crate) falls: bool,
}

/// What an instruction does to shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    Nothing,
    /// A plain store of a word, anywhere but to the stack.
    Store {
        offset: i64,
    },
    /// A store of a word that comes after all before it, where plain ones need not.
    Release,
    /// An atomic read-modify-write.
    Atomic {
        operation: Operation,
        /// Orders everything before it and everything behind it.
        full: bool,
    },
    /// A call, of this address where that is known.
    Call(Option<u64>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    CompareExchange,
    Exchange,
    /// An addition and the like; its result may be wanted or not.
    Other,
}

/// The steps that can come after one of `from`, without passing one that is `closed`.
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

/// What can follow a step at once; nothing, if it leaves the function.
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
