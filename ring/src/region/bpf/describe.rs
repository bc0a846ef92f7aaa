//! What the BTF of a map's value says of a region: which kind, what records, how many slots.
//! The macros of the BPF headers put it there (`MAPRING__TAG` in `abi.bpf.h`).

use std::cell::OnceCell;
use std::io;

use libbpf_rs::MapInfo;
use libbpf_rs::btf::types::{Array, Struct};
use libbpf_rs::btf::{Btf, BtfType, TypeId};

use crate::layout::{Geometry, GeometryError, Kind, Preamble};
use crate::text::printable;

/// A region as its BPF program declared it.
#[derive(Debug)]
pub(crate) struct Description {
    pub(crate) kind: Kind,
    record: u64,
    capacity: u64,
    /// A ring that is in a map of maps.
    pub(crate) inner: Option<Inner>,
    name: String,
    /// Writers publish by plain stores, which x86 alone keeps in order.
    pub(crate) tso: bool,
}

/// Why a ring is in a map of maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inner {
    /// So that another can take its place.
    Resizable,
    /// As the shard of one CPU, on the node of that.
    OfCpu,
}

impl Description {
    /// The shape with `shards` shards, of what has such.
    pub(crate) fn geometry(&self, shards: u64) -> Result<Geometry, GeometryError> {
        let sharded = matches!(self.kind, Kind::Ring | Kind::Counters) && self.inner != Some(Inner::OfCpu);
        let geometry =
            Geometry::new(self.kind, self.record, self.capacity, if sharded { shards } else { 1 })?;
        match self.inner {
            None => Ok(geometry),
            Some(Inner::Resizable) => geometry.resizable(),
            Some(Inner::OfCpu) => geometry.of_cpu(),
        }
    }

    /// The shape of so many whole shards that it has about `entries` elements.
    pub(crate) fn nearest(&self, entries: usize) -> Option<Geometry> {
        let one = self.geometry(1).ok()?;
        let shard = one.entries() - one.first();
        let shards = (entries.saturating_sub(one.first()) / shard).max(1);
        self.geometry(shards as u64).or(Ok::<_, GeometryError>(one)).ok()
    }

    /// What a preamble with this geometry says, and what this says instead, if they differ. Both for people. Shards are
    /// left out, as nothing declares them, and so are the slots of a ring that is made to change them.
    pub(crate) fn contradicts(&self, geometry: &Geometry) -> Option<(String, String)> {
        let inner = match geometry {
            ring if ring.is_resizable() => Some(Inner::Resizable),
            ring if ring.is_of_cpu() => Some(Inner::OfCpu),
            _ => None,
        };
        let resized = inner == Some(Inner::Resizable) && self.inner == inner;
        let capacity = if resized { self.capacity } else { geometry.capacity() as u64 };
        let preamble = (geometry.kind(), inner, geometry.record() as u64, capacity);
        let described = (self.kind, self.inner, self.record, self.capacity);
        let shown = |(kind, inner, record, capacity): (Kind, Option<Inner>, u64, u64)| {
            let sort = match inner {
                None => "",
                Some(Inner::Resizable) => "resizable ",
                Some(Inner::OfCpu) => "NUMA ",
            };
            format!("{sort}{kind}: {capacity} of {record} bytes")
        };
        (preamble != described).then(|| (shown(preamble), shown(described)))
    }

    /// The preamble of a map with `entries` elements, if that is a whole number of shards.
    pub(crate) fn preamble(&self, entries: usize, generation: u64) -> Option<Preamble> {
        let one = self.geometry(1).ok()?;
        let shard = one.entries() - one.first();
        let shards = entries.checked_sub(one.first())? / shard;
        let geometry = self.geometry(shards as u64).ok().filter(|geometry| geometry.entries() == entries)?;
        Some(Preamble { geometry, generation, name: self.name.clone() })
    }
}

