//! What the test programs in Rust share. `cargo xtask prove rust-bpf` builds them, and runs them like those that clang compiles.
#![no_std]

/// The verifier has no panics: no path may lead here.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// Declares the license, and programs that run by hand: `name(ctx) -> i64 { … }`. `ctx` points to a struct of the caller.
#[macro_export]
macro_rules! programs {
    ($($(#[$doc:meta])* fn $name:ident($ctx:ident: &$ty:ty) $body:block)*) => {$(
        $(#[$doc])*
        #[unsafe(no_mangle)]
        #[unsafe(link_section = "syscall")]
        extern "C" fn $name(ctx: *mut $ty) -> i32 {
            // SAFETY: the kernel has copied this struct, and the verifier checks its size.
            let $ctx = unsafe { &mut *ctx };
            $body
        }
    )*};
}

/// A license that is not GPL-compatible: mapring needs no restricted function of the kernel.
#[macro_export]
macro_rules! license {
    () => {
        #[unsafe(no_mangle)]
        #[unsafe(link_section = "license")]
        static LICENSE: [u8; 4] = *b"MIT\0";
    };
}
