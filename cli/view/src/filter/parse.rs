//! The text of an expression, and what its literals can mean.

use anyhow::{Context, Result, bail, ensure};
use regex::{Regex, RegexBuilder};

use super::{Compare, Expr};

/// The deepest nesting of an expression.
const DEPTH: usize = 64;

/// What a literal can mean: the type of the field decides.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Literal {
    pub(super) number: Option<i128>,
    pub(super) float: Option<f64>,
    pub(super) text: Option<Vec<u8>>,
    /// `0x` and digits, `_` among them.
    pub(super) bytes: Option<Vec<u8>>,
}

impl Literal {
    /// A number, or else the name of a constant.
    fn word(word: &str) -> Self {
        let digits = word.trim_start_matches('-');
        if let Some(hex) = digits.strip_prefix("0x") {
            let (bytes, number) = hexadecimal(hex);
            let number = number.map(|number| if word.starts_with('-') { -number } else { number });
            let text = number.is_none().then(|| word.into());
            return Self { number, text, bytes, float: None };
        }
        if let Ok(number) = word.parse() {
            return Self { number: Some(number), ..Self::default() };
        }
        let is_number = digits.starts_with(|c: char| c.is_ascii_digit());
        match word.parse().ok().filter(|_| is_number) {
            Some(float) => Self { float: Some(float), ..Self::default() },
            None => Self { text: Some(word.into()), ..Self::default() },
        }
    }

    /// A text. JSON prints pointers and bytes as texts.
    fn quoted(text: &str) -> Option<Self> {
        let bytes = text.strip_prefix("0x").and_then(|hex| hexadecimal(hex).0);
        Some(Self { text: Some(unescaped(text)?), bytes, ..Self::default() })
    }

    /// The number that it is as bytes, the most significant first.
    pub(super) fn address(&self) -> Option<i128> {
        let number = |bytes: &Vec<u8>| {
            (bytes.len() <= 8).then(|| bytes.iter().fold(0, |number, byte| number << 8 | i128::from(*byte)))
        };
        self.number.or_else(|| number(self.bytes.as_ref()?))
    }
}

/// Hexadecimal digits as bytes, if they are whole ones, and as a number.
fn hexadecimal(digits: &str) -> (Option<Vec<u8>>, Option<i128>) {
    let digits = digits.replace('_', "");
    let pairs = digits.as_bytes().chunks(2).map(|pair| {
        let pair = str::from_utf8(pair).ok().filter(|pair| pair.len() == 2 && !pair.starts_with('+'))?;
        u8::from_str_radix(pair, 16).ok()
    });
    (pairs.collect(), i128::from_str_radix(&digits, 16).ok())
}

/// A text without its escapes: those in which texts are printed, and those of JSON.
fn unescaped(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend(plain.as_bytes());
        let (c, after) = escape.split_at_checked(escape.chars().next()?.len_utf8())?;
        rest = after;
        match c {
            "n" => bytes.push(b'\n'),
            "r" => bytes.push(b'\r'),
            "t" => bytes.push(b'\t'),
            "b" => bytes.push(8),
            "f" => bytes.push(12),
            "0" => bytes.push(0),
            "\\" | "\"" | "'" | "/" => bytes.extend(c.as_bytes()),
            "x" => bytes.push(u8::try_from(digits(&mut rest, 2)?).ok()?),
            "u" => {
                let code = match rest.strip_prefix('{') {
                    Some(after) => {
                        let (digits, after) = after.split_once('}')?;
                        rest = after;
                        u32::from_str_radix(digits, 16).ok()?
                    }
                    None => digits(&mut rest, 4)?,
                };
                bytes.extend(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => return None,
        }
    }
    bytes.extend(rest.as_bytes());
    Some(bytes)
}

/// The number of the next hexadecimal digits.
fn digits(rest: &mut &str, count: usize) -> Option<u32> {
    let (digits, after) = rest.split_at_checked(count)?;
    *rest = after;
    u32::from_str_radix(digits, 16).ok()
}

impl Expr {
    /// Parses an expression.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut parser = Parser { rest: text, whole: text, depth: DEPTH };
        let expr = parser.any()?;
        ensure!(parser.rest.is_empty(), "{}", parser.error("an operator, && or ||"));
        Ok(expr)
    }
}

struct Parser<'a> {
    rest: &'a str,
    whole: &'a str,
    depth: usize,
}

