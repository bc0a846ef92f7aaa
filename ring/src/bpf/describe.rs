//! Reads the description of a region from the BTF of a map's value: its kind, its records, its slots. The macros of the
//! BPF headers put it there (`MAPRING__TAG` in `abi.bpf.h`).

use std::cell::OnceCell;
use std::fmt;
use std::io;
use std::sync::Arc;

use mapring_core::text::printable;
use mapring_sys::MapInfo;
use mapring_sys::btf::{Btf, Field, Kind as TypeKind, Type};

use crate::abi::gauge::GAUGE;
use crate::abi::histogram::HISTOGRAM;
use crate::abi::top::BUCKET;
use crate::abi::{Geometry, GeometryError, Kind, Preamble, RingOptions, Tails};
use crate::error::Result;
use crate::loader::LoadedObject;

/// The field of values whose writers publish by plain stores, which only x86 keeps in order.
pub(crate) const TSO: &str = "mapring_tso";

/// A region as its BPF program declared it.
#[derive(Debug)]
pub(crate) struct Description {
    pub(crate) kind: Kind,
    record: u64,
    capacity: u64,
    pub(crate) options: RingOptions,
    /// The longest tail and the bytes of the area, for a ring with tails.
    tails: Option<(u64, u64)>,
    name: String,
}

/// What a description and a preamble both contain, for comparison and for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    kind: Kind,
    options: RingOptions,
    record: u64,
    capacity: u64,
    tails: Option<(u64, u64)>,
}

impl Shape {
    pub(crate) fn of(geometry: &Geometry) -> Self {
        Self {
            kind: geometry.kind(),
            options: geometry.options(),
            record: geometry.record() as u64,
            capacity: geometry.capacity() as u64,
            tails: geometry.tails().map(|tails| (tails.longest() as u64, tails.bytes() as u64)),
        }
    }

    /// Takes over the number of slots if both are resizable rings: it may change.
    pub(crate) fn other_slots(&mut self, other: &Self) {
        if self.options.is_resizable() && other.options == self.options {
            self.capacity = other.capacity;
        }
    }
}

/// `ring (KEEP_OLDEST): 64 of 16 bytes`
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if self.options != RingOptions::default() {
            write!(f, " ({})", self.options)?;
        }
        write!(f, ": {} of {} bytes", self.capacity, self.record)?;
        self.tails.map_or(Ok(()), |(longest, bytes)| write!(f, ", tails of {longest} in {bytes} bytes"))
    }
}

impl Description {
    /// Whether programs find it in a map of maps.
    pub(crate) fn in_map_of_maps(&self) -> bool {
        self.options.has_per_cpu_maps() || self.options.is_resizable()
    }

    /// The shape with `shards` shards, if the kind has shards.
    pub(crate) fn geometry(&self, shards: u64) -> Result<Geometry, GeometryError> {
        let sharded = self.kind.is_sharded() && !self.options.has_per_cpu_maps();
        let shards = if sharded { shards } else { 1 };
        let tails = self.tails.map(|(longest, bytes)| Tails::new(longest, bytes)).transpose()?;
        Geometry::new(self.kind, self.record, self.capacity, shards)?.with_options(self.options, tails)
    }

    /// The shape with the number of whole shards for which it has about `entries` elements.
    pub(crate) fn nearest(&self, entries: usize) -> Option<Geometry> {
        let one = self.geometry(1).ok()?;
        let shard = one.entries() - one.first();
        let shards = (entries.saturating_sub(one.first()) / shard).max(1);
        self.geometry(shards as u64).or(Ok::<_, GeometryError>(one)).ok()
    }

    /// A preamble with this geometry and this description, if they differ. Does not compare shards, since no declaration
    /// contains them, nor the slots of a resizable ring, which may change.
    pub(crate) fn contradicts(&self, geometry: &Geometry) -> Option<(Shape, Shape)> {
        let declared = self.shape();
        let mut found = Shape::of(geometry);
        found.other_slots(&declared);
        (found != declared).then_some((found, declared))
    }

    /// What it describes.
    pub(crate) fn shape(&self) -> Shape {
        let Self { kind, options, record, capacity, tails, .. } = *self;
        Shape { kind, options, record, capacity, tails }
    }

    /// The preamble of a map with `entries` elements, if these are a whole number of shards.
    pub(crate) fn preamble(&self, entries: usize, generation: u64) -> Option<Preamble> {
        let one = self.geometry(1).ok()?;
        let shard = one.entries() - one.first();
        let shards = entries.checked_sub(one.first())? / shard;
        let geometry = self.geometry(shards as u64).ok().filter(|geometry| geometry.entries() == entries)?;
        Some(Preamble { geometry, generation, name: self.name.clone() })
    }
}

