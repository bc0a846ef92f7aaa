//! Lowers a litmus test from the kernel's C to machine instructions: those that the kernel's JITs emit for a BPF
//! program, and rustc for a reader or a writer in Rust.

use std::fmt::{self, Write as _};

use anyhow::{Context, Result, ensure};

/// What a test is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// The kernel's C, under the kernel's own model.
    Lkmm,
    Bpf,
    X86,
    /// aarch64 without LSE, as the kernel's JIT: exclusives and a barrier.
    Llsc,
    /// aarch64 with LSE atomics, as the kernel's JIT.
    Lse,
    /// aarch64 as rustc, without LSE and with it.
    RustLlsc,
    RustLse,
}

impl Dialect {
    pub(crate) const ALL: [Self; 7] =
        [Self::Lkmm, Self::Bpf, Self::X86, Self::Llsc, Self::Lse, Self::RustLlsc, Self::RustLse];

    pub(super) fn is_rust(self) -> bool {
        matches!(self, Self::RustLlsc | Self::RustLse)
    }

    /// A number, a register, a place: as operands.
    fn number(self, number: &str) -> String {
        let mark = match self {
            Self::Bpf => "",
            Self::X86 => "$",
            _ => "#",
        };
        format!("{mark}{number}")
    }

    fn register(self, at: usize) -> String {
        match self {
            Self::Bpf => format!("r{}", 2 + at),
            Self::X86 => ["rcx", "rdx", "rsi", "rdi", "r8", "r9"][at].into(),
            _ => format!("X{}", 10 + at),
        }
    }

