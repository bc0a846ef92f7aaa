//! An unprivileged reader of a ring of `bpf/options.bpf.c`: `kernel-tests-nobody PIN COUNT [no_syscalls]` changes to user nobody, opens the
//! ring by its pin, and reads COUNT records. Each must be whole and in order on its CPU, and missing ones must be counted. With
//! `no_syscalls` it makes no system call. For PIN, `socket:PATH` is a Unix socket over which the ring's descriptor comes.

use std::io::{IoSliceMut, Write};
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result, bail, ensure};
use mapring_kernel_tests::prelude::*;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

fn main() -> Result<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let (pin, count, is_filtered) = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [pin, count] => (pin, count, false),
        [pin, count, "no_syscalls"] => (pin, count, true),
        _ => bail!("kernel-tests-nobody PIN COUNT [no_syscalls]"),
    };
    let count: u64 = count.parse()?;
    become_nobody()?;
    let ring = match pin.strip_prefix("socket:") {
        Some(path) => Ring::from_region(OpenOptions::new().write(true).open(received(path)?)?)?,
        None => Ring::<Rec>::open(pin)?,
    };
    let (mut reader, has_tails) = (ring.reader_from(Start::Now), ring.options().has_tails());
    println!("{:?} {:?}\nready", ring.access(), ring.region().writable());
    std::io::stdout().flush()?;

    if is_filtered {
        only_exit()?;
    }
    // The numbers on each CPU: the first one that came, and the next one to come.
    let (mut wrong, mut of_cpu) = (None, [(0, 0); 1024]);
    while wrong.is_none() && reader.stats().delivered < count {
        reader.for_each(usize::MAX, |event| {
            let Rec { n, twice } = *event.record;
            let (first, next) = &mut of_cpu[event.shard % 1024];
            let length = if has_tails { n % 65 } else { 0 };
            if twice != 2 * n || n < *next || event.tail.len() as u64 != length {
                wrong = Some((event.shard, n, twice, *next));
            }
            if *next == 0 {
                *first = n;
            }
            *next = n + 1;
        });
    }
    // A program that was slow may publish a ticket that others stepped over after the reader passed it.
    let written: u64 = of_cpu.iter().map(|(first, next)| next - first).sum();
    let stats = reader.stats();
    let missing = written.saturating_sub(stats.delivered);
    let uncounted = missing > stats.lost() + stats.stepped_over;
    if is_filtered {
        mapring_kernel_tests::end(i32::from(wrong.is_some() || uncounted));
    }
    ensure!(wrong.is_none(), "{wrong:?}");
    ensure!(!uncounted, "{missing} are missing: {stats}");
    reader.take_error().map_or(Ok(()), Err)?;
    Ok(())
}

/// The descriptor received over a Unix socket.
fn received(path: &str) -> Result<OwnedFd> {
    let stream = UnixStream::connect(path)?;
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut buffer = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(&stream, &mut [IoSliceMut::new(&mut byte)], &mut buffer, RecvFlags::CMSG_CLOEXEC)?;
    let received = buffer.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    received.context("no descriptor came")
}
