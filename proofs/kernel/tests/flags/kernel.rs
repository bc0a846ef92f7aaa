//! Differences that the running kernel's release explains.

/// The running kernel.
pub(crate) struct Kernel(u32, u32);

impl Kernel {
    pub(crate) fn running() -> Self {
        let uname = rustix::system::uname();
        let release = uname.release().to_str().unwrap();
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap());
        Self(numbers.next().unwrap(), numbers.next().unwrap())
    }

    pub(crate) fn before(&self, major: u32, minor: u32) -> bool {
        (self.0, self.1) < (major, minor)
    }

    /// The kernel only searches the top level of a value for locks and timers; here they are inside its record.
    pub(crate) fn overlooks_locks(&self) -> bool {
        self.before(6, 11)
    }

    /// Per-CPU arrays have no batches.
    pub(crate) fn no_per_cpu_batches(&self) -> bool {
        self.before(5, 13)
    }
}
