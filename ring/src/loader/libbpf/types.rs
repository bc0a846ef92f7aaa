//! The types of libbpf's objects: of an open one from libbpf's copy, of a loaded one from the kernel.
#![allow(unsafe_code)]

use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::{io, slice};

use libbpf_rs::{AsRawLibbpf, Object, OpenObject, libbpf_sys};

use crate::bpf::btf::Btf;
use crate::bpf::describe::LoadedObject;
use crate::error::{Error, Result};

/// The types of an open object, if it has any.
pub(super) fn types_of(object: &OpenObject) -> Result<Option<Btf>> {
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
pub(super) fn types_of_loaded(object: &Object) -> Result<Option<LoadedObject>> {
    // SAFETY: the object is loaded as long as it is borrowed.
    let fd = unsafe { libbpf_sys::bpf_object__btf_fd(object.as_libbpf_object().as_ptr()) };
    if fd < 0 {
        return Ok(None);
    }
    // SAFETY: the object owns the descriptor, and is borrowed longer than this function uses it.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    fd.try_clone_to_owned().and_then(LoadedObject::new).map(Some).map_err(failed)
}

/// The type of a map's values, in the types of its object; 0 if it has none.
pub(super) fn value_type(map: &impl AsRawLibbpf<LibbpfType = libbpf_sys::bpf_map>) -> u32 {
    // SAFETY: a borrowed map belongs to an object that is not closed.
    unsafe { libbpf_sys::bpf_map__btf_value_type_id(map.as_libbpf_object().as_ptr()) }
}

fn failed(error: io::Error) -> Error {
    Error::system("reading the BTF of the object", error)
}
