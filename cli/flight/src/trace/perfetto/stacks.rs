//! Stacks in a trace for Perfetto: samples with callstacks, whose frames and files are written once, and waits as slices.

use std::collections::HashMap;
use std::rc::Rc;

use anyhow::Result;
use prost::bytes::Bytes;

use super::super::super::event::Event;
use super::super::super::names::Names;
use super::super::super::stack::{Stack, UserFrame};
use super::super::super::symbols::{self, BuildId, Symbols};
use super::super::rows;
use super::{Perfetto, of};
use crate::messages::perfetto::protos::{
    Callstack, CpuMode, DebugAnnotation, Frame, InternedData, InternedString, Mapping, PerfSample,
    StackUnwindError, ThreadDescriptor, TracePacket, TrackDescriptor, TrackEvent, trace_packet::Data,
    track_event,
};

/// What was written, with its number.
pub(super) struct Written {
    pub(super) symbols: Symbols,
    /// By the process as well, if addresses in it are among the frames.
    /// And whether it is cut.
    stacks: HashMap<(u32, Stack), (u64, bool)>,
    /// By the frame, and the function's number in it.
    frames: HashMap<(Rc<symbols::Frame>, usize), u64>,
    files: HashMap<(String, Option<BuildId>), u64>,
    threads: HashMap<(u32, &'static str), u64>,
}

impl Written {
    pub(super) fn new(symbols: Symbols) -> Self {
        let (stacks, frames, files, threads) = Default::default();
        Self { symbols, stacks, frames, files, threads }
    }

    /// The number of a stack that has frames, whether it is cut, and what must be written before it is used.
    fn stack(
        &mut self,
        event: &Event,
        stack: &Stack,
        names: &mut Names,
    ) -> (Option<u64>, bool, Option<InternedData>) {
        if stack.kernel.is_empty() && stack.user.is_empty() {
            return (None, stack.is_cut, None);
        }
        let is_address = |frame: &UserFrame| matches!(frame, UserFrame::Address(_));
        let key = (if stack.user.iter().any(is_address) { event.pid } else { 0 }, stack.clone());
        if let Some(&(known, is_cut)) = self.stacks.get(&key) {
            return (Some(known), is_cut, None);
        }
        let mut new = InternedData::default();
        let mut frame_ids = Vec::new();
        let named = self.symbols.frames(stack, names.process(event.pid, event.ns));
        let is_cut = named.is_cut;
        for frame in named.frames().iter().rev() {
            // The outermost function first.
            frame_ids.extend((0..frame.names.len()).rev().map(|at| self.frame(frame, at, &mut new)));
        }
        let iid = self.stacks.len() as u64 + 1;
        self.stacks.insert(key, (iid, is_cut));
        new.callstacks.push(Callstack { iid: Some(iid), frame_ids });
        (Some(iid), is_cut, Some(new))
    }

    fn frame(&mut self, frame: &Rc<symbols::Frame>, at: usize, new: &mut InternedData) -> u64 {
        let next = self.frames.len() as u64 + 1;
        let iid = *self.frames.entry((frame.clone(), at)).or_insert(next);
        if iid == next {
            let name = Some(frame.names[at].clone().into());
            new.function_names.push(InternedString { iid: Some(next), str: name });
            let mapping_id = Some(self.file(frame, new));
            let (iid, rel_pc) = (Some(next), Some(frame.offset));
            new.frames.push(Frame { iid, function_name_id: iid, mapping_id, rel_pc });
        }
        iid
    }

