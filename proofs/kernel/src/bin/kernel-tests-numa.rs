//! An unprivileged reader of a ring with one map per CPU: `kernel-tests-numa DIR COUNT [quiet]` changes to user nobody,
//! opens the pins in DIR, and reads COUNT records. Each must be whole, and the records of a CPU must be in order. With
//! `quiet` it makes no system call.

use std::io::Write;

use anyhow::{Result, bail, ensure};
use mapring_kernel_tests::prelude::*;

fn main() -> Result<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let (dir, count, is_quiet) = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [dir, count] => (dir, count, false),
        [dir, count, "quiet"] => (dir, count, true),
        _ => bail!("kernel-tests-numa DIR COUNT [quiet]"),
    };
    let count: u64 = count.parse()?;
    become_nobody()?;
    let ring = Ring::<Numbered>::open(dir)?;
    let mut reader = ring.reader();
    println!("{:?}\nready", ring.access());
    std::io::stdout().flush()?;

    if is_quiet {
        only_exit()?;
    }
    // One task on each CPU writes, and the CPU's number is the writer.
    let (mut wrong, mut next) = (false, [0; 1024]);
    while !wrong && reader.stats().delivered < count {
        reader.for_each(usize::MAX, |event| {
            let at = &mut next[event.shard % 1024];
            wrong |= !event.record.is_whole()
                || event.record.writer != event.shard as u64
                || event.record.number < *at
                || event.ticket < *at;
            *at = event.record.number + 1;
        });
    }
    if is_quiet {
        end(i32::from(wrong));
    }
    ensure!(!wrong, "{next:?}");
    reader.take_error().map_or(Ok(()), Err)?;
    Ok(())
}
