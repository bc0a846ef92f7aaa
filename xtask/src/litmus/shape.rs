//! A file of `proofs/litmus/lkmm`: a test in the kernel's C, and the changes that its head lists, one a line.
//!
//! - `also TEXT: CHANGE`: the changed test must be forbidden, like the test itself.
//! - `mutant TEXT: CHANGE`: takes an ordering away. The changed test must be allowed, or the test shows nothing.
//! - `in x86: CHANGE`, `in rust: CHANGE`: what is different there. A test without `in rust` is not lowered to Rust's
//!   instructions: they are those of `lse`.
//! - `dialects: …`: those that it is lowered to; by default all but Rust's.
//!
//! CHANGE is a list of `OLD => NEW` or `OLD <=> NEW` (both are swapped), with ` | ` between them, each with `P1 ` before
//! it if it changes only that thread. A change is a case of each dialect where it makes a difference, or of those in
//! brackets: `mutant [lkmm lse] …`.

use anyhow::{Context, Result, bail, ensure};

use super::lower::{Dialect, lower};

/// One change of a text.
struct Edit {
    thread: Option<String>,
    old: String,
    new: String,
    swaps: bool,
}

struct Change {
    title: String,
    is_mutant: bool,
    /// The dialects in brackets.
    only: Vec<String>,
    edits: Vec<Edit>,
}

pub(super) struct Shape {
    text: String,
    dialects: Vec<String>,
    /// By dialects.
    inherent: Vec<(Vec<String>, Vec<Edit>)>,
    changes: Vec<Change>,
}

/// One test to run.
pub(super) struct Case {
    pub(super) title: String,
    pub(super) is_mutant: bool,
    pub(super) text: String,
}

impl Shape {
    pub(super) fn parse(source: &str) -> Result<Self> {
        let dialects = ["lkmm", "bpf", "x86", "llsc", "lse"].map(String::from).to_vec();
        let mut shape = Self { text: String::new(), dialects, inherent: Vec::new(), changes: Vec::new() };
        for line in source.lines() {
            let head = line.strip_prefix("(* ").and_then(|line| line.strip_suffix(" *)"));
            let (title, edits) = head.and_then(|head| head.split_once(':')).unwrap_or_default();
            let names = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
            match title.split_once(' ').unwrap_or((title, "")) {
                ("dialects", "") => shape.dialects = names(edits.trim()),
                ("in", of) => {
                    let (of, _) = of.split_once(',').unwrap_or((of, ""));
                    shape.inherent.push((names(of), Edit::parse_all(edits)?));
                }
                (kind @ ("also" | "mutant"), title) => {
                    let (only, title) = match title.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
                        Some((only, title)) => (names(only), title),
                        None => (Vec::new(), title),
                    };
                    let (title, is_mutant) = (title.to_owned(), kind == "mutant");
                    shape.changes.push(Change { title, is_mutant, only, edits: Edit::parse_all(edits)? });
                }
                _ => shape.text += &format!("{line}\n"),
            }
        }
        Ok(shape)
    }

    /// The tests in a dialect: first the unchanged one.
    pub(super) fn cases(&self, dialect: Dialect) -> Result<Vec<Case>> {
        let name = dialect.to_string();
        let is_of = |of: &String| name.starts_with(of.as_str());
        let inherent = self.inherent.iter().find(|(of, _)| of.iter().any(is_of));
        if !(self.dialects.contains(&name) || dialect.is_rust() && inherent.is_some()) {
            return Ok(Vec::new());
        }
        let edits = inherent.map_or(&[][..], |(_, edits)| edits);
        let source = apply(&self.text, edits).with_context(|| format!("`in {name}` does not apply"))?;
        let text = lower(&source, dialect)?.context("the dialect lacks an instruction")?;
        let mut cases = vec![Case { title: "-".into(), is_mutant: false, text }];
        if let (Dialect::Lkmm, Some((_, edits))) =
            (dialect, self.inherent.iter().find(|(of, edits)| of[0] == "rust" && !edits.is_empty()))
        {
            let text = apply(&source, edits).context("`in rust` does not apply")?;
            cases.push(Case { title: "in Rust".into(), is_mutant: false, text });
        }
        for Change { title, is_mutant, only, edits } in &self.changes {
            if !only.is_empty() && !only.iter().any(is_of) {
                continue;
            }
            let text = apply(&source, edits).map(|text| lower(&text, dialect)).transpose()?.flatten();
            match text {
                Some(text) if cases.iter().all(|case| case.text != text) => {
                    cases.push(Case { title: title.clone(), is_mutant: *is_mutant, text });
                }
                // Where the dialect was not named, it may lack what is changed, or have one instruction for both.
                _ => {
                    ensure!(only.is_empty() && dialect != Dialect::Lkmm, "{name}: `{title}` changes nothing")
                }
            }
        }
        Ok(cases)
    }
}