/// Reads it from the BTF of a map's value type.
pub(crate) fn from_btf(btf: &Btf<'_>, value: u32) -> Option<Description> {
    let value: Struct<'_> = btf.type_by_id(TypeId::from(value))?;
    let name = value.name()?.to_str()?.strip_prefix("mapring_")?;
    let (kind, inner) = [
        ("ring__", Kind::Ring, None),
        ("inner_ring__", Kind::Ring, Some(Inner::Resizable)),
        ("numa_ring__", Kind::Ring, Some(Inner::OfCpu)),
        ("cell__", Kind::Cells, None),
        ("latch__", Kind::Latches, None),
        ("counters__", Kind::Counters, None),
        ("percpu_cell__", Kind::PerCpuCells, None),
        ("percpu_counters__", Kind::PerCpuCounters, None),
    ]
    .into_iter()
    .find_map(|(prefix, kind, inner)| name.starts_with(prefix).then_some((kind, inner)))?;
    let member =
        |name: &str| value.iter().find(|member| member.name.is_some_and(|n| n == name)).map(|m| m.ty);

    let (tag, tso) = match member("mapring_tso") {
        Some(tag) => (tag, true),
        None => (member("mapring_any")?, false),
    };
    let outer: Array<'_> = btf.type_by_id(tag)?;
    let capacity = Array::try_from(outer.contained_type()).ok()?.capacity() as u64;
    let (record, name) = match kind {
        Kind::Counters | Kind::PerCpuCounters => (8, "u64".to_owned()),
        _ => {
            let record: BtfType<'_> = btf.type_by_id(member("record")?)?;
            let name = std::iter::successors(Some(record), BtfType::next_type).find_map(|t| t.name());
            (size_of(record)?, name.map(|name| printable(&name.to_string_lossy())).unwrap_or_default())
        }
    };
    Some(Description { kind, record, capacity, inner, name, tso })
}

/// The types of a map, as the kernel keeps them: read when they are first asked for, and once.
pub(crate) struct Types {
    btf_id: u32,
    value: TypeId,
    btf: OnceCell<io::Result<Btf<'static>>>,
}

impl Types {
    pub(crate) fn new(info: &MapInfo) -> Self {
        let (btf_id, value) = (info.info.btf_id, info.info.btf_value_type_id.into());
        Self { btf_id, value, btf: OnceCell::new() }
    }

    /// All of them. Makes system calls the first time, and takes CAP_SYS_ADMIN.
    pub(crate) fn btf(&self) -> Result<&Btf<'static>, &io::Error> {
        self.btf.get_or_init(|| kernel::btf(self.btf_id)).as_ref()
    }

    /// The region that they describe.
    pub(crate) fn region(&self) -> Option<Description> {
        from_btf(self.btf().ok()?, self.value.into())
    }

    /// The type of its values.
    pub(crate) fn value<'btf>(&self, btf: &'btf Btf<'_>) -> Option<BtfType<'btf>> {
        // 0 is void: nobody said.
        (self.value != 0.into()).then(|| btf.type_by_id(self.value))?
    }

    /// The type of its records.
    pub(crate) fn record<'btf>(&self, btf: &'btf Btf<'_>) -> Option<BtfType<'btf>> {
        record_type(btf, self.value)
    }

    /// The fields of the map's value that the kernel shows to nobody: name of the type, offset, bytes.
    pub(crate) fn hidden_fields(&self) -> Vec<(String, usize, usize)> {
        let mut found = Vec::new();
        if let Ok(btf) = self.btf()
            && let Some(value) = btf.type_by_id::<BtfType<'_>>(self.value)
        {
            find_hidden(btf, value, 0, &mut found);
        }
        found
    }
}

/// Bytes of a type, behind its qualifiers and typedefs.
pub(crate) fn size_of(ty: BtfType<'_>) -> Option<u64> {
    use libbpf_rs::btf::HasSize;
    use libbpf_rs::btf::types::{Composite, Enum, Enum64, Float, Int, Ptr};
    let ty = ty.skip_mods_and_typedefs();
    if let Ok(array) = Array::try_from(ty) {
        return size_of(array.contained_type())?.checked_mul(array.capacity() as u64);
    }
    let size = Composite::try_from(ty)
        .map(|t| t.size())
        .or_else(|_| Int::try_from(ty).map(|t| t.size()))
        .or_else(|_| Enum::try_from(ty).map(|t| t.size()))
        .or_else(|_| Enum64::try_from(ty).map(|t| t.size()))
        .or_else(|_| Float::try_from(ty).map(|t| t.size()))
        .or_else(|_| Ptr::try_from(ty).map(|_| std::mem::size_of::<usize>()));
    size.ok().map(|size| size as u64)
}

