//! The reader in C: `main` is in `conformance/main.c`, which the build script compiles and links.
#![no_main]
