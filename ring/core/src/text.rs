//! Escapes text from other processes, so that it can be printed.

/// Escapes characters that must not reach a terminal: control characters such as escape and newline, marks that change
/// the direction of text, and all others that Rust does not consider printable.
pub fn printable(text: &str) -> String {
    let escaped = |c: char| {
        let plain = c == ' ' || c.is_ascii_graphic();
        plain.then_some(c).into_iter().chain(c.escape_debug().take(if plain { 0 } else { usize::MAX }))
    };
    text.chars().flat_map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_as_they_are() {
        for name in
            ["switch_event", "[u64; 3]", "a::Größe<'_>", "/sys/fs/bpf/x y\\z", "\"q\"", "記録", "\u{fffd}"]
        {
            assert_eq!(printable(name), name);
        }
    }

    #[test]
    fn what_moves_the_terminal_is_escaped() {
        let text = "\x1b]0;x\x07\x1b[2J\r\n\t\0\u{9b}1m\u{202e}txt\u{2066}\u{200f}\u{feff}\u{2028}e\u{301}";
        let shown = printable(text);
        assert_eq!(
            shown,
            "\\u{1b}]0;x\\u{7}\\u{1b}[2J\\r\\n\\t\\0\\u{9b}1m\\u{202e}txt\\u{2066}\\u{200f}\\u{feff}\\u{2028}e\\u{301}"
        );
        assert!(shown.is_ascii());
    }
}
