//! What this crate reads and names itself, against libbpf.
#![allow(unsafe_code)]

use std::ffi::CStr;

use libbpf_rs::btf::types::{Composite, MemberAttr};
use libbpf_rs::btf::{self, BtfType, HasSize, TypeId};
use libbpf_rs::libbpf_sys;

use crate::bpf::btf::{Btf, Kind};
use crate::bpf::kinds::{MapType, program_type_name};

const KERNEL: &str = "/sys/kernel/btf/vmlinux";

#[test]
fn types_of_the_kernel_are_the_same() {
    let Ok(bytes) = std::fs::read(KERNEL) else {
        eprintln!("SKIPPED: no {KERNEL}");
        return;
    };
    let (ours, theirs) = (Btf::new(bytes).unwrap(), btf::Btf::from_path(KERNEL).unwrap());
    assert_eq!(ours.types().count() + 1, theirs.len());
    let text = |name: Option<&std::ffi::OsStr>| name.unwrap_or_default().as_encoded_bytes().to_vec();
    let (mut structs, mut fields) = (0, 0);
    for ty in ours.types() {
        let their: BtfType<'_> = theirs.type_by_id(TypeId::from(ty.id)).unwrap();
        assert_eq!(
            (ty.name(), format!("{:?}", ty.kind())),
            (&*text(their.name()), format!("{:?}", their.kind()))
        );
        let Ok(their) = Composite::try_from(their) else {
            assert!(!matches!(ty.kind(), Kind::Struct | Kind::Union));
            continue;
        };
        assert_eq!(ty.bytes(), Some(their.size() as u64));
        let of_ours = ty.fields().map(|f| (f.name.to_vec(), f.ty.id, f.from, f.bits));
        let of_theirs = their.iter().map(|member| {
            let (from, bits) = match member.attr {
                MemberAttr::Normal { offset } => (offset, 0),
                MemberAttr::BitField { size, offset } => (offset, size),
            };
            (text(member.name), u32::from(member.ty), from as usize, u32::from(bits))
        });
        structs += 1;
        fields += their.len();
        assert!(of_ours.eq(of_theirs), "{ty:?}");
    }
    assert!(structs > 1000 && fields > 10_000, "{structs} structs, {fields} fields");
}

#[test]
fn types_of_maps_and_programs_have_the_same_names() {
    for number in 0..64 {
        // SAFETY: any number is fine.
        let [map, program] = [unsafe { libbpf_sys::libbpf_bpf_map_type_str(number) }, unsafe {
            libbpf_sys::libbpf_bpf_prog_type_str(number)
        }]
        .map(|name| {
            // SAFETY: not null, so one of libbpf's C strings, which stay.
            (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_str().unwrap())
        });
        let map =
            map.map_or(format!("a map of unknown type {number}"), |name| format!("a map of type {name}"));
        assert_eq!(MapType(number).to_string(), map);
        assert_eq!(program_type_name(number), program.map_or(number.to_string(), str::to_owned));
    }
}
