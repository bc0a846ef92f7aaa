//! The names of functions in a program or a library. Its file may be hostile: a panic of the parser makes it a file without names.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::Once;

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{Input, Symbolized, Symbolizer};

use super::elf::Load;
use super::files::{self, Image};
use super::shown;

/// Files that have the names of a program or a library.
pub(super) struct Module {
    loads: Vec<Load>,
    files: Vec<Names>,
}

struct Names {
    symbolizer: Symbolizer,
    source: Elf,
    /// Kept open: the file is read by the path of its descriptor, below /proc/self/fd.
    _image: Image,
}

impl Module {
    pub(super) fn new(images: Vec<Image>, debug_dirs: &[PathBuf]) -> Self {
        let loads = images.last().map(|image| image.elf.loads()).unwrap_or_default();
        let names = |image: Image| {
            let symbolizer =
                Symbolizer::builder().enable_auto_reload(false).set_debug_dirs(Some(debug_dirs)).build();
            Names { symbolizer, source: Elf::new(files::at(&image.file)), _image: image }
        };
        Self { loads, files: images.into_iter().map(names).collect() }
    }

    /// The functions at an offset of the file, the innermost inlined one first: empty if none is known. `None` if the file has no code
    /// there.
    pub(super) fn functions(&mut self, offset: u64) -> Option<Vec<String>> {
        if self.loads.is_empty() {
            return Some(Vec::new());
        }
        let is_there = |load: &&Load| offset.checked_sub(load.offset).is_some_and(|at| at < load.size);
        let load = self.loads.iter().filter(|load| load.is_code).find(is_there)?;
        let address = load.address.wrapping_add(offset - load.offset);
        let mut functions = Vec::new();
        self.files.retain_mut(|file| {
            if functions.is_empty() {
                match caught(|| file.functions(address)) {
                    Some(found) => functions = found,
                    None => return false,
                }
            }
            true
        });
        Some(functions)
    }
}

impl Names {
    fn functions(&mut self, address: u64) -> Vec<String> {
        let found =
            self.symbolizer.symbolize_single(&Source::Elf(self.source.clone()), Input::VirtOffset(address));
        match found {
            Ok(found) => of(&found),
            // Its debug information is damaged: its table of symbols may still be right.
            Err(_) if self.source.debug_syms => {
                self.source.debug_syms = false;
                self.functions(address)
            }
            Err(_) => Vec::new(),
        }
    }
}

/// The names that were found, the innermost inlined one first.
pub(super) fn of(found: &Symbolized<'_>) -> Vec<String> {
    let Symbolized::Sym(found) = found else { return Vec::new() };
    if found.name.is_empty() || found.size.is_some_and(|size| size > 0 && found.offset >= size) {
        return Vec::new();
    }
    let inlined = found.inlined.iter().rev().map(|inlined| &inlined.name);
    inlined.chain([&found.name]).map(|name| shown(name.as_bytes())).collect()
}

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

/// What the function returns; `None` if it panics, which is not reported.
fn caught<T>(function: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !IS_QUIET.get() {
                report(info);
            }
        }));
    });
    IS_QUIET.set(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(function));
    IS_QUIET.set(false);
    outcome.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_no_name() {
        assert_eq!((caught(|| 1), caught(|| -> i32 { panic!("hostile") })), (Some(1), None));
        assert!(!IS_QUIET.get());
    }
}
