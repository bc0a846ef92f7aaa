//! Stacks in a trace for Perfetto: samples with callstacks, whose frames and files are written once, and waits as slices.

use std::collections::HashMap;

use anyhow::Result;
use prost::bytes::Bytes;

use super::super::super::event::Event;
use super::super::super::stack::{Stack, UserFrame};
use super::super::{frames, rows};
use super::{Perfetto, of};
use crate::messages::perfetto::protos::profiling::{CpuMode, StackUnwindError};
use crate::messages::perfetto::protos::{
    Callstack, DebugAnnotation, Frame, InternedData, InternedString, Mapping, PerfSample, ThreadDescriptor,
    TracePacket, TrackDescriptor, TrackEvent, trace_packet::Data, track_event,
};

/// What was written, with its number.
#[derive(Default)]
pub(super) struct Written {
    stacks: HashMap<Stack, u64>,
    frames: HashMap<Place, u64>,
    files: HashMap<Option<Bytes>, u64>,
    threads: HashMap<(u32, &'static str), u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    Kernel(u64),
    User(UserFrame),
}

/// The file of frames that have none with a build id.
const KERNEL: &[u8] = b"[kernel]";

impl Written {
    /// The number of a stack that has frames, and what must be written before it is used.
    fn stack(&mut self, stack: &Stack) -> (Option<u64>, Option<InternedData>) {
        let is_empty = stack.kernel.is_empty() && stack.user.is_empty();
        if let Some(known) = self.stacks.get(stack).copied().or(is_empty.then_some(0)) {
            return (Some(known).filter(|_| !is_empty), None);
        }
        let mut new = InternedData::default();
        let kernel = stack.kernel.iter().map(|address| Place::Kernel(*address));
        let places = kernel.chain(stack.user.iter().map(|frame| Place::User(*frame)));
        let mut frame_ids: Vec<_> =
            places.zip(frames::of(stack)).map(|(place, name)| self.frame(place, name, &mut new)).collect();
        frame_ids.reverse(); // the outermost first
        let iid = self.stacks.len() as u64 + 1;
        self.stacks.insert(stack.clone(), iid);
        new.callstacks.push(Callstack { iid: Some(iid), frame_ids });
        (Some(iid), Some(new))
    }

    fn frame(&mut self, place: Place, name: String, new: &mut InternedData) -> u64 {
        let next = self.frames.len() as u64 + 1;
        let iid = *self.frames.entry(place).or_insert(next);
        if iid == next {
            let (file, pc) = match place {
                Place::Kernel(address) => (Some(Bytes::from_static(KERNEL)), address),
                Place::User(UserFrame::File { build_id, offset }) => {
                    (Some(Bytes::copy_from_slice(&build_id)), offset)
                }
                Place::User(UserFrame::Address(address)) => (None, address),
            };
            let text = |str| InternedString { iid: Some(next), str: Some(str) };
            new.function_names.push(text(name.into()));
            let mapping = Some(self.file(file, new));
            new.frames.push(Frame {
                iid: Some(next),
                function_name_id: Some(next),
                mapping_id: mapping,
                rel_pc: Some(pc),
            });
        }
        iid
    }

    fn file(&mut self, file: Option<Bytes>, new: &mut InternedData) -> u64 {
        let next = self.files.len() as u64 + 1;
        let iid = *self.files.entry(file.clone()).or_insert(next);
        if iid == next {
            let has_build_id = file.as_deref().is_some_and(|file| file != KERNEL);
            let path = match &file {
                Some(id) if has_build_id => {
                    id.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
                }
                Some(kernel) => kernel.clone(),
                None => Bytes::from_static(b"[no file]"),
            };
            let text = |str| InternedString { iid: Some(next), str: Some(str) };
            new.mapping_paths.push(text(path));
            new.build_ids.extend(file.filter(|_| has_build_id).map(text));
            let build_id = has_build_id.then_some(next);
            new.mappings.push(Mapping { iid: Some(next), build_id, path_string_ids: vec![next] });
        }
        iid
    }
}

impl Perfetto {
    pub(super) fn sample(&mut self, event: &Event, stack: &Stack) -> Result<()> {
        const SEQ_NEEDS_INCREMENTAL_STATE: u32 = 2;
        let (callstack_iid, interned_data) = self.stacks.stack(stack);
        let mode = if stack.kernel.is_empty() { CpuMode::ModeUser } else { CpuMode::ModeKernel };
        let unwind_error = stack.is_cut.then_some(StackUnwindError::UnwindErrorMaxFramesExceeded.into());
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

/// The stack as a text, for the details of a slice.
pub(super) fn text(stack: &Stack) -> Bytes {
    frames::of(stack).collect::<Vec<_>>().join("\n").into()
}

/// The name of the slice of a wait.
pub(super) fn wait_name(state: u16) -> String {
    format!("off its CPU ({})", rows::state_letters(state))
}

/// The name of the slice of a wait for a lock.
pub(super) fn lock_name(lock: u64, flags: u32) -> String {
    format!("lock {lock:#x} ({})", rows::lock_kind(flags))
}
