//! Profiles for `go tool pprof` and what reads its format: Grafana Pyroscope, speedscope, Polar Signals.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::Write;
use std::ops::Range;
use std::rc::Rc;
use std::time::UNIX_EPOCH;

use anyhow::Result;
use flate2::Compression;
use flate2::write::GzEncoder;
use mapring::time::Clock;
use prost::Message;

use super::super::super::symbols::{BuildId, Frame};
use super::{Kind, Summed};
use crate::messages::perftools::profiles::{
    Function, Label, Line, Location, Mapping, Profile, Sample, ValueType,
};

/// A profile under construction. Texts, files, functions and places have numbers, in the order in which they are added.
#[derive(Default)]
struct Builder {
    profile: Profile,
    texts: HashMap<String, i64>,
    mappings: HashMap<(String, Option<BuildId>), u64>,
    functions: HashMap<String, u64>,
    /// By the address of the frame: equal places share it.
    locations: HashMap<*const Frame, u64>,
}

/// The profile, compressed.
pub(super) fn profile(kind: Kind, hz: Option<u32>, stacks: &[Summed], span: Range<u64>) -> Result<Vec<u8>> {
    let mut builder = Builder::default();
    builder.text(""); // number 0
    let period = hz.map(|hz| 1_000_000_000 / u64::from(hz.max(1)));
    let (count, time) = if kind == Kind::Running { ("samples", "cpu") } else { ("contentions", "delay") };
    let types = [(count, "count"), (time, "nanoseconds")];
    let types = if kind == Kind::Running && period.is_none() { &types[..1] } else { &types };
    builder.profile.sample_type = types.iter().map(|(name, unit)| builder.value_type(name, unit)).collect();
    if kind == Kind::Running
        && let Some(period) = period
    {
        builder.profile.period_type = Some(builder.value_type("cpu", "nanoseconds"));
        builder.profile.period = signed(period);
    }
    // What was waited for longest is of interest, not how often.
    builder.profile.default_sample_type = builder.text(types[types.len() - 1].0);
    for stack in stacks {
        builder.stack(
            stack,
            if kind == Kind::Running {
                period.map(|one| one.saturating_mul(stack.weight.count))
            } else {
                Some(stack.weight.ns)
            },
        );
    }
    let wall = UNIX_EPOCH.elapsed().map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(u64::MAX));
    let ahead = wall.saturating_sub(Clock::Monotonic.now());
    builder.profile.time_nanos = signed(span.start.saturating_add(ahead));
    builder.profile.duration_nanos = signed(span.end.saturating_sub(span.start));
    let mut out = GzEncoder::new(Vec::new(), Compression::default());
    out.write_all(&builder.profile.encode_to_vec())?;
    Ok(out.finish()?)
}

impl Builder {
    fn text(&mut self, text: &str) -> i64 {
        if let Some(&number) = self.texts.get(text) {
            return number;
        }
        let number = signed(self.profile.string_table.len() as u64);
        self.profile.string_table.push(text.to_owned());
        self.texts.insert(text.to_owned(), number);
        number
    }

    fn value_type(&mut self, name: &str, unit: &str) -> ValueType {
        ValueType { r#type: self.text(name), unit: self.text(unit) }
    }

    fn stack(&mut self, stack: &Summed, ns: Option<u64>) {
        let label =
            |builder: &mut Self, key, num: u32| Label { key: builder.text(key), str: 0, num: num.into() };
        let comm = (self.text("comm"), self.text(&String::from_utf8_lossy(&stack.comm)));
        let mut labels = vec![label(self, "pid", stack.pid), label(self, "tid", stack.tid)];
        labels.extend((comm.1 != 0).then_some(Label { key: comm.0, str: comm.1, num: 0 }));
        let value = [Some(stack.weight.count), ns].into_iter().flatten().map(signed).collect();
        let location_id = stack.frames.iter().map(|frame| self.location(frame)).collect();
        self.profile.sample.push(Sample { location_id, value, label: labels });
    }

    fn location(&mut self, frame: &Rc<Frame>) -> u64 {
        if let Some(&id) = self.locations.get(&Rc::as_ptr(frame)) {
            return id;
        }
        let mapping_id = self.mapping(frame);
        let line = frame.names.iter().map(|name| Line { function_id: self.function(name) }).collect();
        let id = self.profile.location.len() as u64 + 1;
        self.profile.location.push(Location { id, mapping_id, address: frame.offset, line });
        self.locations.insert(Rc::as_ptr(frame), id);
        id
    }

    fn function(&mut self, name: &str) -> u64 {
        if let Some(&id) = self.functions.get(name) {
            return id;
        }
        let text = self.text(name);
        let id = self.profile.function.len() as u64 + 1;
        self.profile.function.push(Function { id, name: text, system_name: text, filename: 0 });
        self.functions.insert(name.to_owned(), id);
        id
    }

    /// The file of a frame, 0 if none is known. Addresses are offsets in it.
    fn mapping(&mut self, frame: &Frame) -> u64 {
        if frame.module.is_empty() {
            return 0;
        }
        let new = self.profile.mapping.len() as u64 + 1;
        let id = match self.mappings.entry((frame.module.clone(), frame.build_id)) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(vacant) => {
                vacant.insert(new);
                let hex = frame.build_id.map(|id| super::super::super::symbols::hex(&id)).unwrap_or_default();
                let (filename, build_id) = (self.text(&frame.module), self.text(&hex));
                // The names are in the profile: tools need not look for them.
                let mapping = Mapping {
                    id: new,
                    filename,
                    build_id,
                    has_functions: true,
                    has_inline_frames: true,
                    ..Mapping::default()
                };
                self.profile.mapping.push(mapping);
                new
            }
        };
        let mapping = self.profile.mapping.iter_mut().find(|mapping| mapping.id == id);
        if let Some(mapping) = mapping {
            mapping.memory_limit = mapping.memory_limit.max(frame.offset.saturating_add(1));
        }
        id
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
