//! A defect that only a fuzzer finds which sees how far each input comes: `cargo xtask prove fuzz` must find it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let [b'd', b'e', b'f', b'e', b'c', b't', at, ..] = *bytes {
        let _ = bytes[usize::from(at)];
    }
});