impl Edit {
    fn parse_all(text: &str) -> Result<Vec<Self>> {
        text.split(" | ").map(str::trim).filter(|text| !text.is_empty()).map(Self::parse).collect()
    }

    fn parse(text: &str) -> Result<Self> {
        let (text, thread) = match text.split_once(' ') {
            Some((thread @ ("P0" | "P1" | "P2"), rest)) => (rest, Some(format!("\n{thread}("))),
            _ => (text, None),
        };
        let (swaps, (old, new)) = match (text.split_once("<=>"), text.split_once("=>")) {
            (Some(both), _) => (true, both),
            (None, Some(both)) => (false, both),
            (None, None) => bail!("no change: {text}"),
        };
        Ok(Self { thread, old: old.trim().into(), new: new.trim().into(), swaps })
    }

    /// `None` if it does not apply.
    fn apply(&self, text: &str) -> Option<String> {
        let start = self.thread.as_ref().map_or(Some(0), |thread| text.find(thread))?;
        let inside = &text[start..];
        let end = self.thread.as_ref().and_then(|_| inside[1..].find("\nP").or(inside.find("\nexists")));
        let (inside, after) = inside.split_at(end.map_or(inside.len(), |end| end + 1));
        let inside = if self.swaps {
            replace(&replace(&replace(inside, &self.old, "\0")?, &self.new, &self.old)?, "\0", &self.new)?
        } else {
            replace(inside, &self.old, &self.new)?
        };
        Some(format!("{}{inside}{after}", &text[..start]))
    }
}

fn apply(text: &str, edits: &[Edit]) -> Option<String> {
    edits.iter().try_fold(text.to_owned(), |text, edit| edit.apply(&text))
}

/// Replaces all that is not the end of a longer word: `xchg(` is not in `cmpxchg(`. `None` if there is nothing.
fn replace(text: &str, old: &str, new: &str) -> Option<String> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut out, mut done) = (String::new(), 0);
    for (at, _) in text.match_indices(old) {
        if !(old.starts_with(is_word) && text[..at].ends_with(is_word)) {
            out += &text[done..at];
            out += new;
            done = at + old.len();
        }
    }
    (done > 0).then(|| out + &text[done..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(text: &str, edits: &str) -> Option<String> {
        apply(text, &Edit::parse_all(edits).unwrap())
    }

    #[test]
    fn a_change_replaces_words_swaps_and_stays_in_its_thread() {
        assert_eq!(edited("xchg(a) cmpxchg(a)", "xchg( => x(").as_deref(), Some("x(a) cmpxchg(a)"));
        assert_eq!(edited("a; b;", "a <=> b | b; =>").as_deref(), Some(" a;"));
        let text = "\nP0(a) { f(); }\nP1(a) { f(); }\nexists (f=1)";
        assert_eq!(edited(text, "P1 f() => g()").unwrap(), "\nP0(a) { f(); }\nP1(a) { g(); }\nexists (f=1)");
        assert_eq!(edited(text, "P0 f(); =>").unwrap(), "\nP0(a) {  }\nP1(a) { f(); }\nexists (f=1)");
        assert_eq!(edited(text, "h => g"), None);
    }

    #[test]
    fn changes_without_effect_are_errors_where_the_dialect_is_named() {
        let test = |head: &str| {
            let text = format!(
                "C t\n(* {head} *)\n{{ a=0; }}\nP0(int *a) {{ int r0 = xchg(a, 1); }}\nexists (a=1)\n"
            );
            Shape::parse(&text).unwrap().cases(Dialect::X86).map(|cases| cases.len())
        };
        assert_eq!(test("mutant relaxed: xchg( => xchg_relaxed(").unwrap(), 1);
        assert!(test("mutant [x86] relaxed: xchg( => xchg_relaxed(").is_err());
        assert_eq!(test("mutant [lse] relaxed: xchg( => xchg_relaxed(").unwrap(), 1);
        assert_eq!(test("mutant a store: int r0 = xchg(a, 1) => WRITE_ONCE(*a, 1)").unwrap(), 2);
        assert_eq!(test("dialects: lkmm").unwrap(), 0);
    }
}
