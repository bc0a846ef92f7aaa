//! Text from the kernel, escaped.

use std::fmt::Write;

/// A text from the kernel, for people and for files of text. Control characters, other characters that can't be seen,
/// backslashes and bytes that are not UTF-8 are escaped as in Rust.
pub(crate) fn escape(text: &[u8]) -> String {
    if text.iter().all(|&byte| matches!(byte, b' '..=b'~') && byte != b'\\') {
        return String::from_utf8_lossy(text).into_owned();
    }
    let mut escaped = String::new();
    for chunk in text.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '"' | '\'' => escaped.push(letter),
                _ => escaped.extend(letter.escape_debug()),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(escaped, "\\x{byte:02x}"); // can't fail
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped() {
        assert_eq!(escape(b"a b\"c'd"), "a b\"c'd");
        assert_eq!(escape(b"\x1b[31m\n\\\x7f"), "\\u{1b}[31m\\n\\\\\\u{7f}");
        assert_eq!(escape("\u{9b}é\u{202e}".as_bytes()), "\\u{9b}é\\u{202e}");
        assert_eq!(escape(b"a\xff\xc3"), "a\\xff\\xc3");
    }
}
