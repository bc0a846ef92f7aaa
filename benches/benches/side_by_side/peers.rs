//! The peers at their fastest: libbpf's own functions, without a layer on top.

use std::ffi::{c_int, c_ulong, c_void};
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::null;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use anyhow::{Result, ensure};
use libbpf_rs::{MapCore, libbpf_sys};
use memmap2::{MmapOptions, MmapRaw};

use crate::programs::{Record, Seen};

/// `bpf_map_lookup_elem`.
pub(crate) struct Lookup {
    map: i32,
    words: usize,
}

impl Lookup {
    /// `map` must outlive this.
    pub(crate) fn new(map: &impl MapCore) -> Result<Self> {
        Ok(Self { map: map.as_fd().as_raw_fd(), words: words(map)? })
    }

    /// Looks up `key`; `value` must be as long as the map's values.
    #[inline]
    pub(crate) fn look(&self, key: u32, value: &mut [u64]) -> Result<()> {
        assert_eq!(value.len(), self.words);
        // SAFETY: the key has 4 bytes, and the value is as long as the kernel writes.
        let ret = unsafe {
            libbpf_sys::bpf_map_lookup_elem(self.map, (&raw const key).cast(), value.as_mut_ptr().cast())
        };
        ensure!(ret == 0, "bpf_map_lookup_elem: {}", io::Error::from_raw_os_error(-ret));
        Ok(())
    }
}

/// Adjacent array elements by `bpf_map_lookup_batch`, in one call.
pub(crate) struct Run<'m, M> {
    map: &'m M,
    keys: Vec<u32>,
    pub(crate) values: Vec<u64>,
}

impl<'m, M: MapCore> Run<'m, M> {
    /// For `count` elements at once.
    pub(crate) fn new(map: &'m M, count: usize) -> Result<Self> {
        Ok(Self { map, keys: vec![0; count], values: vec![0; count * words(map)?] })
    }

    /// Looks up the elements from `first` on.
    #[inline]
    pub(crate) fn look(&mut self, first: usize) -> Result<()> {
        let (mut last, mut count) = (0_u32, u32::try_from(self.keys.len())?);
        let before = u32::try_from(first)?.wrapping_sub(1);
        let before = if first == 0 { null() } else { &raw const before };
        // SAFETY: `keys` and `values` have room for `count` elements; no key before the first means from the start.
        let ret = unsafe {
            libbpf_sys::bpf_map_lookup_batch(
                self.map.as_fd().as_raw_fd(),
                before.cast_mut().cast(),
                (&raw mut last).cast(),
                self.keys.as_mut_ptr().cast(),
                self.values.as_mut_ptr().cast(),
                &raw mut count,
                null(),
            )
        };
        // The same call may reach the end of the map, and the kernel may or may not report it.
        ensure!(
            ret == 0 || ret == -libc::ENOENT,
            "bpf_map_lookup_batch: {}",
            io::Error::from_raw_os_error(-ret)
        );
        ensure!(count as usize == self.keys.len(), "a batch of {} gave {count}", self.keys.len());
        Ok(())
    }
}

/// A whole map by `bpf_map_lookup_batch`, in one call.
pub(crate) struct Batch<'m, M>(Run<'m, M>);

impl<'m, M: MapCore> Batch<'m, M> {
    pub(crate) fn new(map: &'m M) -> Result<Self> {
        Ok(Self(Run::new(map, map.max_entries() as usize)?))
    }

    #[inline]
    pub(crate) fn look(&mut self) -> Result<()> {
        self.0.look(0)
    }

    pub(crate) fn values(&self) -> &[u64] {
        &self.0.values
    }
}

/// Words that a lookup returns: one value, or one value per CPU.
fn words(map: &impl MapCore) -> Result<usize> {
    let values = if map.map_type().is_percpu() { libbpf_rs::num_possible_cpus()? } else { 1 };
    Ok(values * (map.value_size() as usize).div_ceil(8))
}

/// A ring buffer's consumer as a program would write its own: over the mapping, without a call per record.
pub(crate) struct MappedRingBuffer {
    /// Keeps the pages below mapped.
    _maps: (MmapRaw, MmapRaw),
    consumer: *const AtomicU64,
    producer: *const AtomicU64,
    data: *const u8,
    mask: u64,
    position: u64,
}

const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
/// Length with flags, and page offset.
const HEADER: u64 = 8;

impl MappedRingBuffer {
    pub(crate) fn new(map: &impl MapCore) -> Result<Self> {
        let (page, size) = (rustix::param::page_size(), map.max_entries() as usize);
        let fd = map.as_fd().as_raw_fd();
        let writable = MmapOptions::new().len(page).map_raw(fd)?;
        // The buffer is mapped twice in a row, so that records are contiguous at its end.
        let readable = MmapOptions::new().offset(page as u64).len(page + 2 * size).map_raw_read_only(fd)?;
        let consumer = writable.as_ptr().cast();
        let producer = readable.as_ptr();
        // SAFETY: the mapping is a page longer than the buffer.
        let data = unsafe { producer.add(page) };
        let mask = size as u64 - 1;
        let mut this = Self {
            _maps: (writable, readable),
            consumer,
            producer: producer.cast(),
            data,
            mask,
            position: 0,
        };
        this.position = this.consumer().load(Ordering::Acquire);
        Ok(this)
    }

