//! Readers as streams for tokio: they sleep on their bell, or nap between two checks.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytemuck::AnyBitPattern;
use futures_core::Stream;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::time::{Instant, Sleep, sleep};

use super::Reader;
use super::event::Event;
use super::order::{ByShard, Order};
use crate::error::{Error, Result};

/// The stream of [`Reader::into_stream`]. It never ends.
pub struct Events<T, O = ByShard> {
    reader: Reader<T, O>,
    /// The reader's bell, if it has one.
    bell: Option<AsyncFd<OwnedFd>>,
    sleep: Pin<Box<Sleep>>,
}

impl<T: AnyBitPattern, O: Order<T>> Reader<T, O> {
    /// The records as a stream, in a runtime of tokio with its I/O and time drivers. Between records its task sleeps as
    /// [`wait`](Self::wait) does. A busy stream lets other tasks run when its task has used up tokio's budget. Tails are copied
    /// to vectors; an empty one allocates nothing.
    ///
    /// While a [merged](Self::merged) reader holds records whose turn has not come, its task naps: a millisecond, the shortest
    /// sleep of tokio.
    ///
    /// # Errors
    /// [`ErrorKind::System`](crate::ErrorKind::System) outside of a runtime, or if it can't watch the bell.
    ///
    /// # Panics
    /// tokio panics in a runtime without one of these drivers.
    pub fn into_stream(self) -> Result<Events<T, O>> {
        Events::new(self)
    }
}

impl<T: AnyBitPattern, O: Order<T>> Events<T, O> {
    fn new(mut reader: Reader<T, O>) -> Result<Self> {
        let failed = |e| Error::system("watching the bell in a tokio runtime", e);
        Handle::try_current().map_err(|e| failed(io::Error::other(e)))?;
        let bell = reader.bell().ok().map(|bell| bell.try_clone_to_owned());
        // Sound for an `OwnedFd`, which stays open. The function that replaces it is unsafe.
        #[allow(deprecated)]
        let bell = bell.transpose().map_err(failed)?.map(AsyncFd::new).transpose().map_err(failed)?;
        Ok(Self { reader, bell, sleep: Box::pin(sleep(Duration::ZERO)) })
    }

    /// Waits for the bell, if it is armed. Returns at once if it has rung since then.
    fn poll_bell(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (Some(bell), Some(armed)) = (&self.bell, self.reader.armed_bell()) else {
            return Poll::Pending;
        };
        loop {
            // A bell that can't be watched is replaced by the limit of the sleep.
            let Ok(mut guard) = ready!(bell.poll_read_ready(cx)) else { return Poll::Pending };
            if armed.has_rung() {
                guard.retain_ready();
                return Poll::Ready(());
            }
            guard.clear_ready(); // from an earlier sleep
        }
    }
}

impl<T, O> Events<T, O> {
    /// The reader, for its counts.
    pub fn reader(&self) -> &Reader<T, O> {
        &self.reader
    }

    /// The reader, for its errors.
    pub fn reader_mut(&mut self) -> &mut Reader<T, O> {
        &mut self.reader
    }
}

impl<T: AnyBitPattern + Unpin, O: Order<T> + Unpin> Stream for Events<T, O> {
    type Item = Event<T, Vec<u8>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        /// After so many turns without a record, other tasks run.
        const TURNS: usize = 16;
        let this = self.get_mut();
        this.reader.disarm();
        let coop = ready!(tokio::task::coop::poll_proceed(cx));
        for _ in 0..TURNS {
            if let Some(Event { shard, ticket, record, tail }) = this.reader.poll() {
                coop.made_progress();
                return Poll::Ready(Some(Event { shard, ticket, record, tail: tail.to_vec() }));
            }
            let Some(limit) = this.reader.arm() else { continue };
            if this.poll_bell(cx).is_pending() {
                this.sleep.as_mut().reset(Instant::now() + limit);
                if this.sleep.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
            }
            this.reader.disarm();
        }
        coop.made_progress();
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