/// Reads the description from the BTF of a map's value type.
pub(crate) fn from_btf(btf: &Btf, value: u32) -> Option<Description> {
    let value = btf.get(value).filter(|value| value.kind() == TypeKind::Struct)?;
    let name = str::from_utf8(value.name()).ok()?.strip_prefix("mapring_")?;
    let (_, kind) = [
        ("ring__", Kind::Ring),
        ("cell__", Kind::Cells),
        ("latch__", Kind::Latches),
        ("counters__", Kind::Counters),
        ("histograms__", Kind::Histograms),
        ("gauges__", Kind::Gauges),
        ("top__", Kind::TopKeys),
        ("percpu_cell__", Kind::PerCpuCells),
        ("percpu_counters__", Kind::PerCpuCounters),
        ("readers__", Kind::Readers),
        ("commands__", Kind::Commands),
    ]
    .into_iter()
    .find(|(prefix, _)| name.starts_with(prefix))?;

    // The inner length of a member without bytes.
    let length = |name| Some(value.field(name)?.ty.array()?.0.array()?.1 as u64);
    let capacity = length(TSO).or_else(|| length("mapring_any"))?;
    let tails = length("mapring_longest").zip(length("mapring_tails"));
    let options = match kind {
        // An object of an older version has no options.
        Kind::Ring => RingOptions::from_bits(length("mapring_options")?)?,
        _ => RingOptions::default(),
    };
    let (record, record_name) = match kind {
        Kind::Counters | Kind::PerCpuCounters | Kind::Readers => (8, "u64".to_owned()),
        Kind::Histograms => (HISTOGRAM as u64, "u64".to_owned()),
        Kind::Gauges => (GAUGE as u64, "u64".to_owned()),
        Kind::TopKeys => (BUCKET as u64, "u64".to_owned()),
        _ => {
            let record = record_type(value)?;
            (record.bytes()?, printable(&String::from_utf8_lossy(record.first_name().unwrap_or_default())))
        }
    };
    Some(Description { kind, options, record, capacity, tails, name: record_name })
}

/// The types of a map: read once, when they are first needed.
pub(crate) struct Types {
    btf_id: u32,
    value: u32,
    btf: OnceCell<io::Result<Arc<Btf>>>,
}

impl Types {
    /// The types of the map's object, if they are the map's (it may be an older one that the object uses); otherwise from
    /// the kernel.
    pub(super) fn new(info: &MapInfo, object: Option<&LoadedObject>) -> Self {
        let known = object.and_then(|object| object.btf_of(info.btf_id)).map(|btf| Ok(btf.clone()));
        Self {
            btf_id: info.btf_id,
            value: info.value_type,
            btf: known.map_or_else(OnceCell::new, OnceCell::from),
        }
    }

    /// All types. The first call makes system calls.
    pub(crate) fn btf(&self) -> Result<&Btf, &io::Error> {
        self.btf.get_or_init(|| Btf::load(self.btf_id).map(Arc::new)).as_deref()
    }

    /// All types, for as long as they are needed.
    pub(crate) fn into_btf(self) -> io::Result<Arc<Btf>> {
        self.btf.into_inner().unwrap_or_else(|| Btf::load(self.btf_id).map(Arc::new))
    }

    /// Whether the kernel refuses to show them to this process.
    pub(crate) fn are_denied(&self) -> bool {
        self.btf().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    }

    /// The region that the types describe.
    pub(crate) fn region(&self) -> Option<Description> {
        from_btf(self.btf().ok()?, self.value)
    }

    /// The type of its values.
    pub(crate) fn value<'btf>(&self, btf: &'btf Btf) -> Option<Type<'btf>> {
        // 0 is void: no type was given.
        btf.get(self.value).filter(|value| value.id != 0)
    }

    /// The type of its records.
    pub(crate) fn record<'btf>(&self, btf: &'btf Btf) -> Option<Type<'btf>> {
        record_type(btf.get(self.value)?)
    }

    /// The fields of the map's value that the kernel hides: name of the type, offset, bytes.
    pub(crate) fn hidden_fields(&self) -> Vec<(String, usize, usize)> {
        const HIDDEN: [&[u8]; 8] = [
            b"bpf_spin_lock",
            b"bpf_res_spin_lock",
            b"bpf_timer",
            b"bpf_wq",
            b"bpf_list_head",
            b"bpf_rb_root",
            b"bpf_refcount",
            b"bpf_task_work",
        ];
        let Some(value) = self.btf().ok().and_then(|btf| btf.get(self.value)) else { return Vec::new() };
        // Locks and timers are in structs, never in arrays of structs.
        let is_struct = |field: &Field<'_>| field.ty.resolved().kind() == TypeKind::Struct;
        let is_hidden = |field: &Field<'_>| HIDDEN.contains(&field.ty.resolved().name());
        let mut fields = value.fields_within(|field| is_struct(field) && !is_hidden(field));
        fields.retain(|field| is_struct(field) && is_hidden(field));
        let shown = |field: Field<'_>| {
            let bytes = field.ty.bytes().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or_default();
            (String::from_utf8_lossy(field.ty.resolved().name()).into_owned(), field.from / 8, bytes)
        };
        fields.into_iter().map(shown).collect()
    }
}

/// The type of the records in a value of a region, or in a guarded variable.
pub(crate) fn record_type(value: Type<'_>) -> Option<Type<'_>> {
    if value.kind() != TypeKind::Struct {
        return None;
    }
    // In a ring with tails, a value is a whole shard.
    let slot = value.field("slot").and_then(|slots| slots.ty.array()).map(|(slot, _)| slot);
    Some(slot.filter(|slot| slot.kind() == TypeKind::Struct).unwrap_or(value).field("record")?.ty)
}
