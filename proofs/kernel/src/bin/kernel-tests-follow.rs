//! An unprivileged reader that follows a resizable ring: `kernel-tests-follow PIN END [quiet]` changes to user nobody,
//! opens the ring by its pin, and reads until it gets a number of END or more. Each number must come once and in order,
//! and every missing one must be counted as lost. With `quiet` it makes no system call.

use std::io::Write;

use anyhow::{Result, bail, ensure};
use mapring_kernel_tests::prelude::*;

fn main() -> Result<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let (pin, end, is_quiet) = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [pin, end] => (pin, end, false),
        [pin, end, "quiet"] => (pin, end, true),
        _ => bail!("kernel-tests-follow PIN END [quiet]"),
    };
    let end: u64 = end.parse()?;
    become_nobody()?;
    let ring = Ring::<Numbered>::open(pin)?;
    let mut follower = ring.reader();
    println!("{:?}\nready", ring.access());
    std::io::stdout().flush()?;

    if is_quiet {
        only_exit()?;
    }
    let (mut next, mut seen, mut wrong) = (0, 0, None);
    while next <= end && wrong.is_none() {
        follower.for_each(usize::MAX, |event| {
            let r = *event.record;
            if r.number < next || !r.is_whole() {
                wrong = Some((next, event.shard, r));
            }
            (next, seen) = (r.number + 1, seen + 1);
        });
        if let Some(error) = follower.take_error() {
            bail!("following: {error}");
        }
    }
    // A program that was slow may publish a ticket that others stepped over after the reader passed it.
    let (missing, uncertain) = (next - seen, follower.lost() + follower.stats().stepped_over);
    if is_quiet {
        mapring_kernel_tests::end(i32::from(wrong.is_some() || missing > uncertain));
    }
    ensure!(wrong.is_none(), "{wrong:?}");
    ensure!(missing <= uncertain, "{missing} are missing: {:?}", follower.stats());
    println!("{} rings", follower.rings());
    Ok(())
}
