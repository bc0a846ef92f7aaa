//! Publishing by plain stores is only for x86: elsewhere objects that do it are refused.
#![allow(missing_docs)]

use std::mem::MaybeUninit;

use libbpf_rs::OpenObject;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use mapring::{Error, ErrorKind};
use mapring_kernel_tests::require_bpf;
use mapring_kernel_tests::skel::TsoSkelBuilder;

const X86: bool = cfg!(target_arch = "x86_64");

fn fit<'o, B: SkelBuilder<'o> + Default>(storage: &'o mut MaybeUninit<OpenObject>) -> Result<(), Error> {
    let mut open = B::default().open(storage).unwrap_or_else(|e| panic!("open: {e:#}"));
    mapring::loader::prepare_object(open.open_object_mut()).map(drop)
}

#[test]
fn objects_for_x86_are_refused_elsewhere() {
    require_bpf!();
    match fit::<TsoSkelBuilder>(&mut MaybeUninit::uninit()) {
        Ok(()) if X86 => {}
        Err(error) if !X86 && error.kind() == ErrorKind::Unsupported => {
            let said = error.to_string();
            assert!(said.contains("map ring ") && said.contains("compile it for this machine"), "{said}");
        }
        other => panic!("{other:?}"),
    }
}
