//! Threads and processes without BPF: mapring over a memfd, compared with other channels.

mod latest;
mod pipes;
mod records;

pub(crate) use latest::run as latest;
pub(crate) use records::{run as records, send};
