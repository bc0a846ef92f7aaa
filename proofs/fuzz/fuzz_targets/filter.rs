//! Parses a filter, checks it against a type, and applies it to a record. The first line is the filter. The next 56 bytes are the
//! record, and the rest is BTF, whose last type the record has. If that is no BTF, the record has the type of the seeds.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use mapring_sys::btf::Btf;
use mapring_view::filter::{Filter, Names};
use mapring_view::value::{Value, decode};

const RECORD: usize = 56;
/// The type of the seeds.
const TYPE: u32 = 9;

static TYPES: LazyLock<Btf> =
    LazyLock::new(|| Btf::new(include_bytes!("../seeds/btf/record").to_vec()).expect("BTF"));

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(2, |&byte| byte == b'\n');
    let (text, rest) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let Some(filter) = str::from_utf8(text).ok().and_then(|text| Filter::parse(text).ok()) else { return };
    let (record, types) = rest.split_at(rest.len().min(RECORD));
    let types = Btf::new(types.to_vec());
    let ty = types.as_ref().and_then(|btf| btf.types().last()).or_else(|| TYPES.get(TYPE));
    for ty in [ty, None] {
        let decoded = |bytes: &[u8]| ty.map_or_else(|| Value::Bytes(bytes.to_vec()), |ty| decode(ty, bytes));
        for tail in [None, Some(&rest[record.len()..])] {
            let empty = Names { value: &decoded(&[0; RECORD]), tail: tail.map(|_| &[][..]), ty };
            let _ = filter.check(&[empty]);
            filter.holds(Names { value: &decoded(record), tail, ty });
        }
    }
});
