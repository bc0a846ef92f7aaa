//! Texts of programs: char arrays and tails. They can have any bytes.

use std::borrow::Cow;
use std::fmt;

use mapring_kit::text::printable;

/// The bytes of a char array, whose text ends at the first zero byte, or of a tail, which ends where its program said.
#[derive(Clone, Debug, PartialEq)]
pub struct Chars {
    bytes: Vec<u8>,
    /// Where the text ends.
    end: usize,
}

impl Chars {
    pub(crate) fn array(bytes: &[u8]) -> Self {
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        Self { bytes: bytes.to_vec(), end }
    }

    pub(crate) fn tail(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), end: bytes.len() }
    }

    /// Its text. Invalid UTF-8 becomes `\u{fffd}`.
    pub(crate) fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.text_bytes())
    }

    pub(crate) fn text_bytes(&self) -> &[u8] {
        &self.bytes[..self.end]
    }

    /// All bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// All bytes, unless `shown` says them: then it is the text, and zeros follow.
    pub(crate) fn unless_all(&self, shown: &str) -> Option<&[u8]> {
        let is_all = shown.as_bytes() == self.text_bytes() && !self.continues();
        (!is_all).then_some(&self.bytes)
    }

    /// Whether bytes other than zero follow the text.
    pub(crate) fn continues(&self) -> bool {
        self.bytes[self.end..].iter().any(|byte| *byte != 0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.end == 0 && !self.continues()
    }
}

/// The text in quotes, as a filter takes it.
impl fmt::Display for Chars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for chunk in self.text_bytes().utf8_chunks() {
            let escaped = chunk.valid().replace('\\', "\\\\").replace('"', "\\\"");
            f.write_str(&printable(&escaped))?;
            chunk.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
        }
        f.write_str("\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_text_up_to_its_first_zero_and_nothing_is_hidden() {
        for (bytes, text, shown, is_all) in [
            (&b"bash\0\0\0\0"[..], "bash", "\"bash\"", true),
            (b"ls\0-l\0/tmp", "ls", "\"ls\"", false),
            (b"caf\xe9\0\0", "caf\u{fffd}", "\"caf\\xe9\"", false),
            (b"\0x", "", "\"\"", false),
            (b"\0\0", "", "\"\"", true),
            (b"a \"b\"\\\x1b\n", "a \"b\"\\\x1b\n", "\"a \\\"b\\\"\\\\\\u{1b}\\n\"", true),
            (b"", "", "\"\"", true),
        ] {
            let chars = Chars::array(bytes);
            assert_eq!((&*chars.text(), chars.to_string().as_str()), (text, shown));
            assert_eq!(chars.unless_all(text), (!is_all).then_some(bytes));
            assert_eq!(chars.is_empty(), bytes.iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn a_tail_is_as_long_as_it_is() {
        let chars = Chars::tail(b"ls\0-l\0");
        assert_eq!((&*chars.text(), chars.to_string().as_str()), ("ls\0-l\0", "\"ls\\0-l\\0\""));
        assert_eq!((chars.unless_all("ls\0-l\0"), chars.unless_all("ls")), (None, Some(&b"ls\0-l\0"[..])));
        assert_eq!(Chars::tail(b"\xff").unless_all("\u{fffd}"), Some(&b"\xff"[..]));
    }
}
