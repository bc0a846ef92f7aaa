//! Between threads and processes without BPF: mapring over a memfd, beside what else there is for that.

mod latest;
mod pipes;
mod records;

pub(crate) use latest::run as latest;
pub(crate) use records::{run as records, send};