    fn place(self, at: usize, name: &str) -> String {
        match self {
            Self::Bpf => format!("r{}", 9 - at),
            Self::X86 => name.into(),
            _ => format!("X{at}"),
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{self:?}").to_lowercase())
    }
}

/// The instructions of an operation; `None` if the dialect has none for it. `{d}` is the register of the result, `{a}`
/// the place, `{v}` the last value, `{o}` the one before; `{A}` and `{L}` are letters for acquire and release.
#[rustfmt::skip]
fn instructions(dialect: Dialect, name: &str, order: &str) -> Option<&'static str> {
    use Dialect::{Bpf, Llsc, Lse, RustLlsc, RustLse, X86};
    Some(match (dialect, name, order) {
        (_, "label", _) => "{l}:",
        (Bpf, "if", "unset") => "if {d} == 0 goto {l}",
        (Bpf, "if", _) => "if {d} != {v} goto {l}",
        (Bpf, "READ_ONCE", _) => "{d} = *(u64 *)({a} + 0)",
        (Bpf, "smp_load", _) => "{d} = load_acquire((u64 *)({a} + 0))",
        // An exchange without order does not exist: this is one with an unused result.
        (Bpf, "WRITE_ONCE", _) | (Bpf, "xchg", "_relaxed") => "r1 = {v}; *(u64 *)({a} + 0) = r1",
        (Bpf, "smp_store", _) => "r1 = {v}; store_release((u64 *)({a} + 0), r1)",
        // BPF has no fence: an atomic operation on a word of the thread's own is a full one. Loads before one that
        // orders loads acquire, which is no more than it does: see `lower_thread`.
        (Bpf, "smp_mb", _) => "r1 = 1; r1 = xchg_64({f} + 0, r1)",
        (Bpf, "smp_rmb", _) => "",
        (Bpf, "xchg", "") => "{d} = {v}; {d} = xchg_64({a} + 0, {d})",
        (Bpf, "cmpxchg", "") => "r0 = {o}; r1 = {v}; r0 = cmpxchg_64({a} + 0, r0, r1); {d} = r0",
        // All that return a value are full barriers. An addition without one, as if the swap had succeeded.
        (Bpf, "cmpxchg", "_relaxed") => "{d} = {o}; r1 = {by}; lock *(u64 *)({a} + 0) += r1",
        (Bpf, "fetch_add", "") => "{d} = {v}; {d} = atomic_fetch_add((u64 *)({a} + 0), {d})",
        (X86, "if", "unset") => "cmpq $0,{d}; je {l}",
        (X86, "if", _) => "cmpq {v},{d}; jne {l}",
        (X86, "READ_ONCE" | "smp_load", _) => "movq ({a}),{d}",
        (X86, "WRITE_ONCE" | "smp_store", _) => "movq {v},({a})",
        (X86, "smp_mb", _) => "mfence",
        // Only the compiler has to be told.
        (X86, "smp_rmb" | "smp_wmb", _) => "",
        (X86, "xchg", _) => "movq {v},{d}; xchgq {d},({a})",
        // herd7 has the operands the other way round.
        (X86, "cmpxchg", _) => "movq {o},%rax; movq {v},%rbx; lock cmpxchg ({a}),%rbx; movq %rax,{d}",
        (Bpf | X86, _, _) => return None,
        (_, "if", "unset") => "CBZ {d},{l}",
        (_, "if", _) => "CMP {d},{v}; B.NE {l}",
        (_, "READ_ONCE" | "read", "") => "LDR {d},[{a}]",
        (_, "smp_load" | "read", _) => "LDAR {d},[{a}]",
        (_, "WRITE_ONCE", _) => "MOV X27,{v}; STR X27,[{a}]",
        (_, "smp_store", _) => "MOV X27,{v}; STLR X27,[{a}]",
        (_, "smp_rmb", _) => "DMB ISHLD",
        (Llsc | Lse, "smp_wmb", _) => "DMB ISHST",
        (_, "smp_mb" | "smp_wmb", _) => "DMB ISH",
        (Lse | RustLse, "xchg", _) => "MOV X27,{v}; SWP{A}{L} X27,{d},[{a}]",
        (Lse | RustLse, "cmpxchg", _) => "MOV {d},{o}; MOV X27,{v}; CAS{A}{L} {d},X27,[{a}]",
        (Lse | RustLse, "fetch_add", _) => "MOV X27,{v}; LDADD{A}{L} X27,{d},[{a}]",
        (Lse | RustLse, "fetch_andnot", _) => "MOV X27,{v}; LDCLR{A}{L} X27,{d},[{a}]",
        // No second try: executions in which the first one fails do not count. Where the JIT has a barrier behind the
        // store, rustc has a load that acquires.
        (Llsc | RustLlsc, "xchg", _) => "LD{A}XR {d},[{a}]; MOV X27,{v}; ST{L}XR {s},X27,[{a}]; CBNZ {s},{e}{B}",
        (Llsc | RustLlsc, "cmpxchg", _) =>
            "MOV {d},{o}; MOV X27,{v}; MOV X28,{d}; LD{A}XR {d},[{a}]; EOR X26,{d},X28; CBNZ X26,{l}; \
             ST{L}XR {s},X27,[{a}]; CBNZ {s},{e}{B}; {l}:",
        (Llsc | RustLlsc, "fetch_add", _) =>
            "LD{A}XR {d},[{a}]; ADD X27,{d},{v}; ST{L}XR {s},X27,[{a}]; CBNZ {s},{e}{B}",
        (Llsc | RustLlsc, "fetch_andnot", _) =>
            "MOV X28,{v}; LD{A}XR {d},[{a}]; BIC X27,{d},X28; ST{L}XR {s},X27,[{a}]; CBNZ {s},{e}{B}",
        _ => return None,
    })
}

/// An operation, `if` with the label to go to otherwise, or that label. A value is a number, `r1`, or `r1 | 1`.
#[derive(Default)]
struct Step<'a> {
    name: &'a str,
    order: &'a str,
    into: &'a str,
    place: &'a str,
    values: Vec<&'a str>,
    label: usize,
}

struct Thread<'a> {
    number: usize,
    places: Vec<&'a str>,
    registers: Vec<&'a str>,
    steps: Vec<Step<'a>>,
}

