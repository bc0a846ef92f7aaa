//! Ways to pass records from one thread to another in order.

use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, anyhow, ensure};
use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::publish_subscribe::PortFactory;
use mapring::OpenOptions;
use mapring::{Reader, Ring, Start};

use crate::programs::Record;

/// The capacity of each channel, in records.
const CAPACITY: usize = 4096;

/// The receiving end.
pub(super) trait Receive {
    /// Calls `f` with each available record.
    fn each(&mut self, f: impl FnMut(&Record)) -> Result<()>;
}

/// Sends a record; returns `false` if the channel is full and the caller must try again.
pub(super) type Push = Box<dyn FnMut(&Record) -> Result<bool>>;

/// Makes the sending end, in the sending thread.
pub(super) type Make = Box<dyn FnOnce() -> Result<Push> + Send>;

/// mapring over a memfd without loss: the receiver publishes its position, and the sender stays less than a lap ahead.
pub(super) struct Lossless {
    reader: Reader<Record>,
    taken: Arc<CachePadded<AtomicUsize>>,
}

pub(super) fn mapring() -> Result<(Make, Lossless)> {
    let ring = Ring::<Record>::create_memfd(CAPACITY, 1)?;
    let (writer, reader) = (ring.writer(0)?, ring.reader_from(Start::Now));
    let taken = Arc::new(CachePadded::new(AtomicUsize::new(0)));
    let there = taken.clone();
    let send = move || -> Result<Push> {
        let (mut sent, mut room) = (0_usize, CAPACITY);
        Ok(Box::new(move |record| {
            if room == 0 {
                // Acquire: a taken record was read before its slot is written again.
                room = CAPACITY - (sent - there.load(Ordering::Acquire));
            }
            let sent_it = room > 0 && writer.push(record).is_some();
            room -= usize::from(sent_it);
            sent += usize::from(sent_it);
            Ok(sent_it)
        }))
    };
    Ok((Box::new(send), Lossless { reader, taken }))
}

impl Receive for Lossless {
    #[inline]
    fn each(&mut self, mut f: impl FnMut(&Record)) -> Result<()> {
        // In parts, so that the sender gets room before all records are taken.
        let count = self.reader.for_each(CAPACITY / 8, |event| f(event.record));
        if count > 0 {
            self.taken.fetch_add(count, Ordering::Release);
        }
        ensure!(self.reader.lost() == 0, "{} lost", self.reader.lost());
        Ok(())
    }
}

/// rtrb: pushed one by one, received in chunks.
pub(super) fn rtrb() -> Result<(Make, rtrb::Consumer<Record>)> {
    let (mut producer, consumer) = rtrb::RingBuffer::new(CAPACITY);
    let send = move || -> Result<Push> { Ok(Box::new(move |record| Ok(producer.push(*record).is_ok()))) };
    Ok((Box::new(send), consumer))
}

impl Receive for rtrb::Consumer<Record> {
    #[inline]
    fn each(&mut self, mut f: impl FnMut(&Record)) -> Result<()> {
        let chunk = self.read_chunk(self.slots())?;
        let (first, second) = chunk.as_slices();
        first.iter().chain(second).for_each(&mut f);
        chunk.commit_all();
        Ok(())
    }
}

/// crossbeam's queue, which any number of threads may use at both ends.
pub(super) fn array_queue() -> Result<(Make, Arc<ArrayQueue<Record>>)> {
    let queue = Arc::new(ArrayQueue::new(CAPACITY));
    let there = queue.clone();
    let send = move || -> Result<Push> { Ok(Box::new(move |record| Ok(there.push(*record).is_ok()))) };
    Ok((Box::new(send), queue))
}

impl Receive for Arc<ArrayQueue<Record>> {
    #[inline]
    fn each(&mut self, mut f: impl FnMut(&Record)) -> Result<()> {
        while let Some(record) = self.pop() {
            f(&record);
        }
        Ok(())
    }
}

/// A plain ring over a memfd: the reader, and the path where another process finds the memory.
pub(super) fn shared_ring() -> Result<(String, Reader<Record>)> {
    let ring = Ring::<Record>::create_memfd(CAPACITY, 1)?;
    let path = format!("/proc/{}/fd/{}", std::process::id(), ring.region().as_fd().as_raw_fd());
    Ok((path, ring.reader_from(Start::Now)))
}

/// The sending end of a [`shared_ring`].
pub(super) fn into_shared_ring(path: &str) -> Result<Push> {
    let file = File::options().read(true).write(true).open(path)?;
    let writer = Ring::<Record>::open_with(file, OpenOptions::new().write(true))?.writer(0)?;
    Ok(Box::new(move |record| Ok(writer.push(record).is_some())))
}

impl Receive for Reader<Record> {
    #[inline]
    fn each(&mut self, mut f: impl FnMut(&Record)) -> Result<()> {
        self.for_each(usize::MAX, |event| f(event.record));
        ensure!(self.lost() == 0, "{} lost", self.lost());
        Ok(())
    }
}

type Service = PortFactory<ipc::Service, Record, ()>;

fn service(name: &str) -> Result<Service> {
    let node = NodeBuilder::new().create::<ipc::Service>().map_err(|error| anyhow!("a node: {error:?}"))?;
    node.service_builder(&name.try_into().map_err(|error| anyhow!("a name: {error:?}"))?)
        .publish_subscribe::<Record>()
        .enable_safe_overflow(false)
        .subscriber_max_buffer_size(CAPACITY)
        .history_size(0)
        .open_or_create()
        .map_err(|error| anyhow!("a service: {error:?}"))
}

/// iceoryx2's receiving end, publish and subscribe.
pub(super) fn subscriber(name: &str) -> Result<Subscriber<ipc::Service, Record, ()>> {
    let create = service(name)?.subscriber_builder().buffer_size(CAPACITY).create();
    create.map_err(|error| anyhow!("a subscriber: {error:?}"))
}

/// iceoryx2's sending end: samples are loaned and written in place; it waits while the buffer is full.
pub(super) fn publisher(name: &str) -> Result<Push> {
    let publisher = service(name)?
        .publisher_builder()
        .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
        .create()
        .map_err(|error| anyhow!("a publisher: {error:?}"))?;
    Ok(Box::new(move |record: &Record| {
        let sample = publisher.loan_uninit().map_err(|error| anyhow!("a loan: {error:?}"))?;
        let sent = sample.write_payload(*record).send();
        let receivers = sent.map_err(|error| anyhow!("sending: {error:?}"))?;
        ensure!(receivers == 1, "{receivers} receivers");
        Ok(true)
    }))
}

/// Both ends in one process.
pub(super) fn iceoryx2() -> Result<(Make, Subscriber<ipc::Service, Record, ()>)> {
    let name = format!("mapring/benches/{}/threads", std::process::id());
    let subscriber = subscriber(&name)?;
    Ok((Box::new(move || publisher(&name)), subscriber))
}

impl Receive for Subscriber<ipc::Service, Record, ()> {
    #[inline]
    fn each(&mut self, mut f: impl FnMut(&Record)) -> Result<()> {
        while let Some(sample) = self.receive().map_err(|error| anyhow!("receiving: {error:?}"))? {
            f(&sample);
        }
        Ok(())
    }
}
