//! Listings: the instructions and labels in a compiler's output.

/// A BPF instruction that clang has no mnemonic for: `mapring__cmpxchg` and `mapring__xchg` in
/// `ring/include/mapring/detail/atomic.bpf.h`.
const BPF_ATOMICS: [(u64, &str); 2] =
    [(0xf1_0000_21db, "r0 = cmpxchg_64(r1 + 0, r0, r2)"), (0xe1_0000_21db, "r2 = xchg_64(r1 + 0, r2)")];

/// The lines of one function: instructions, labels, and compiler-only barriers.
pub(super) fn function(assembly: &str, name: &str) -> Option<Vec<String>> {
    let label = format!("{name}:");
    let is_start = |line: &&str| line.split_whitespace().next() == Some(&label);
    let mut lines = assembly.lines().skip_while(|line| !is_start(line)).skip(1).peekable();
    lines.peek()?;
    // In LLVM's output and in gcc's.
    let is_end = |line: &str| line.starts_with(".Lfunc_end") || line.trim() == ".cfi_endproc";
    Some(lines.take_while(|line| !is_end(line)).filter_map(plain).collect())
}

/// Every instruction in a compiler's output, of any function.
pub(super) fn instructions(assembly: &str) -> Vec<String> {
    assembly.lines().filter_map(plain).collect()
}

/// The lines without one of them.
pub(super) fn without(lines: &[String], at: usize) -> Vec<String> {
    [&lines[..at], &lines[at + 1..]].concat()
}

/// The lines with another one in a place.
pub(super) fn replaced(lines: &[String], at: usize, by: &str) -> Vec<String> {
    let mut lines = lines.to_vec();
    lines[at] = by.to_owned();
    lines
}

/// The lines with one of them moved.
pub(super) fn moved(lines: &[String], from: usize, to: usize) -> Vec<String> {
    let mut moved = without(lines, from);
    moved.insert(to, lines[from].clone());
    moved
}

/// A line in the form of the listings, or `None` if listings omit it.
fn plain(line: &str) -> Option<String> {
    let text = line.trim();
    if matches!(text, "#MEMBARRIER" | "#APP" | "#NO_APP") {
        return Some(format!("\t{text}"));
    }
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    // Comments start with `#` or `//`, but aarch64 immediates also contain `#`.
    let text = text.split(" # ").next().unwrap_or_default();
    let text = text.split("//").next().unwrap_or_default().trim_end();
    if text.is_empty() || text.starts_with('#') {
        return None;
    }
    if let Some(label) = text.strip_suffix(':') {
        let of_gcc = label.strip_prefix(".L").is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
        return (of_gcc || label.contains("LBB")).then(|| text.to_owned());
    }
    if let Some(value) = text.strip_prefix(".8byte ").or_else(|| text.strip_prefix(".quad ")) {
        let atomic = BPF_ATOMICS.iter().find(|(code, _)| value.parse() == Ok(*code));
        return atomic.map(|(_, text)| format!("\t{text}"));
    }
    (!text.starts_with('.')).then(|| format!("\t{text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_and_labels_are_listed() {
        let assembly = "\t.text\nother:\n\tretq\n.Lfunc_end0:\nlook:\n\t.cfi_startproc\n.Lfunc_begin1:\n\
                        \tmovq\t(%rdi), %rdx   # a comment\n\t#MEMBARRIER\n\tjne\t.LBB4_12\n.LBB4_12:\n\
                        \tcallq\t*_ZN1a2bcE@GOTPCREL(%rip)\n\tretq\n.Lfunc_end1:\n\tretq\n";
        assert_eq!(
            function(assembly, "look").unwrap(),
            [
                "\tmovq (%rdi), %rdx",
                "\t#MEMBARRIER",
                "\tjne .LBB4_12",
                ".LBB4_12:",
                "\tcallq *_ZN1a2bcE@GOTPCREL(%rip)",
                "\tretq"
            ]
        );
        assert_eq!(function(assembly, "missing"), None);
        assert_eq!(instructions(assembly).iter().filter(|line| *line == "\tretq").count(), 3);
    }

    #[test]
    fn atomics_of_bpf_get_their_names() {
        let assembly = "f:      # @f\n# %bb.0:\n\t#APP\n\t.8byte 1035087127003\n\t#NO_APP\n\t.quad\t966367650267\n\
                        \tif r0 != r3 goto LBB1_4\n.Lfunc_end0:\n";
        assert_eq!(
            function(assembly, "f").unwrap(),
            [
                "\t#APP",
                "\tr0 = cmpxchg_64(r1 + 0, r0, r2)",
                "\t#NO_APP",
                "\tr2 = xchg_64(r1 + 0, r2)",
                "\tif r0 != r3 goto LBB1_4"
            ]
        );
    }
}
