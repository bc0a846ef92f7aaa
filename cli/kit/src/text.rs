//! Text from other processes: escaped, so that it changes nothing on a terminal.

use std::borrow::Cow;
use std::ffi::OsStr;

/// Escapes what a terminal does not show as it is, as the library's messages do: control characters, line breaks, marks that
/// change the direction.
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_plain) { text.into() } else { mapring_core::text::printable(text).into() }
}

/// The same for a path or another name of the system's.
pub fn printable_path(path: impl AsRef<OsStr>) -> String {
    printable(&path.as_ref().to_string_lossy()).into_owned()
}

/// An error and its causes in one line, as every command prints them. A library's message quotes the text of others as it
/// is, so this escapes all that could change a terminal or look like another line. Only [`Lines`] has lines.
pub fn one_line(error: &anyhow::Error) -> String {
    let one = |e: &(dyn std::error::Error + 'static)| match e.downcast_ref::<Lines>() {
        Some(Lines(lines)) => lines.lines().map(printable).collect::<Vec<_>>().join("\n"),
        None => printable(&e.to_string()).into_owned(),
    };
    error.chain().map(one).collect::<Vec<_>>().join(": ")
}

/// An error whose message has several lines.
#[derive(Debug)]
pub struct Lines(pub String);

impl std::fmt::Display for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Lines {}

/// The printable ASCII characters of bytes, with a dot for each other byte, and `…` if there are more than people read.
pub fn ascii(bytes: &[u8]) -> String {
    const SHOWN: usize = 4096;
    let text = bytes.iter().take(SHOWN).map(|byte| char::from(*byte));
    let more = (bytes.len() > SHOWN).then_some('…');
    text.map(|c| if is_plain(c) { c } else { '.' }).chain(more).collect()
}

/// A JSON value in one line. It escapes the characters that JSON allows but that could change a terminal.
pub fn json_line(value: &serde_json::Value) -> String {
    let text = value.to_string();
    if text.chars().all(is_plain) {
        return text;
    }
    let escape = |c: char| {
        if is_plain(c) || c.escape_debug().len() == 1 {
            return c.to_string();
        }
        c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect()
    };
    text.chars().map(escape).collect()
}

fn is_plain(c: char) -> bool {
    c == ' ' || c.is_ascii_graphic()
}

/// Breaks text into lines of at most `width` characters, at spaces.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().map_or(0, |line| line.chars().count());
        if last > 0 && last + 1 + word.chars().count() > width {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// `text`, cut to `width` characters with `…` at the end.
pub fn cut(text: &str, width: usize) -> Cow<'_, str> {
    if text.chars().count() <= width {
        return text.into();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect::<String>().into()
}

/// A number with a comma every three digits.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Events per second in at most 7 characters: `0`, `12.3`, `4567`, `12.3k`, `45.6M`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // it is rounded for people
pub fn rate(per_second: f64) -> String {
    for (unit, size) in [("G", 1e9), ("M", 1e6), ("k", 1e4)] {
        if per_second >= size {
            let scale = if unit == "k" { 1e3 } else { size };
            return format!("{:.1}{unit}", per_second / scale);
        }
    }
    if per_second == 0.0 || per_second >= 100.0 {
        format!("{per_second:.0}")
    } else {
        format!("{per_second:.1}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_but_text() {
        let hostile = "\x1b[2J\u{9b}1m\u{202e}txt\n";
        assert_eq!(printable(hostile), "\\u{1b}[2J\\u{9b}1m\\u{202e}txt\\n");
        assert_eq!(printable("events 7"), "events 7");
        let line = json_line(&serde_json::json!({ "name": format!("{hostile}é😀\u{e0001}") }));
        assert!(!line.contains(['\u{9b}', '\u{202e}', '\u{e0001}', '\x1b', '\n']), "{line}");
        let foreign = anyhow::anyhow!("unknown variant `{hostile}`").context("é… a file");
        let shown = "é… a file: unknown variant `\\u{1b}[2J\\u{9b}1m\\u{202e}txt\\n`";
        assert_eq!(one_line(&foreign), shown);
        assert_eq!(one_line(&anyhow::Error::new(Lines(format!("a\n{hostile}b")))).lines().count(), 3);
        let back: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(back["name"], format!("{hostile}é😀\u{e0001}"));
    }

    #[test]
    fn text_fits() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!((cut("events", 6), cut("events", 5)), ("events".into(), "even…".into()));
        assert_eq!([grouped(0), grouped(999), grouped(1_234_567)], ["0", "999", "1,234,567"]);
        let rates = [0.0, 0.25, 123.4, 9999.0, 12_345.0, 4.56e7, 2.1e9].map(rate);
        assert_eq!(rates, ["0", "0.2", "123", "9999", "12.3k", "45.6M", "2.1G"]);
    }
}
