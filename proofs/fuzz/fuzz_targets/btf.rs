//! Parses BTF, and walks all types, fields and constants. Decodes a value of each type.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mapring_fuzz::assert_printable;
use mapring_sys::btf::{Btf, Type};
use mapring_view::value;

/// How many types are walked with all that they contain: that takes up to 2^18 steps each.
const DEEP: usize = 8;

fuzz_target!(|bytes: &[u8]| {
    let Some(btf) = Btf::new(bytes.to_vec()) else { return };
    assert_eq!(btf.as_bytes(), bytes);
    for (at, ty) in btf.types().enumerate() {
        assert_eq!(btf.get(ty.id).map(|ty| ty.id), Some(ty.id));
        walk(ty);
        if at < DEEP {
            contents(ty, bytes);
        }
    }
});

fn walk(ty: Type<'_>) {
    let _ = (ty.name(), ty.first_name(), ty.target().map(Type::kind), ty.resolved().kind());
    let _ = (ty.bytes(), ty.encoding(), ty.is_signed(), ty.array().map(|(of, count)| (of.id, count)));
    let members = ty.members_len();
    assert!(ty.constants().count() <= members && ty.variables().count() <= members);
    for (_, value) in ty.constants().take(4) {
        assert!(ty.constant(value).is_some());
    }
    let fields: Vec<_> = ty.fields().collect();
    assert!(fields.len() <= members);
    for field in fields {
        assert!(field.name.len() <= 512 && field.bits < 256);
        if let Ok(name) = str::from_utf8(field.name) {
            assert!(ty.field(name).is_some());
        }
    }
}

fn contents(ty: Type<'_>, bytes: &[u8]) {
    assert!(ty.fields_within(|_| true).len() <= 1 << 14);
    assert_printable(value::decode(ty, bytes).to_string().as_bytes());
}
