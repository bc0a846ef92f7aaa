//! The names of the kernel's functions, from `/proc/kallsyms`.

use std::fs;
use std::io::{self, BufRead, BufReader};

use blazesym::MaybeDefault;
use blazesym::symbolize::source::{Kernel as Source, Source as Any};
use blazesym::symbolize::{Input, Symbolizer};
use mapring_kit::output;

use super::module;

const SYMBOLS: &str = "/proc/kallsyms";

/// No function is longer. The kernel tells where functions begin, not how long they are.
const LONGEST: usize = 1 << 20;

#[derive(Default)]
pub(super) struct Kernel {
    /// Once a name was looked for; `None` in it if the kernel shows none.
    symbolizer: Option<Option<Symbolizer>>,
}

impl Kernel {
    /// The function at this address, if it is known. Says once why none is.
    pub(super) fn functions(&mut self, address: u64) -> Vec<String> {
        let symbolizer = self.symbolizer.get_or_insert_with(|| match hidden() {
            None => Some(Symbolizer::new()),
            Some(why) => {
                output::note(format_args!("mapring: functions of the kernel have no names: {why}"));
                None
            }
        });
        let Some(symbolizer) = symbolizer else { return Vec::new() };
        let source = Source { vmlinux: MaybeDefault::None, debug_syms: false, ..Source::default() };
        let found = symbolizer.symbolize_single(&Any::Kernel(source), Input::AbsAddr(address));
        // Addresses after the last symbol belong to no function.
        let found = found.ok().filter(|found| found.as_sym().is_some_and(|symbol| symbol.offset < LONGEST));
        found.map(|found| module::of(&found)).unwrap_or_default()
    }
}

/// Why the kernel shows no addresses, if so.
fn hidden() -> Option<String> {
    let first = |file| {
        let mut line = String::new();
        BufReader::new(file).read_line(&mut line)?;
        io::Result::Ok(line)
    };
    match fs::File::open(SYMBOLS).and_then(first) {
        Err(error) => Some(format!("{SYMBOLS}: {error}")),
        Ok(line) => hides(&line)
            .then(|| why(&fs::read_to_string("/proc/sys/kernel/kptr_restrict").unwrap_or_default())),
    }
}

/// Whether the address in a line is hidden, or absent.
fn hides(line: &str) -> bool {
    line.split(' ').next().unwrap_or_default().bytes().all(|digit| digit == b'0')
}

fn why(kptr_restrict: &str) -> String {
    match kptr_restrict.trim() {
        "2" => "kernel.kptr_restrict is 2: sudo sysctl kernel.kptr_restrict=1".to_owned(),
        _ => "the kernel shows addresses only with CAP_SYSLOG: run the command as root".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hides_addresses_has_a_remedy() {
        assert!(hides("0000000000000000 T _text") && hides("") && !hides("ffffffff81000000 T _text"));
        assert!(
            why("2\n").contains("kptr_restrict=1")
                && why("1\n").contains("CAP_SYSLOG")
                && why("").contains("root")
        );
    }
}
