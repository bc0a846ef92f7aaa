//! Extracts programs from a compiled object: a function, the functions that it calls, and its references to maps,
//! linked as a loader does it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use object::read::elf::ElfFile64;
use object::{
    Object as _, ObjectSection as _, ObjectSymbol as _, RelocationFlags, RelocationTarget, SymbolKind,
};

use crate::decode::{Insn, decode};
use crate::order::Order;

type Compiled = (&'static str, bool, &'static [u8]);

/// Every object that the build script compiled: its name, whether it is only for x86, its bytes.
const OBJECTS: &[Compiled] = include!(concat!(env!("OUT_DIR"), "/objects.rs"));

/// `R_BPF_64_64`: a constant is the address of a symbol.
const RELOCATION_CONST: u32 = 1;
/// `R_BPF_64_32`: a call of a symbol.
const RELOCATION_CALL: u32 = 10;

/// The highest byte of a constant that stands for a map.
pub const MAP_HANDLE: u64 = 0x4d << 56;
/// The highest byte of a constant that stands for a global variable. Bits 32 to 55 are the variable's index, the rest
/// is the offset from its start.
pub const GLOBAL_HANDLE: u64 = 0x47 << 56;
/// The address of one of the kernel's functions.
pub(crate) const KERNEL_FUNCTION: u64 = 0x4b << 56;

/// The address of the loader's constant, which is 0 in the models, and its name.
pub const LOADER_CONSTANT: u64 = 0x4c << 56;
const GUARD_IS_SLOW: &str = "mapring__guard_is_slow";

/// The functions that begin and end the guard.
const GUARD: [&str; 2] = ["bpf_preempt_disable", "bpf_preempt_enable"];

/// The prefix of programs for a kernel that has these functions: `guarded push_narrow4`.
const GUARDED: &str = "guarded ";
/// The prefix of programs in objects only for x86, on a kernel that does not.
const X86: &str = "x86 ";

/// The objects of `proofs/rust-bpf` in the folder MAPRING_RUST_BPF, which `cargo xtask prove rust-bpf` sets.
fn by_rustc() -> Option<Vec<Compiled>> {
    let folder = PathBuf::from(std::env::var_os("MAPRING_RUST_BPF")?);
    let objects = [("rustc-0-any", "any", false), ("rustc-0-x86", "x86", true)].map(|(name, way, tso)| {
        let file = folder.join(way).join("models");
        let bytes = std::fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        (name, tso, &*bytes.leak())
    });
    Some(objects.into())
}

/// A compiled object.
pub struct Object {
    /// Its compiler, and the way of compiling.
    pub name: &'static str,
    /// The machine that it is for: objects for x86 rely on its memory order.
    pub order: Order,
    asks_for_guard: bool,
    /// Its maps and global variables.
    maps: Vec<String>,
    functions: BTreeMap<String, Function>,
}

struct Function {
    code: Vec<Insn>,
    /// The function that each call instruction calls.
    calls: BTreeMap<usize, String>,
}

/// A program ready to run: it starts at 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its instructions, including the functions that it calls.
    pub code: Vec<Insn>,
    /// The object's maps and global variables: `MAP_HANDLE | i` is the map with this name, `GLOBAL_HANDLE | i << 32`
    /// the variable.
    pub maps: Vec<String>,
    /// Whether the kernel has the guard, so that claims are guarded.
    pub guarded: bool,
}

impl Object {
    /// The objects of this machine's newest clang; with MAPRING_EVERY_CLANG=1, as `cargo xtask prove` sets it, of all its
    /// clangs; with MAPRING_RUST_BPF, those that rustc compiled.
    ///
    /// # Panics
    /// Panics if one contains anything unexpected in a program of these headers.
    pub fn all() -> impl Iterator<Item = Self> {
        static RUST: LazyLock<Option<Vec<Compiled>>> = LazyLock::new(by_rustc);
        let parse = |&(name, tso, bytes): &Compiled| {
            let order = if tso { Order::TSO } else { Order::WEAK };
            Self::parse(name, order, bytes).unwrap_or_else(|e| panic!("{name}: {e}"))
        };
        let objects = RUST.as_deref().unwrap_or(OBJECTS);
        let compiler = |name: &'static str| name.rsplit_once('-').map(|(compiler, _)| compiler);
        let newest = objects.last().and_then(|(name, ..)| compiler(name));
        let every = std::env::var_os("MAPRING_EVERY_CLANG").is_some();
        objects.iter().filter(move |(name, ..)| every || compiler(name) == newest).map(parse)
    }

