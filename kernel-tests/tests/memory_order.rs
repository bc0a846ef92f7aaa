//! What is for x86 alone: publishing by plain stores, and claims by them. Elsewhere objects with the
//! first are refused, and no object gets the second.
#![allow(missing_docs)]

use std::mem::MaybeUninit;

use libbpf_rs::OpenObject;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use mapring::{Error, Fitted, Grounds};
use mapring_kernel_tests::require_bpf;
use mapring_kernel_tests::skel::{NestedPortableSkelBuilder, NestedSkelBuilder, TsoSkelBuilder};

const X86: bool = cfg!(target_arch = "x86_64");

fn fit<'o, B: SkelBuilder<'o> + Default>(storage: &'o mut MaybeUninit<OpenObject>) -> Result<Fitted, Error> {
    let mut open = B::default().open(storage).unwrap_or_else(|e| panic!("open: {e:#}"));
    mapring::fit_object(open.open_object_mut())
}

#[test]
fn objects_for_x86_are_refused_elsewhere() {
    require_bpf!();
    match fit::<TsoSkelBuilder>(&mut MaybeUninit::uninit()) {
        Ok(fitted) if X86 => assert_eq!(fitted.rings().count(), 1),
        Err(error @ Error::MemoryOrder { .. }) if !X86 => {
            let said = error.to_string();
            assert!(said.contains("map ring ") && said.contains("compile it for this machine"), "{said}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn claims_by_plain_stores_are_for_x86() {
    require_bpf!();
    let here = fit::<NestedSkelBuilder>(&mut MaybeUninit::uninit()).unwrap();
    assert!(here.rings().count() > 0);
    for (ring, grounds) in here.rings() {
        assert_eq!(matches!(grounds, Grounds::NotX86), !X86, "{ring}: {grounds}");
    }
    let portable = fit::<NestedPortableSkelBuilder>(&mut MaybeUninit::uninit()).unwrap();
    assert!(portable.rings().count() > 0);
    for (ring, grounds) in portable.rings() {
        assert!(matches!(grounds, Grounds::NotX86), "{ring}: {grounds}");
    }
}