    fn consumer(&self) -> &AtomicU64 {
        // SAFETY: a mapped page starts with it, and it is only accessed atomically.
        unsafe { &*self.consumer }
    }

    fn producer(&self) -> &AtomicU64 {
        // SAFETY: as above.
        unsafe { &*self.producer }
    }

    /// Consumes all records. Returns their number.
    #[inline]
    pub(crate) fn consume(&mut self, mut f: impl FnMut(&Record)) -> u64 {
        self.consume_words(|words| f(words.try_into().expect("a record of another size")))
    }

    /// The same for records of any number of words.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // a header's length, and masked values
    pub(crate) fn consume_words(&mut self, mut f: impl FnMut(&[u64])) -> u64 {
        let mut count = 0;
        // Other consumers may have advanced the position since.
        self.position = self.position.max(self.consumer().load(Ordering::Relaxed));
        loop {
            let produced = self.producer().load(Ordering::Acquire);
            if self.position >= produced {
                return count;
            }
            while self.position < produced {
                // SAFETY: the mask keeps the offset inside the buffer.
                let header = unsafe { self.data.add((self.position & self.mask) as usize) };
                // SAFETY: headers are aligned to 8 and only accessed atomically.
                let word = unsafe { &*header.cast::<AtomicU32>() }.load(Ordering::Acquire);
                if word & BUSY != 0 {
                    return count;
                }
                let len = u64::from(word & !DISCARDED);
                if word & DISCARDED == 0 {
                    assert!(len % 8 == 0 && len <= self.mask);
                    // SAFETY: this many bytes follow the header, since the buffer is mapped twice.
                    let record = unsafe { header.add(HEADER as usize) };
                    // SAFETY: the record has that length and is aligned to 8, and no program writes it until it is
                    // consumed.
                    f(unsafe { std::slice::from_raw_parts(record.cast(), len as usize / 8) });
                    count += 1;
                }
                self.position += (HEADER + len).next_multiple_of(8);
                self.consumer().store(self.position, Ordering::Release);
            }
        }
    }
}

/// A consumer of records.
pub(crate) trait Sink: Default {
    /// Takes one record.
    fn add(&mut self, record: &Record);
}

/// A ring buffer's consumer: libbpf's `ring_buffer`, with a C callback.
pub(crate) struct RawRingBuffer<S = Seen> {
    manager: *mut libbpf_sys::ring_buffer,
    sink: *mut S,
}

impl<S: Sink> RawRingBuffer<S> {
    pub(crate) fn new(map: &impl MapCore) -> Result<Self> {
        Self::with(map, on_record::<S>)
    }

    /// Consumes another ring buffer, too, into the same sink.
    pub(crate) fn add(&mut self, map: &impl MapCore) -> Result<()> {
        let (fd, sink) = (map.as_fd().as_raw_fd(), self.sink.cast());
        // SAFETY: `new` made the manager; the callback gets `sink`, which lives as long as this.
        let ret = unsafe { libbpf_sys::ring_buffer__add(self.manager, fd, Some(on_record::<S>), sink) };
        ensure!(ret == 0, "ring_buffer__add: {}", io::Error::from_raw_os_error(-ret));
        Ok(())
    }
}

/// Takes one record: its sink, its bytes, their number.
pub(crate) type Callback = unsafe extern "C" fn(*mut c_void, *mut c_void, c_ulong) -> c_int;

impl<S: Default> RawRingBuffer<S> {
    /// With a callback for records of another size, which gets the sink.
    pub(crate) fn with(map: &impl MapCore, callback: Callback) -> Result<Self> {
        let sink = Box::into_raw(Box::<S>::default());
        // SAFETY: the callback gets `sink`, which lives as long as the consumer does.
        let manager = unsafe {
            libbpf_sys::ring_buffer__new(map.as_fd().as_raw_fd(), Some(callback), sink.cast(), null())
        };
        let this = Self { manager, sink };
        ensure!(!manager.is_null(), "ring_buffer__new: {}", io::Error::last_os_error());
        Ok(this)
    }

    /// Consumes all records.
    #[inline]
    pub(crate) fn consume(&mut self) -> Result<()> {
        // SAFETY: `new` made the manager, and only this thread uses it.
        let ret = unsafe { libbpf_sys::ring_buffer__consume(self.manager) };
        ensure!(ret >= 0, "ring_buffer__consume: {}", io::Error::from_raw_os_error(-ret));
        Ok(())
    }