    /// Whether it has this program; with a prefix, whether it has it in both forms.
    pub fn has(&self, name: &str) -> bool {
        let (prefix, name) = name.split_once(' ').unwrap_or(("", name));
        (prefix.is_empty() || self.asks_for_guard) && self.functions.contains_key(name)
    }

    /// Whether its programs use the guard on a kernel that has it.
    pub fn asks_for_guard(&self) -> bool {
        self.asks_for_guard
    }

    fn parse(name: &'static str, order: Order, bytes: &[u8]) -> Result<Self, String> {
        let text = |e: object::Error| e.to_string();
        // Without `Endianness`: these objects have the byte order of the machine that runs them.
        let file = ElfFile64::<object::LittleEndian>::parse(bytes).map_err(text)?;
        let is_in = |symbol: &object::read::elf::ElfSymbol64<'_, '_, object::LittleEndian>, name: &str| {
            let section = symbol.section_index().and_then(|index| file.section_by_index(index).ok());
            symbol.kind() != SymbolKind::Section && section.is_some_and(|section| section.name() == Ok(name))
        };
        let asks_for_guard = file.symbols().any(|it| it.name() == Ok(GUARD[0]));
        let mut maps = Vec::new();
        for symbol in file.symbols() {
            if is_in(&symbol, ".maps") || is_in(&symbol, ".bss") {
                maps.push(symbol.name().map_err(text)?.to_owned());
            }
        }
        maps.sort();

        let mut functions = BTreeMap::new();
        for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text) {
            let section = symbol.section_index().ok_or("a function without a section")?;
            let section = file.section_by_index(section).map_err(text)?;
            let range = symbol.address()..symbol.address() + symbol.size();
            let bytes = section.data_range(range.start, symbol.size()).map_err(text)?;
            let bytes = bytes.ok_or("a function beyond its section")?;
            let mut code = decode(bytes)?;
            let mut calls = BTreeMap::new();
            for (offset, relocation) in section.relocations().filter(|(offset, _)| range.contains(offset)) {
                let at = usize::try_from((offset - range.start) / 8).map_err(|e| e.to_string())?;
                let RelocationTarget::Symbol(target) = relocation.target() else {
                    return Err(format!("{relocation:?}"));
                };
                let symbol = file.symbol_by_index(target).map_err(text)?;
                // A static function is called by its position in a section, which the call contains.
                let target = if symbol.kind() == SymbolKind::Section {
                    let imm = bytes[at * 8 + 4..][..4].try_into().expect("four bytes");
                    let place = u64::from(i32::from_le_bytes(imm).wrapping_add(1).cast_unsigned()) * 8;
                    let is_there =
                        |function: &object::read::elf::ElfSymbol64<'_, '_, object::LittleEndian>| {
                            function.kind() == SymbolKind::Text
                                && (function.section_index(), function.address())
                                    == (symbol.section_index(), place)
                        };
                    file.symbols().find(is_there).ok_or("a call of no function")?.name().map_err(text)?
                } else {
                    symbol.name().map_err(text)?
                };
                match (&mut code[at], relocation.flags()) {
                    (Insn::Const { value, .. }, RelocationFlags::Elf { r_type: RELOCATION_CONST })
                        if target == GUARD[0] =>
                    {
                        *value = KERNEL_FUNCTION;
                    }
                    (Insn::Const { value, .. }, RelocationFlags::Elf { r_type: RELOCATION_CONST })
                        if target == GUARD_IS_SLOW =>
                    {
                        *value = LOADER_CONSTANT;
                    }
                    (Insn::Const { value, .. }, RelocationFlags::Elf { r_type: RELOCATION_CONST }) => {
                        let map = maps.iter().position(|map| map == target);
                        let map = map.ok_or_else(|| format!("{target} is no map"))? as u64;
                        *value = if is_in(&symbol, ".bss") {
                            GLOBAL_HANDLE | map << 32 | *value
                        } else {
                            MAP_HANDLE | map
                        };
                    }
                    (call @ Insn::Call { .. }, RelocationFlags::Elf { r_type: RELOCATION_CALL })
                        if GUARD.contains(&target) =>
                    {
                        *call = Insn::Guard { begins: target == GUARD[0] };
                    }
                    (Insn::Call { .. }, RelocationFlags::Elf { r_type: RELOCATION_CALL }) => {
                        calls.insert(at, target.to_owned());
                    }
                    (insn, flags) => return Err(format!("{insn:?}: {flags:?} of {target}")),
                }
            }
            functions.insert(symbol.name().map_err(text)?.to_owned(), Function { code, calls });
        }
        Ok(Self { name, order, asks_for_guard, maps, functions })
    }

    /// The program `name` with everything that it calls; `guarded name` as a loader prepares it for a kernel that has
    /// the guard.
    ///
    /// # Panics
    /// Panics if it does not exist.
    pub fn program(&self, name: &str) -> Program {
        let (name, guarded) = name.strip_prefix(GUARDED).map_or((name, false), |name| (name, true));
        let name = name.strip_prefix(X86).unwrap_or(name);
        let mut placed = BTreeMap::new();
        let mut code = Vec::new();
        self.place(name, &mut code, &mut placed);
        for (function, &start) in &placed {
            for (at, callee) in &self.functions[*function].calls {
                code[start + at] = Insn::Call { to: placed[callee.as_str()] };
            }
        }
        for insn in &mut code {
            if let Insn::Const { value, .. } = insn
                && *value == KERNEL_FUNCTION
                && !guarded
            {
                *value = 0;
            }
        }
        Program { code, maps: self.maps.clone(), guarded }
    }

    fn place<'a>(&'a self, name: &'a str, code: &mut Vec<Insn>, placed: &mut BTreeMap<&'a str, usize>) {
        if placed.contains_key(name) {
            return;
        }
        let start = code.len();
        placed.insert(name, start);
        let function =
            self.functions.get(name).unwrap_or_else(|| panic!("no function {name} in {}", self.name));
        code.extend(function.code.iter().map(|&insn| insn.moved(|to| to + start)));
        function.calls.values().for_each(|callee| self.place(callee, code, placed));
    }
}