/// The test in a dialect; `None` if that has no instruction for one of the operations.
pub(super) fn lower(source: &str, dialect: Dialect) -> Result<Option<String>> {
    if dialect == Dialect::Lkmm {
        return Ok(Some(source.to_owned()));
    }
    let (head, rest) = source.split_once("\n{").context("no initial values")?;
    let name = head.lines().next().and_then(|line| line.strip_prefix("C ")).context("no name")?;
    let (values, rest) = rest.split_once("}\n").context("no end of the initial values")?;
    let (threads, exists) = rest.split_once("\nexists ").context("no condition")?;
    let threads = threads.trim_start_matches('P').split("\nP").enumerate();
    let threads = threads.map(|(n, text)| Thread::parse(n, text, exists)).collect::<Result<Vec<_>>>()?;
    let codes: Option<Vec<_>> = threads.iter().map(|thread| lower_thread(thread, dialect)).collect();
    let Some(codes) = codes else { return Ok(None) };

    let (title, word) = match dialect {
        Dialect::Bpf => ("BPF", ""),
        Dialect::X86 => ("X86_64", "uint64_t "),
        _ => ("AArch64", "uint64_t "),
    };
    let mut out = format!("{title} {name}\n{{\n");
    let mut places: Vec<_> = threads.iter().flat_map(|thread| thread.places.iter().copied()).collect();
    places.sort_unstable();
    places.dedup();
    for place in &places {
        let set = values.split([';', ' ']).find_map(|item| item.strip_prefix(place)?.strip_prefix('='));
        let value = set.unwrap_or("0").trim_start_matches("ATOMIC_INIT(").trim_end_matches(')');
        write!(out, "{word}{place}={value}; ")?;
    }
    for thread in &threads {
        out += "\n";
        match dialect {
            Dialect::X86 => {
                let used = (0..thread.registers.len()).map(|at| dialect.register(at));
                used.chain(["rax".into(), "rbx".into()])
                    .try_for_each(|register| write!(out, "uint64_t {}:{register}; ", thread.number))?;
            }
            _ => thread.places.iter().enumerate().try_for_each(|(at, place)| {
                write!(out, "{}:{}={place}; ", thread.number, dialect.place(at, place))
            })?,
        }
    }
    out += "\n}\n";
    let widths: Vec<_> =
        codes.iter().map(|(code, _)| code.iter().map(String::len).max().unwrap_or(2)).collect();
    let mut row = |cell: &dyn Fn(usize) -> String| {
        let cells = widths.iter().enumerate().map(|(n, width)| format!(" {:width$} ", cell(n)));
        out += &(cells.collect::<Vec<_>>().join("|") + ";\n");
    };
    row(&|n| format!("P{n}"));
    for at in 0..codes.iter().map(|(code, _)| code.len()).max().unwrap_or(0) {
        row(&|n| codes[n].0.get(at).cloned().unwrap_or_default());
    }
    let stored: Vec<_> = codes.into_iter().flat_map(|(_, stored)| stored).collect();
    if !stored.is_empty() {
        write!(out, "\nfilter ({})", stored.join(" /\\ "))?;
    }
    write!(out, "\nexists {}", condition(exists, &places, &threads, dialect)?)?;
    Ok(Some(out))
}

/// The instructions, and which registers must be 0 in an execution that counts.
fn lower_thread(thread: &Thread<'_>, dialect: Dialect) -> Option<(Vec<String>, Vec<String>)> {
    let register =
        |name: &str| thread.registers.iter().position(|one| *one == name).map(|at| dialect.register(at));
    let place =
        |name: &str| thread.places.iter().position(|one| *one == name).map(|at| dialect.place(at, name));
    let percent = if dialect == Dialect::X86 { "%" } else { "" };
    let operand = |value: &str| match value.split_once(" | ") {
        Some((name, bits)) => Some(format!("{},{}", register(name)?, dialect.number(bits))),
        None if value.starts_with('r') => Some(format!("{percent}{}", register(value)?)),
        None => Some(dialect.number(value)),
    };
    let last_rmb = thread.steps.iter().rposition(|step| step.name == "smp_rmb").unwrap_or(0);
    let (mut code, mut stored) = (Vec::new(), Vec::new());
    let end = format!("END{}", thread.number);
    for (at, step) in thread.steps.iter().enumerate() {
        let acquires = dialect == Dialect::Bpf && step.name == "READ_ONCE" && at < last_rmb;
        let name = if acquires { "smp_load" } else { step.name };
        let mut text = instructions(dialect, name, step.order)?.to_owned();
        let barrier = step.order.is_empty() && dialect == Dialect::Llsc;
        let acquire = if matches!(step.order, "" | "_acquire") && !barrier { "A" } else { "" };
        let release = if matches!(step.order, "" | "_release") { "L" } else { "" };
        let number = |at: usize| step.values.get(at).and_then(|value| value.parse::<i64>().ok());
        let status = format!("{}", 20 + stored.len());
        if text.contains("{s}") {
            stored.push(format!("{}:X{status}=0", thread.number));
        }
        for (mark, with) in [
            ("{d}", register(step.into).map(|name| format!("{percent}{name}"))),
            ("{a}", place(step.place)),
            ("{f}", thread.places.last().and_then(|own| place(own))),
            ("{v}", step.values.last().and_then(|value| operand(value))),
            ("{o}", step.values.first().and_then(|value| operand(value))),
            ("{by}", number(1).zip(number(0)).map(|(new, old)| (new - old).to_string())),
            ("{l}", Some(format!("LC{}{:02}", thread.number, step.label))),
            ("{s}", Some(format!("W{status}"))),
            ("{e}", Some(end.clone())),
            ("{A}", Some(acquire.into())),
            ("{L}", Some(release.into())),
            ("{B}", Some(if barrier { "; DMB ISH" } else { "" }.into())),
        ] {
            if text.contains(mark) {
                text = text.replace(mark, &with?);
            }
        }
        for line in text.split("; ").filter(|line| !line.is_empty()) {
            // The value `r1 | 1`: three operands.
            let sets_bits = line.starts_with("MOV") && line.matches(',').count() == 2;
            code.push(if sets_bits { line.replace("MOV", "ORR") } else { line.to_owned() });
        }
    }
    if !stored.is_empty() {
        code.push(end + ":");
    }
    Some((code, stored))
}