fn find_hidden(btf: &Btf<'_>, ty: BtfType<'_>, base: usize, into: &mut Vec<(String, usize, usize)>) {
    use libbpf_rs::btf::HasSize;
    use libbpf_rs::btf::types::MemberAttr;
    const HIDDEN: [&str; 8] = [
        "bpf_spin_lock",
        "bpf_res_spin_lock",
        "bpf_timer",
        "bpf_wq",
        "bpf_list_head",
        "bpf_rb_root",
        "bpf_refcount",
        "bpf_task_work",
    ];
    // Locks and timers are in structs, and not in arrays of them.
    let Ok(value) = Struct::try_from(ty.skip_mods_and_typedefs()) else { return };
    if let Some(name) = value.name().and_then(|name| name.to_str()).filter(|name| HIDDEN.contains(name)) {
        into.push((name.to_owned(), base, value.size()));
        return;
    }
    for member in (0..value.len()).filter_map(|at| value.get(at)) {
        if let (MemberAttr::Normal { offset }, Some(ty)) =
            (member.attr, btf.type_by_id::<BtfType<'_>>(member.ty))
        {
            find_hidden(btf, ty, base + offset as usize / 8, into);
        }
    }
}

/// The type of the records of a region, or of a guarded variable, out of its own.
pub(crate) fn record_type<'btf>(btf: &'btf Btf<'_>, value: TypeId) -> Option<BtfType<'btf>> {
    let value: Struct<'_> = btf.type_by_id(value)?;
    let mut members = (0..value.len()).filter_map(|at| value.get(at));
    let record = members.find(|member| member.name.is_some_and(|name| name == "record"))?;
    btf.type_by_id(record.ty)
}

/// The one thing that libbpf-rs has no call for: BTF by its id.
pub(crate) mod kernel {
    #![allow(unsafe_code)]

    use std::io::{self, Write};
    use std::os::fd::AsRawFd;
    use std::ptr::NonNull;

    use libbpf_rs::btf::Btf;
    use libbpf_rs::libbpf_sys;
    use rustix::fs::MemfdFlags;
    use rustix::io::Errno;

    /// The kernel's BTF `id`, by way of a memory file that libbpf-rs can open. ENOENT: there is none.
    pub(crate) fn btf(id: u32) -> io::Result<Btf<'static>> {
        if id == 0 {
            return Err(Errno::NOENT.into());
        }
        // SAFETY: any id is fine; the result is null or a BTF object that is ours to free.
        let btf = NonNull::new(unsafe { libbpf_sys::btf__load_from_kernel_by_id(id) })
            .ok_or_else(io::Error::last_os_error)?;
        let mut size = 0;
        // SAFETY: `btf` is live; what is returned has `size` bytes and lives as long as `btf`.
        let data = unsafe { libbpf_sys::btf__raw_data(btf.as_ptr(), &raw mut size) };
        let bytes = (!data.is_null()).then(|| {
            // SAFETY: as libbpf promised above; copied before `btf` is freed.
            unsafe { std::slice::from_raw_parts(data.cast::<u8>(), size as usize) }.to_vec()
        });
        // SAFETY: `btf` is ours, and used no more.
        unsafe { libbpf_sys::btf__free(btf.as_ptr()) };

        let mut file = std::fs::File::from(rustix::fs::memfd_create("btf", MemfdFlags::CLOEXEC)?);
        file.write_all(&bytes.ok_or(Errno::NOMEM)?)?;
        Btf::from_path(format!("/proc/self/fd/{}", file.as_raw_fd())).map_err(io::Error::other)
    }
}
