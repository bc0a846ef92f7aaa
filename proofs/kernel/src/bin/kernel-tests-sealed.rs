//! An unprivileged reader: `kernel-tests-sealed pin|socket PATH TICKET` changes to user nobody and gets a ring of
//! 56-byte records, from a pin or as a descriptor from a Unix socket. It prints how it reads the ring, forbids itself
//! all system calls except exit, and reads until `TICKET`.

use std::io::{IoSliceMut, Write};
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result, bail};
use mapring_kernel_tests::prelude::*;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

fn main() -> Result<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let [how, path, ticket] = args.iter().map(String::as_str).collect::<Vec<_>>()[..] else {
        bail!("kernel-tests-sealed pin|socket PATH TICKET");
    };
    let last: u64 = ticket.parse()?;
    become_nobody()?;
    let region: Region = match how {
        "pin" => OpenOptions::new().write(true).open(path)?,
        _ => OpenOptions::new().write(true).open(received(path)?)?,
    };
    println!("{:?} {:?}", region.access(), region.writable());
    let ring = Ring::<Filled<14>>::from_region(region)?;
    let mut reader = ring.reader();
    println!("ready");
    std::io::stdout().flush()?;

    only_exit()?;
    let (mut wrong, mut next) = (false, 0);
    while !wrong && next < last {
        for event in reader.drain() {
            wrong |= event.record != words_of(event.ticket) || event.ticket < next;
            next = event.ticket + 1;
        }
    }
    let stats = reader.stats();
    // Not `next`: the last drain may have skipped overwritten tickets after its last record.
    let passed: u64 = reader.shards().filter_map(|shard| reader.position(shard)).sum();
    wrong |= stats.delivered + stats.lost() != passed || passed < next || stats.delivered == 0;
    end(i32::from(wrong))
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