impl Program {
    /// The same program with other instructions in place of the one at `at`: jumps to that one then reach the first of
    /// them. Jump targets in `instead` are positions in the new program.
    #[must_use]
    pub fn patched(&self, at: usize, instead: &[Insn]) -> Self {
        let shift = |to: usize| if to > at { to + instead.len() - 1 } else { to };
        let mut code: Vec<_> = self.code[..at].iter().map(|insn| insn.moved(shift)).collect();
        code.extend(instead);
        code.extend(self.code[at + 1..].iter().map(|insn| insn.moved(shift)));
        Self { code, maps: self.maps.clone(), guarded: self.guarded }
    }
}

impl Insn {
    /// The same instruction in a program whose parts have moved.
    fn moved(self, to_new: impl Fn(usize) -> usize) -> Self {
        match self {
            Self::Goto { to } => Self::Goto { to: to_new(to) },
            Self::If { op, wide, dst, from, to } => Self::If { op, wide, dst, from, to: to_new(to) },
            // Not linked yet.
            Self::Call { to: usize::MAX } => self,
            Self::Call { to } => Self::Call { to: to_new(to) },
            other => other,
        }
    }
}

/// Programs that are identical in one or more objects, down to the instruction.
pub struct Variant {
    /// The objects.
    pub names: Vec<&'static str>,
    /// The machine that they are for.
    pub order: Order,
    /// The programs, in the requested order.
    pub programs: Vec<Program>,
}

/// The distinct versions of the programs `names` in all objects that have them.
pub fn variants(names: &[impl AsRef<str>]) -> Vec<Variant> {
    let mut variants: Vec<Variant> = Vec::new();
    let all = |prefix: &str| names.iter().any(|name| name.as_ref().starts_with(prefix));
    let (guarded, x86) = (all(GUARDED), all(X86));
    let fits = |object: &Object| object.asks_for_guard || !guarded;
    for object in Object::all().filter(|object| fits(object) && (!x86 || object.order == Order::TSO)) {
        let order = object.order;
        let programs: Vec<_> = names.iter().map(|name| object.program(name.as_ref())).collect();
        match variants.iter_mut().find(|known| known.order == order && known.programs == programs) {
            Some(known) => known.names.push(object.name),
            None => variants.push(Variant { names: vec![object.name], order, programs }),
        }
    }
    variants
}