/// The condition, with a dialect's names of registers and places.
fn condition(exists: &str, places: &[&str], threads: &[Thread<'_>], dialect: Dialect) -> Result<String> {
    let is_other = |c: char| !c.is_alphanumeric() && c != ':';
    let mut out = String::new();
    for part in exists.split_inclusive(is_other) {
        let word = part.trim_end_matches(is_other);
        out += &match word.split_once(':') {
            Some((thread, register)) => {
                let thread: usize = thread.parse()?;
                let at = threads.get(thread).and_then(|t| t.registers.iter().position(|r| *r == register));
                format!("{thread}:{}", dialect.register(at.context("no such register")?))
            }
            None if places.contains(&word) => format!("[{word}]"),
            None => word.to_owned(),
        };
        out += &part[word.len()..];
    }
    Ok(out)
}

impl<'a> Thread<'a> {
    /// `text` is `0(int *seq) { … }`.
    fn parse(number: usize, text: &'a str, exists: &'a str) -> Result<Self> {
        let (head, mut body) = text.split_once(')').context("no parameters")?;
        let places = head.split(',').filter_map(|one| Some(one.split_once('*')?.1)).collect();
        let mut thread = Self { number, places, registers: Vec::new(), steps: Vec::new() };
        thread.statement(&mut body)?;
        ensure!(body.trim().is_empty(), "behind P{number}: {body}");
        let asked = exists.split(|c: char| !c.is_alphanumeric() && c != ':');
        let asked = asked.filter_map(|word| word.split_once(':').filter(|(of, _)| *of == number.to_string()));
        for name in thread.steps.iter().map(|step| step.into).chain(asked.map(|(_, name)| name)) {
            if !name.is_empty() && !thread.registers.contains(&name) {
                thread.registers.push(name);
            }
        }
        if thread.steps.iter().any(|step| step.name == "smp_mb") {
            thread.places.push(["own0", "own1", "own2"][number]);
        }
        Ok(thread)
    }

    /// Parses one statement from the start of the text.
    fn statement(&mut self, text: &mut &'a str) -> Result<()> {
        *text = text.trim_start();
        if let Some(block) = text.strip_prefix('{') {
            *text = block.trim_start();
            while !text.starts_with('}') {
                self.statement(text)?;
                *text = text.trim_start();
            }
            *text = &text[1..];
        } else if let Some(rest) = text.strip_prefix("if (") {
            let (condition, body) = rest.split_once(')').context("no end of the condition")?;
            let (into, values, order) = match condition.split_once(" == ") {
                Some((into, value)) => (into, vec![value], ""),
                None => (condition, vec![], "unset"),
            };
            let label = self.steps.len();
            self.steps.push(Step { name: "if", order, into, values, label, ..Step::default() });
            *text = body;
            self.statement(text)?;
            self.steps.push(Step { name: "label", label, ..Step::default() });
        } else {
            let (statement, rest) = text.split_once(';').context("no end of a statement")?;
            *text = rest;
            if statement.is_empty() {
                return Ok(());
            }
            let (into, call) = statement.split_once(" = ").unwrap_or(("", statement));
            let call = call.strip_suffix(')').and_then(|call| call.split_once('('));
            let (name, args) = call.with_context(|| format!("not a call: {statement}"))?;
            let name = name.trim_start_matches("atomic_");
            let end = ["_relaxed", "_acquire", "_release"].iter().find_map(|end| name.strip_suffix(end));
            let (name, order) = name.split_at(end.map_or(name.len(), str::len));
            let args = args.split(", ").map(|arg| arg.trim_start_matches('*')).filter(|arg| !arg.is_empty());
            let (place, values): (Vec<_>, Vec<_>) = args.partition(|arg| self.places.contains(arg));
            let (place, label) = (place.first().copied().unwrap_or_default(), self.steps.len());
            let into = into.trim_start_matches("int ");
            self.steps.push(Step { name, order, into, place, values, label });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Dialect::{Bpf, Llsc, Lse, RustLlsc, RustLse, X86};
    use super::*;

    /// The instructions of a test's only thread, without the last label.
    fn lowered(statements: &str, dialect: Dialect) -> Option<String> {
        let source = format!("C t\n{{ a=1; }}\nP0(int *a, int *b) {{ {statements} }}\nexists (0:r0=1)\n");
        let text = lower(&source, dialect).unwrap()?;
        let lines = text.lines().skip_while(|line| !line.starts_with(" P0")).skip(1);
        let lines = lines.map_while(|line| Some(line.strip_suffix(';')?.trim()));
        Some(lines.filter(|line| !line.starts_with("END")).collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn each_operation_becomes_the_instructions_of_the_jit_or_of_rustc() {
        let exclusive = "MOV X10,#1; MOV X27,#2; MOV X28,X10; LDXR X10,[X0]; EOR X26,X10,X28; CBNZ X26,LC000; \
                         STLXR W20,X27,[X0]; CBNZ W20,END0; DMB ISH; LC000:";
        for (statements, dialect, instructions) in [
            ("int r0 = smp_load_acquire(a);", Llsc, "LDAR X10,[X0]"),
            ("int r0 = READ_ONCE(*a); smp_rmb();", Lse, "LDR X10,[X0]; DMB ISHLD"),
            ("int r0 = READ_ONCE(*a); smp_rmb();", Bpf, "r2 = load_acquire((u64 *)(r9 + 0))"),
            ("WRITE_ONCE(*b, 2);", Bpf, "r1 = 2; *(u64 *)(r8 + 0) = r1"),
            ("smp_store_release(b, 2);", RustLse, "MOV X27,#2; STLR X27,[X1]"),
            ("smp_store_release(b, 2);", X86, "movq $2,(b)"),
            ("smp_mb(); smp_wmb();", Lse, "DMB ISH; DMB ISHST"),
            ("smp_mb(); smp_wmb();", RustLlsc, "DMB ISH; DMB ISH"),
            ("smp_mb();", Bpf, "r1 = 1; r1 = xchg_64(r7 + 0, r1)"),
            ("int r0 = xchg_acquire(a, 3);", Lse, "MOV X27,#3; SWPA X27,X10,[X0]"),
            ("int r0 = xchg(a, 3);", X86, "movq $3,%rcx; xchgq %rcx,(a)"),
            (
                "int r0 = xchg(a, 3);",
                RustLlsc,
                "LDAXR X10,[X0]; MOV X27,#3; STLXR W20,X27,[X0]; CBNZ W20,END0",
            ),
            ("int r0 = cmpxchg(a, 1, 2);", Llsc, exclusive),
            ("int r0 = cmpxchg(a, 1, 2);", Bpf, "r0 = 1; r1 = 2; r0 = cmpxchg_64(r9 + 0, r0, r1); r2 = r0"),
            (
                "int r0 = atomic_cmpxchg_release(a, r0, r0 | 1);",
                Lse,
                "MOV X10,X10; ORR X27,X10,#1; CASL X10,X27,[X0]",
            ),
            ("if (r0 == 3) WRITE_ONCE(*b, r0);", X86, "cmpq $3,%rcx; jne LC000; movq %rcx,(b); LC000:"),
        ] {
            assert_eq!(lowered(statements, dialect).as_deref(), Some(instructions), "{statements} {dialect}");
        }
        assert_eq!(lowered("int r0 = cmpxchg_acquire(a, 1, 2);", Bpf), None);
    }

    #[test]
    fn the_condition_names_the_dialects_registers() {
        let text =
            "C t\n{ a=1; }\nP0(int *a, int *b) { int r4 = READ_ONCE(*a); }\nexists (0:r4=1 /\\ ~(b=2))\n";
        assert!(lower(text, Lse).unwrap().unwrap().ends_with("\nexists (0:X10=1 /\\ ~([b]=2))\n"));
    }
}
