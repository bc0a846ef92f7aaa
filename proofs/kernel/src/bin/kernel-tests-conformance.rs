//! The reader in plain C: `main` is that of `conformance/main.c`, which the build script compiles and has linked in.
#![no_main]