impl Parser<'_> {
    fn any(&mut self) -> Result<Expr> {
        let mut parts = vec![self.all()?];
        while self.eat("||") {
            parts.push(self.all()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expr::Any(parts) })
    }

    fn all(&mut self) -> Result<Expr> {
        let mut parts = vec![self.one()?];
        while self.eat("&&") {
            parts.push(self.one()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expr::All(parts) })
    }

    fn one(&mut self) -> Result<Expr> {
        let Some(depth) = self.depth.checked_sub(1) else {
            bail!("the expression is nested deeper than {DEPTH}");
        };
        let before = std::mem::replace(&mut self.depth, depth);
        let one = self.parenthesis();
        self.depth = before;
        one
    }

    fn parenthesis(&mut self) -> Result<Expr> {
        if self.eat("(") {
            let expr = self.any()?;
            ensure!(self.eat(")"), "{}", self.error("a closing parenthesis"));
            return Ok(expr);
        }
        if !self.rest.trim_start().starts_with("!=") && self.eat("!") {
            return Ok(Expr::Not(Box::new(self.one()?)));
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Expr> {
        let Some(field) = self.field() else { bail!("{}", self.error("the name of a field")) };
        if self.eat("!~") {
            return Ok(Expr::Not(Box::new(Expr::Match(field, self.regex()?))));
        }
        if self.eat("~") {
            return Ok(Expr::Match(field, self.regex()?));
        }
        let operators = [
            ("==", Compare::Equal),
            ("!=", Compare::NotEqual),
            ("<=", Compare::LessOrEqual),
            (">=", Compare::GreaterOrEqual),
            ("<", Compare::Less),
            (">", Compare::Greater),
        ];
        for (text, how) in operators {
            if self.eat(text) {
                return Ok(Expr::Compare(field, how, self.literal()?));
            }
        }
        Ok(Expr::Field(field))
    }

    fn regex(&mut self) -> Result<Regex> {
        let Some(text) = self.text()? else { bail!("{}", self.error("a pattern in quotes")) };
        // The whole text must match, as in Prometheus. Only a quote needs its escape for this language alone.
        let pattern = text.replace("\\\"", "\"");
        Ok(RegexBuilder::new(&format!("^(?:{pattern})$")).dot_matches_new_line(true).build()?)
    }

    fn literal(&mut self) -> Result<Literal> {
        if let Some(text) = self.text()? {
            return Literal::quoted(&text).with_context(|| format!("an unknown escape in \"{text}\""));
        }
        let word = self.word(|c: char| c.is_alphanumeric() || "_.+-".contains(c));
        ensure!(!word.is_empty(), "{}", self.error("a number, a constant or a text in quotes"));
        Ok(Literal::word(&word))
    }

    /// What is between quotes, with its escapes.
    fn text(&mut self) -> Result<Option<String>> {
        if !self.eat("\"") {
            return Ok(None);
        }
        let mut escaped = false;
        for (at, c) in self.rest.char_indices() {
            if c == '"' && !escaped {
                let text = self.rest[..at].to_owned();
                self.rest = self.rest[at + 1..].trim_start();
                return Ok(Some(text));
            }
            escaped = c == '\\' && !escaped;
        }
        bail!("a text without its closing quote in: {}", self.whole)
    }

    fn field(&mut self) -> Option<String> {
        let is_part = |c: char| c.is_alphanumeric() || "_.[]".contains(c);
        let rest = self.rest.trim_start();
        let starts = rest.starts_with(|c: char| c.is_alphabetic() || c == '_');
        starts.then(|| self.word(is_part))
    }

    fn word(&mut self, is_part: impl Fn(char) -> bool) -> String {
        let rest = self.rest.trim_start();
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let (word, rest) = rest.split_at(end);
        self.rest = rest.trim_start();
        word.to_owned()
    }

    fn eat(&mut self, token: &str) -> bool {
        let rest = self.rest.trim_start().strip_prefix(token);
        if let Some(rest) = rest {
            // Spaces after a quote belong to the text.
            self.rest = if token == "\"" { rest } else { rest.trim_start() };
        }
        rest.is_some()
    }

    fn error(&self, expected: &str) -> String {
        let at = self.whole.len() - self.rest.len();
        let found = if self.rest.is_empty() { "the end" } else { self.rest };
        format!("the filter needs {expected} at character {}, not: {found}", at + 1)
    }
}