    fn file(&mut self, frame: &symbols::Frame, new: &mut InternedData) -> u64 {
        let next = self.files.len() as u64 + 1;
        let iid = *self.files.entry((frame.module.clone(), frame.build_id)).or_insert(next);
        if iid == next {
            let text = |str| InternedString { iid: Some(next), str: Some(str) };
            let path = if frame.module.is_empty() { "[no file]" } else { &*frame.module };
            new.mapping_paths.push(text(Bytes::copy_from_slice(path.as_bytes())));
            new.build_ids.extend(frame.build_id.map(|id| text(Bytes::copy_from_slice(&id))));
            let build_id = frame.build_id.map(|_| next);
            new.mappings.push(Mapping { iid: Some(next), build_id, path_string_ids: vec![next] });
        }
        iid
    }
}

impl Perfetto {
    pub(super) fn sample(&mut self, event: &Event, stack: &Stack, names: &mut Names) -> Result<()> {
        const SEQ_NEEDS_INCREMENTAL_STATE: u32 = 2;
        let (callstack_iid, is_cut, interned_data) = self.stacks.stack(event, stack, names);
        let mode = if stack.kernel.is_empty() { CpuMode::ModeUser } else { CpuMode::ModeKernel };
        let unwind_error = is_cut.then_some(StackUnwindError::UnwindErrorMaxFramesExceeded.into());
        self.packet(TracePacket {
            timestamp: Some(self.time(event.ns)),
            sequence_flags: Some(SEQ_NEEDS_INCREMENTAL_STATE),
            interned_data,
            ..of(Data::PerfSample(PerfSample {
                cpu: Some(event.cpu.into()),
                pid: Some(event.pid),
                tid: Some(event.tid),
                cpu_mode: Some(mode.into()),
                callstack_iid,
                unwind_error,
            }))
        })
    }

    /// The stack as a text, for the details of a slice.
    pub(super) fn text(&mut self, event: &Event, stack: &Stack, names: &mut Names) -> Bytes {
        let frames = self.stacks.symbols.frames_of_wait(stack, names.process(event.pid, event.ns));
        frames
            .frames()
            .iter()
            .flat_map(|frame| &*frame.names)
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join("\n")
            .into()
    }

    /// A slice of the thread that ends at this event, on a track with this name.
    pub(super) fn waited(
        &mut self,
        event: &Event,
        track: &'static str,
        ns: u64,
        name: String,
        details: Vec<(&'static str, Bytes)>,
    ) -> Result<()> {
        let uuid = self.thread_track(event, track)?;
        let detail = |(name, value): (&'static str, Bytes)| DebugAnnotation {
            name: Some(name.into()),
            string_value: Some(value),
        };
        let begin = TrackEvent {
            r#type: Some(track_event::Type::SliceBegin.into()),
            track_uuid: Some(uuid),
            categories: vec!["wait".into()],
            name: Some(name.into()),
            debug_annotations: details.into_iter().filter(|(_, text)| !text.is_empty()).map(detail).collect(),
        };
        let end = TrackEvent {
            r#type: Some(track_event::Type::SliceEnd.into()),
            debug_annotations: Vec::new(),
            name: None,
            ..begin.clone()
        };
        for (at, slice) in [(event.ns.saturating_sub(ns), begin), (event.ns, end)] {
            let timestamp = Some(self.time(at));
            self.packet(TracePacket { timestamp, ..of(Data::TrackEvent(slice)) })?;
        }
        Ok(())
    }

    /// The number of a track below those of the thread.
    fn thread_track(&mut self, event: &Event, track: &'static str) -> Result<u64> {
        const TRACKS: u64 = 5 << 32;
        let next = TRACKS + self.stacks.threads.len() as u64;
        let uuid = *self.stacks.threads.entry((event.tid, track)).or_insert(next);
        if uuid == next {
            let parent = 4 << 32 | u64::from(event.tid);
            let [pid, tid] = [event.pid, event.tid].map(|id| Some(id.cast_signed()));
            let thread = Some(ThreadDescriptor { pid, tid });
            let of_thread = TrackDescriptor { uuid: Some(parent), thread, ..TrackDescriptor::default() };
            self.packet(of(Data::TrackDescriptor(of_thread)))?;
            let name = Some(track.into());
            let parent_uuid = Some(parent);
            let own = TrackDescriptor { uuid: Some(uuid), parent_uuid, name, ..TrackDescriptor::default() };
            self.packet(of(Data::TrackDescriptor(own)))?;
        }
        Ok(uuid)
    }
}

/// The name of the slice of a wait.
pub(super) fn wait_name(state: u16) -> String {
    format!("off its CPU ({})", rows::state_letters(state))
}

/// The name of the slice of a wait for a lock.
pub(super) fn lock_name(lock: u64, flags: u32) -> String {
    format!("lock {lock:#x} ({})", rows::lock_kind(flags))
}
