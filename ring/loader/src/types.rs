//! The types of libbpf's objects: of an open one from libbpf's copy, of a loaded one from the kernel.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr::NonNull;
use std::{io, slice};

use libbpf_rs::{AsRawLibbpf, Object, OpenObject, libbpf_sys};
use mapring::loader::LoadedObject;
use mapring::{Error, ErrorKind, Result};
use mapring_sys::btf::Btf;

/// The types of an open object, if it has any.
pub(crate) fn types_of(object: &OpenObject) -> Result<Option<Btf>> {
    let no_memory = || failed(io::ErrorKind::OutOfMemory.into());
    // SAFETY: the object is open as long as it is borrowed.
    let btf = unsafe { libbpf_sys::bpf_object__btf(object.as_libbpf_object().as_ptr()) };
    if btf.is_null() {
        return Ok(None);
    }
    // Uses a copy: libbpf would keep the raw bytes of the object's own BTF and load them, ignoring its later changes.
    // SAFETY: no preconditions.
    let copy = NonNull::new(unsafe { libbpf_sys::btf__new_empty() }).ok_or_else(no_memory)?;
    // SAFETY: both are live BTF.
    let copied = unsafe { libbpf_sys::btf__add_btf(copy.as_ptr(), btf) };
    let mut size = 0;
    // SAFETY: the copy is live, and it owns the bytes.
    let bytes = unsafe { libbpf_sys::btf__raw_data(copy.as_ptr(), &raw mut size) };
    let bytes = (copied >= 0 && !bytes.is_null()).then(|| {
        // SAFETY: libbpf returned this number of bytes, which live as long as the copy.
        unsafe { slice::from_raw_parts(bytes.cast::<u8>(), size as usize) }.to_vec()
    });
    // SAFETY: this function owns the copy, and does not use it again.
    unsafe { libbpf_sys::btf__free(copy.as_ptr()) };
    match Btf::new(bytes.ok_or_else(no_memory)?) {
        None => {
            Err(failed(io::Error::other("it has kinds of types that this version of mapring does not know")))
        }
        btf => Ok(btf),
    }
}

/// The types of a loaded object, if it has any. Opening them by their id would need CAP_SYS_ADMIN, but libbpf has a
/// descriptor of them. Makes system calls.
pub(crate) fn types_of_loaded(object: &Object) -> Result<Option<LoadedObject>> {
    // SAFETY: the object is loaded as long as it is borrowed.
    let fd = unsafe { libbpf_sys::bpf_object__btf_fd(object.as_libbpf_object().as_ptr()) };
    if fd < 0 {
        return Ok(None);
    }
    // SAFETY: the object owns the descriptor, and is borrowed longer than this function uses it.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    fd.try_clone_to_owned().and_then(LoadedObject::new).map(Some).map_err(failed)
}

/// The license of an open object, from a variable of this many bytes. libbpf has no function for it, but its objects begin
/// with `char name[16]`, which has one, and `char license[64]`. `None` unless these are text of that length.
pub(crate) fn license(object: &OpenObject, bytes: usize) -> Option<String> {
    const NAME: usize = 16;
    const LICENSE: usize = 64;
    let length = bytes.checked_sub(1).filter(|&length| length < LICENSE)?;
    let object = object.as_libbpf_object().as_ptr();
    // SAFETY: the object is open as long as it is borrowed.
    let name = unsafe { libbpf_sys::bpf_object__name(object) };
    if !std::ptr::eq(name.cast(), object) {
        return None; // the name is elsewhere in this libbpf
    }
    let license = name.cast::<u8>().wrapping_add(NAME);
    // SAFETY: libbpf's object begins with the name, is much larger than both arrays, and stays as long as it is borrowed. All
    // bytes of it were written.
    let license = unsafe { slice::from_raw_parts(license, LICENSE) };
    let text = CStr::from_bytes_until_nul(license).ok()?.to_str().ok()?;
    (text.len() == length && text.chars().all(|c| c.is_ascii_graphic() || c == ' ')).then(|| text.to_owned())
}

/// Whether the kernel's own types have this function.
pub(crate) fn kernel_has(function: &str) -> bool {
    // SAFETY: no preconditions.
    let Some(btf) = NonNull::new(unsafe { libbpf_sys::btf__load_vmlinux_btf() }) else { return false };
    let name = CString::new(function).expect("no NUL");
    // SAFETY: both live.
    let id =
        unsafe { libbpf_sys::btf__find_by_name_kind(btf.as_ptr(), name.as_ptr(), libbpf_sys::BTF_KIND_FUNC) };
    // SAFETY: this function owns the types, and does not use them again.
    unsafe { libbpf_sys::btf__free(btf.as_ptr()) };
    id > 0
}

/// Whether the object's section `.maps` declares this map. (libbpf makes others for sections of data and for `struct_ops`.)
pub(crate) fn is_declared(map: &impl AsRawLibbpf<LibbpfType = libbpf_sys::bpf_map>) -> bool {
    let map = map.as_libbpf_object().as_ptr();
    // SAFETY: a borrowed map belongs to an object that is not closed.
    let internal = unsafe { libbpf_sys::bpf_map__is_internal(map) };
    // SAFETY: as above.
    let ty = unsafe { libbpf_sys::bpf_map__type(map) };
    !internal && ty != libbpf_sys::BPF_MAP_TYPE_STRUCT_OPS
}

/// The map that this one of an open object reuses.
pub(crate) fn preset<'m>(
    map: &'m impl AsRawLibbpf<LibbpfType = libbpf_sys::bpf_map>,
) -> Option<BorrowedFd<'m>> {
    // SAFETY: a borrowed map belongs to an object that is not closed.
    let fd = unsafe { libbpf_sys::bpf_map__fd(map.as_libbpf_object().as_ptr()) };
    // SAFETY: libbpf keeps the descriptor open as long as its map, which is borrowed.
    (fd >= 0).then(|| unsafe { BorrowedFd::borrow_raw(fd) })
}

/// The path at which libbpf will look for a pinned map, and pin a new one.
pub(crate) fn pin_path(map: &impl AsRawLibbpf<LibbpfType = libbpf_sys::bpf_map>) -> Option<PathBuf> {
    // SAFETY: a borrowed map belongs to an object that is not closed.
    let path = unsafe { libbpf_sys::bpf_map__pin_path(map.as_libbpf_object().as_ptr()) };
    (!path.is_null()).then(|| {
        // SAFETY: not null, so it is a C string of libbpf, which stays as long as the map is borrowed.
        let path = unsafe { CStr::from_ptr(path) };
        OsStr::from_bytes(path.to_bytes()).into()
    })
}

fn failed(error: io::Error) -> Error {
    Error::new(ErrorKind::System, format!("reading the BTF of the object: {error}"))
}
