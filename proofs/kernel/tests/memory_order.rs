//! Publishing by plain stores is only for x86: elsewhere objects that do it are refused.

use mapring_kernel_tests::prelude::*;

const X86: bool = cfg!(target_arch = "x86_64");

#[test]
fn objects_for_x86_are_refused_elsewhere() {
    require_bpf!();
    match mapring_loader::prepare_object(&mut bpf::TSO.open()) {
        Ok(_) if X86 => {}
        Err(error) if !X86 && error.kind() == ErrorKind::Unsupported => {
            let message = error.to_string();
            assert!(
                message.contains("map ring ") && message.contains("compile it for this machine"),
                "{message}"
            );
        }
        other => panic!("{other:?}"),
    }
}
