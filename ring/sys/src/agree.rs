//! Compares this crate's own BTF reader, names and constants with libbpf's.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::mem::offset_of;

use libbpf_rs::btf::types::{Composite, MemberAttr};
use libbpf_rs::btf::{self, BtfType, HasSize, TypeId};
use libbpf_rs::libbpf_sys;

use crate::btf::{Btf, Kind};
use crate::kinds::{MapType, program_type_name};
use crate::uapi;

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
        assert!(of_ours.eq(of_theirs), "type {}", ty.id);
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
            // SAFETY: not null, so it is one of libbpf's C strings, which are static.
            (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_str().unwrap())
        });
        let map =
            map.map_or(format!("a map of unknown type {number}"), |name| format!("a map of type {name}"));
        assert_eq!(MapType(number).to_string(), map);
        assert_eq!(program_type_name(number), program.map_or(number.to_string(), str::to_owned));
    }
}

#[test]
fn commands_and_what_they_answer_are_the_kernels() {
    let commands = [
        (uapi::MAP_CREATE, libbpf_sys::BPF_MAP_CREATE),
        (uapi::MAP_LOOKUP_ELEM, libbpf_sys::BPF_MAP_LOOKUP_ELEM),
        (uapi::MAP_UPDATE_ELEM, libbpf_sys::BPF_MAP_UPDATE_ELEM),
        (uapi::MAP_DELETE_ELEM, libbpf_sys::BPF_MAP_DELETE_ELEM),
        (uapi::MAP_GET_NEXT_KEY, libbpf_sys::BPF_MAP_GET_NEXT_KEY),
        (uapi::PROG_LOAD, libbpf_sys::BPF_PROG_LOAD),
        (uapi::OBJ_PIN, libbpf_sys::BPF_OBJ_PIN),
        (uapi::OBJ_GET, libbpf_sys::BPF_OBJ_GET),
        (uapi::PROG_GET_FD_BY_ID, libbpf_sys::BPF_PROG_GET_FD_BY_ID),
        (uapi::MAP_GET_FD_BY_ID, libbpf_sys::BPF_MAP_GET_FD_BY_ID),
        (uapi::OBJ_GET_INFO_BY_FD, libbpf_sys::BPF_OBJ_GET_INFO_BY_FD),
        (uapi::BTF_GET_FD_BY_ID, libbpf_sys::BPF_BTF_GET_FD_BY_ID),
        (uapi::MAP_FREEZE, libbpf_sys::BPF_MAP_FREEZE),
        (uapi::MAP_LOOKUP_BATCH, libbpf_sys::BPF_MAP_LOOKUP_BATCH),
        (uapi::MAP_UPDATE_BATCH, libbpf_sys::BPF_MAP_UPDATE_BATCH),
    ];
    assert!(commands.into_iter().all(|(ours, theirs)| ours.cast_unsigned() == theirs));
    macro_rules! same {
        ($($ours:ident::$our:ident == $theirs:ident::$their:ident)*) => {
            $(assert_eq!(offset_of!(uapi::$ours, $our), offset_of!(libbpf_sys::$theirs, $their));)*
        };
    }
    same! {
        MapInfo::name == bpf_map_info::name
        MapInfo::btf_id == bpf_map_info::btf_id
        MapInfo::value_type == bpf_map_info::btf_value_type_id
        ProgramInfo::name == bpf_prog_info::name
        BtfInfo::size == bpf_btf_info::btf_size
    }
}
