//! What of a file is code. A comment, or the format, makes no proof due.

use std::borrow::Cow;

use proc_macro2::{Spacing, TokenStream, TokenTree};

/// The file's code; all of its text if it is in no language that is known here. Without its unit tests, unless `tests`.
pub(super) fn code<'t>(path: &str, text: &'t str, tests: bool) -> Cow<'t, str> {
    match path.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "rs" => text.parse::<TokenStream>().map_or(text.into(), |stream| {
            let mut out = String::new();
            // What clap prints for `--help` is in doc comments.
            tokens(stream, text.contains("clap::"), tests, &mut out);
            out.into()
        }),
        "c" | "h" | "cpp" => without_comments(text, "//", Some(("/*", "*/")), &["\"", "'"]).into(),
        "py" => without_comments(text, "#", None, &["\"\"\"", "'''", "\"", "'"]).into(),
        _ => text.into(),
    }
}

/// Writes the tokens, without doc comments and modules of tests.
fn tokens(stream: TokenStream, docs: bool, tests: bool, out: &mut String) {
    let trees: Vec<_> = stream.into_iter().collect();
    let mut rest = &trees[..];
    while let [first, after @ ..] = rest {
        rest = after;
        if let Some((attribute, after)) = attribute(first, after) {
            if attribute.starts_with("doc=") && !docs {
                rest = after;
                continue;
            }
            let of_tests = attribute == "cfg(test)" || attribute.starts_with("cfg(all(test,");
            let mut item = after;
            while let [first, after @ ..] = item
                && let Some((_, after)) = self::attribute(first, after)
            {
                item = after; // the other attributes
            }
            if let [TokenTree::Ident(word), _, _, after @ ..] = item
                && of_tests
                && word == "mod"
                && !tests
            {
                rest = after;
                continue;
            }
        }
        match first {
            TokenTree::Group(group) => {
                *out += &format!("{:?}(", group.delimiter());
                tokens(group.stream(), docs, tests, out);
                out.push(')');
            }
            TokenTree::Punct(punct) if punct.spacing() == Spacing::Joint => out.push(punct.as_char()),
            tree => *out += &format!("{tree} "),
        }
    }
}

/// The attribute that begins here, without blanks, and what follows it.
fn attribute<'t>(first: &TokenTree, after: &'t [TokenTree]) -> Option<(String, &'t [TokenTree])> {
    let is = |tree: &TokenTree, c| matches!(tree, TokenTree::Punct(punct) if punct.as_char() == c);
    let after = if is(after.first()?, '!') { &after[1..] } else { after };
    let [TokenTree::Group(group), after @ ..] = after else { return None };
    is(first, '#').then(|| (group.stream().to_string().replace(' ', ""), after))
}

/// A text without comments, empty lines and blanks at the ends of lines. Quotes begin and end strings, in which `\` hides
/// the next character; only long quotes span lines.
fn without_comments(text: &str, line: &str, block: Option<(&str, &str)>, quotes: &[&str]) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = if rest.starts_with(line) {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
            continue;
        } else if let Some((_, end)) = block.filter(|(start, _)| rest.starts_with(start)) {
            code.push(' ');
            rest = rest[2..].split_once(end).map_or("", |(_, after)| after);
            continue;
        } else if let Some(quote) = quotes.iter().find(|quote| rest.starts_with(**quote)) {
            quote.len() + string(&rest[quote.len()..], quote)
        } else {
            c.len_utf8()
        };
        code += &rest[..length];
        rest = &rest[length..];
    }
    let lines = code.lines().map(str::trim_end).filter(|line| !line.is_empty());
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// The length of a string after its first quote.
fn string(text: &str, quote: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if !escaped && text[at..].starts_with(quote) {
            return at + quote.len();
        }
        if !escaped && c == '\n' && quote.len() == 1 {
            return at;
        }
        escaped = !escaped && c == '\\';
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(path: &str, a: &str, b: &str) -> bool {
        code(path, a, true) == code(path, b, true)
    }

    #[test]
    fn comments_and_format_are_no_code_and_each_token_is() {
        let plain = "fn a<'a>(b: &'a str) -> char { let _ = r#\"// \"no\"#; '\"' }";
        let source = "//! Docs.\n\n/// A.\nfn a<'a>(b: &'a str) -> char { // c\n/* d */ let _ = r#\"// \"no\"#;\n\n'\"' }";
        assert!(same("a.rs", plain, source));
        for (from, to) in [("str", "u8"), ("// ", "//"), ("'\"'", "'`'"), ("let", "; let")] {
            assert!(!same("a.rs", plain, &plain.replacen(from, to, 1)), "{from}");
        }
        assert!(!same("a.rs", "a && b", "a & &b"));
        assert!(!same("a.rs", "#[inline] fn a() {}", "fn a() {}"));
        assert!(!same("a.rs", "{a} b", "{a b}"));

        let plain = "int a = 1; /* b */\nchar *c = \"// \\\" no\"; char d = '\"';\n";
        assert!(same(
            "a.bpf.c",
            plain,
            "// e\n\nint a = 1;  // b\nchar *c = \"// \\\" no\"; char d = '\"'; /* f\n*/"
        ));
        for (from, to) in [("1", "2"), ("// ", "//"), ("'\"'", "'`'"), ("no", "/* */")] {
            assert!(!same("a.h", plain, &plain.replacen(from, to, 1)), "{from}");
        }
        assert!(!same("a.h", "#error don't\nint a;\n", "#error don't\nint b;\n"));

        let plain = "a = '#'\nif a:\n    \"\"\"x # y\n\n'\"\"\"\n";
        assert!(same("a.py", plain, "# b\na = '#'  # c\nif a:\n\n    \"\"\"x # y\n\n'\"\"\" # d\n"));
        assert!(!same("a.py", plain, "a = '#'\nif a:\n  \"\"\"x # y\n\n'\"\"\"\n"));
        assert!(!same("a.py", plain, "a = '#b'\nif a:\n    \"\"\"x # y\n\n'\"\"\"\n"));
    }

    #[test]
    fn what_is_not_known_is_code_in_whole() {
        assert!(!same("a.md", "a", "a\n"));
        assert!(!same("a.rs", "fn a( // b", "fn a( // c"));
    }

    #[test]
    fn help_texts_of_clap_are_code() {
        let args = "/// A\n#[derive(clap::Args)]\nstruct A;";
        assert!(!same("a.rs", args, &args.replace("/// A", "/// B")));
        assert!(same("a.rs", args, &args.replace("struct", "// b\nstruct")));
    }

    #[test]
    fn who_uses_a_package_does_not_build_its_unit_tests() {
        let with = "fn a() {}\n#[cfg(test)]\nmod tests { fn b() {} }\nfn c() {}";
        assert_eq!(code("a.rs", with, false), code("a.rs", "fn a() {} fn c() {}", false));
        assert_eq!(code("a.rs", "#[cfg(all(test, not(loom)))]\n#[allow(b)]\nmod t;", false), "");
        assert_ne!(code("a.rs", with, true), code("a.rs", "fn a() {} fn c() {}", true));
        assert_ne!(code("a.rs", "#[cfg(test)] fn a() {}", false), "");
        assert_ne!(code("a.rs", "#[cfg(not(test))] mod a {}", false), "");
    }
}