    /// Sleeps until a record arrives, at most `ms` milliseconds, and consumes it.
    pub(crate) fn poll(&mut self, ms: i32) -> Result<()> {
        // SAFETY: as above.
        let ret = unsafe { libbpf_sys::ring_buffer__poll(self.manager, ms) };
        ensure!(ret >= 0, "ring_buffer__poll: {}", io::Error::from_raw_os_error(-ret));
        Ok(())
    }

    /// The sink of the records.
    pub(crate) fn sink(&mut self) -> &mut S {
        // SAFETY: the callback, which also writes there, only runs inside `consume` and `poll`.
        unsafe { &mut *self.sink }
    }

    /// Returns the records consumed since the last call.
    pub(crate) fn take_seen(&mut self) -> S {
        std::mem::take(self.sink())
    }
}

impl<S> Drop for RawRingBuffer<S> {
    fn drop(&mut self) {
        // SAFETY: `new` made it, and nothing uses it after this; null is allowed.
        unsafe { libbpf_sys::ring_buffer__free(self.manager) };
        // SAFETY: it came from a box, and the callback is never called again.
        drop(unsafe { Box::from_raw(self.sink) });
    }
}

/// Adds a record to the sink at `context`.
unsafe extern "C" fn on_record<S: Sink>(context: *mut c_void, data: *mut c_void, size: c_ulong) -> c_int {
    if size != size_of::<Record>() as c_ulong {
        return -libc::EINVAL;
    }
    // SAFETY: libbpf passes the pointer given to `new`, and nothing else uses it during the call.
    let sink = unsafe { &mut *context.cast::<S>() };
    // SAFETY: a record's size was checked, records are aligned to 8, and no program writes this one until it is
    // consumed.
    let record = unsafe { &*data.cast::<Record>() };
    sink.add(record);
    0
}

/// A perf buffer's consumer that is woken once per several records, by libbpf's own option, which libbpf-rs does not
/// offer.
pub(crate) struct SampledPerfBuffer {
    buffer: *mut libbpf_sys::perf_buffer,
    seen: *mut (Seen, u64),
}

impl SampledPerfBuffer {
    pub(crate) fn new(map: &impl MapCore, pages: libbpf_sys::size_t, period: u32) -> Result<Self> {
        let seen = Box::into_raw(Box::<(Seen, u64)>::default());
        let opts = libbpf_sys::perf_buffer_opts {
            sz: size_of::<libbpf_sys::perf_buffer_opts>() as libbpf_sys::size_t,
            sample_period: period,
            ..Default::default()
        };
        let fd = map.as_fd().as_raw_fd();
        // SAFETY: the callbacks get `seen`, which lives as long as the buffer; `opts` contains its own size.
        let buffer = unsafe {
            libbpf_sys::perf_buffer__new(
                fd,
                pages,
                Some(on_sample),
                Some(on_loss),
                seen.cast(),
                &raw const opts,
            )
        };
        let this = Self { buffer, seen };
        ensure!(!buffer.is_null(), "perf_buffer__new: {}", io::Error::last_os_error());
        Ok(this)
    }

    /// Consumes all records. Returns them and the kernel's count of lost ones.
    pub(crate) fn consume(&mut self) -> Result<(Seen, u64)> {
        // SAFETY: `new` made the buffer, and only this thread uses it.
        let ret = unsafe { libbpf_sys::perf_buffer__consume(self.buffer) };
        ensure!(ret >= 0, "perf_buffer__consume: {}", io::Error::from_raw_os_error(-ret));
        // SAFETY: the callbacks, which also write there, only run inside `consume`.
        Ok(unsafe { self.seen.replace(Default::default()) })
    }
}

impl Drop for SampledPerfBuffer {
    fn drop(&mut self) {
        // SAFETY: `new` made it, and nothing uses it after this; null is allowed.
        unsafe { libbpf_sys::perf_buffer__free(self.buffer) };
        // SAFETY: it came from a box, and the callbacks are never called again.
        drop(unsafe { Box::from_raw(self.seen) });
    }
}

/// Adds a sample to the value at `context`.
unsafe extern "C" fn on_sample(context: *mut c_void, _cpu: c_int, data: *mut c_void, size: u32) {
    if (size as usize) < size_of::<Record>() {
        return;
    }
    // SAFETY: the sample's size was checked; samples are aligned to 4 only.
    let record = unsafe { data.cast::<Record>().read_unaligned() };
    // SAFETY: libbpf passes the pointer given to `new`, and nothing else uses it during the call.
    let seen = unsafe { &mut *context.cast::<(Seen, u64)>() };
    seen.0.add(&record);
}

/// Adds the kernel's count of lost records.
unsafe extern "C" fn on_loss(context: *mut c_void, _cpu: c_int, count: u64) {
    // SAFETY: as above.
    let seen = unsafe { &mut *context.cast::<(Seen, u64)>() };
    seen.1 += count;
}
