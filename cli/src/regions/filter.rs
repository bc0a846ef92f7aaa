//! Expressions over the fields of records: `pid == 12 && (comm ~ "ba.*" || !ok)`.

use anyhow::{Result, bail, ensure};

use super::value::Value;

/// The deepest nesting of an expression.
const DEPTH: usize = 64;

/// A parsed expression.
#[derive(Clone, Debug)]
pub(crate) enum Expr {
    Any(Vec<Expr>),
    All(Vec<Expr>),
    Not(Box<Expr>),
    /// The field is not zero.
    Field(String),
    Compare(String, Compare, Literal),
    Match(String, regex::Regex),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Debug)]
pub(crate) enum Literal {
    Number(i128),
    Float(f64),
    Text(String),
}

impl Expr {
    /// Parses an expression.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut parser = Parser { rest: text, whole: text, depth: DEPTH };
        let expr = parser.any()?;
        ensure!(parser.rest.is_empty(), "{}", parser.error("an operator, && or ||"));
        Ok(expr)
    }

    /// Refuses a field that no record has, and a number that is compared with a text. `empty` is a decoded record of zeros.
    pub(crate) fn check(&self, empty: &Value) -> Result<()> {
        let Value::Struct(fields) = empty else { return Ok(()) };
        if fields.iter().any(|(name, _)| name.starts_with('(')) {
            return Ok(()); // Records of several types: their fields depend on the tag.
        }
        if let Some(field) = self.unknown(&|path| empty.at(path).is_some()) {
            let names: Vec<_> = fields.iter().map(|(name, _)| name.as_str()).collect();
            bail!("--where: no field {field}; the fields are {}", names.join(", "));
        }
        match self.mismatch(empty) {
            Some(why) => bail!("--where: {why}"),
            None => Ok(()),
        }
    }

    /// Why a comparison can never be true.
    fn mismatch(&self, empty: &Value) -> Option<String> {
        match self {
            Self::Any(parts) | Self::All(parts) => parts.iter().find_map(|part| part.mismatch(empty)),
            Self::Not(part) => part.mismatch(empty),
            Self::Field(_) | Self::Match(..) => None,
            Self::Compare(path, _, with) => {
                let is = match (empty.at(path)?, with) {
                    (Value::Unsigned(_) | Value::Signed(_) | Value::Float(_), Literal::Text(_)) => {
                        "a number, and is compared with a text"
                    }
                    (Value::Text(_), Literal::Number(_) | Literal::Float(_)) => {
                        "a text, and is compared with a number"
                    }
                    (Value::Struct(_), _) => "a struct: compare one of its fields",
                    (Value::List(_), _) => "an array: compare one of its elements",
                    _ => return None,
                };
                Some(format!("{path} is {is}"))
            }
        }
    }

    /// Whether it is true of this record. A comparison with a field that the record lacks is false.
    pub(crate) fn holds(&self, record: &Value) -> bool {
        match self {
            Self::Any(parts) => parts.iter().any(|part| part.holds(record)),
            Self::All(parts) => parts.iter().all(|part| part.holds(record)),
            Self::Not(part) => !part.holds(record),
            Self::Field(path) => record.at(path).is_some_and(|value| !value.is_zero()),
            Self::Compare(path, how, with) => record.at(path).is_some_and(|value| how.holds(value, with)),
            Self::Match(path, regex) => record.at(path).is_some_and(|value| match value {
                Value::Text(text) | Value::Name(text) => regex.is_match(text),
                other => regex.is_match(&other.to_string()),
            }),
        }
    }

    /// The first field that `known` does not know.
    pub(crate) fn unknown(&self, known: &impl Fn(&str) -> bool) -> Option<&str> {
        match self {
            Self::Any(parts) | Self::All(parts) => parts.iter().find_map(|part| part.unknown(known)),
            Self::Not(part) => part.unknown(known),
            Self::Field(path) | Self::Compare(path, ..) | Self::Match(path, _) => {
                (!known(path)).then_some(path)
            }
        }
    }
}

impl Compare {
    fn holds(self, value: &Value, with: &Literal) -> bool {
        let order = match (value, with) {
            (Value::Text(a) | Value::Name(a), Literal::Text(b)) => Some(a.as_str().cmp(b)),
            (Value::Unsigned(a) | Value::Code(a), Literal::Number(b)) => Some(i128::from(*a).cmp(b)),
            (Value::Signed(a), Literal::Number(b)) => Some(i128::from(*a).cmp(b)),
            (Value::Bool(a), Literal::Number(b)) => Some(i128::from(*a).cmp(b)),
            (Value::Bool(a), Literal::Text(b)) => Some(a.to_string().as_str().cmp(b)),
            #[allow(clippy::cast_precision_loss)] // as in C
            (value, with) => match (value, with) {
                (Value::Float(a), Literal::Float(b)) => a.partial_cmp(b),
                (Value::Float(a), Literal::Number(b)) => a.partial_cmp(&(*b as f64)),
                (Value::Unsigned(a) | Value::Code(a), Literal::Float(b)) => (*a as f64).partial_cmp(b),
                (Value::Signed(a), Literal::Float(b)) => (*a as f64).partial_cmp(b),
                _ => None,
            },
        };
        match (self, order) {
            (Self::NotEqual, None) => true,
            (_, None) => false,
            (Self::Equal, Some(order)) => order.is_eq(),
            (Self::NotEqual, Some(order)) => order.is_ne(),
            (Self::Less, Some(order)) => order.is_lt(),
            (Self::LessOrEqual, Some(order)) => order.is_le(),
            (Self::Greater, Some(order)) => order.is_gt(),
            (Self::GreaterOrEqual, Some(order)) => order.is_ge(),
        }
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

    fn regex(&mut self) -> Result<regex::Regex> {
        let Some(text) = self.text()? else { bail!("{}", self.error("a pattern in quotes")) };
        // The whole text must match, as in Prometheus.
        Ok(regex::Regex::new(&format!("^(?:{text})$"))?)
    }

    fn literal(&mut self) -> Result<Literal> {
        if let Some(text) = self.text()? {
            return Ok(Literal::Text(text));
        }
        let is_part = |c: char| c.is_alphanumeric() || "_.+-".contains(c);
        let word = self.word(is_part);
        let digits = word.trim_start_matches('-');
        if let Some(hex) = digits.strip_prefix("0x")
            && let Ok(number) = i128::from_str_radix(hex, 16)
        {
            return Ok(Literal::Number(if word.starts_with('-') { -number } else { number }));
        }
        if let Ok(number) = word.parse() {
            return Ok(Literal::Number(number));
        }
        if digits.starts_with(|c: char| c.is_ascii_digit())
            && let Ok(number) = word.parse()
        {
            return Ok(Literal::Float(number));
        }
        ensure!(!word.is_empty(), "{}", self.error("a number, a constant or a text in quotes"));
        Ok(Literal::Text(word))
    }

    /// A text in quotes. `\"` is a quote in it; other escapes stay, for patterns.
    fn text(&mut self) -> Result<Option<String>> {
        if !self.eat("\"") {
            return Ok(None);
        }
        let (mut text, mut escaped) = (String::new(), false);
        for (at, c) in self.rest.char_indices() {
            match c {
                '"' if escaped => {
                    text.pop();
                    text.push(c);
                    escaped = false;
                }
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(Some(text));
                }
                _ => {
                    text.push(c);
                    escaped = c == '\\' && !escaped;
                }
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Value {
        Value::Struct(vec![
            ("pid".to_owned(), Value::Unsigned(12)),
            ("ret".to_owned(), Value::Signed(-2)),
            ("comm".to_owned(), Value::Text("bash".to_owned())),
            ("state".to_owned(), Value::Name("RUNNING".to_owned())),
            ("ok".to_owned(), Value::Bool(false)),
            ("load".to_owned(), Value::Float(1.5)),
            ("big".to_owned(), Value::Unsigned(u64::MAX)),
            ("args".to_owned(), Value::List(vec![Value::Unsigned(0), Value::Unsigned(7)])),
            ("at".to_owned(), Value::Struct(vec![("x".to_owned(), Value::Unsigned(3))])),
        ])
    }

    #[test]
    fn expressions_hold_or_not() {
        for (text, expected) in [
            ("pid == 12", true),
            ("pid==12&&comm~\"ba.*\"", true),
            ("comm ~ \"ba\"", false),
            ("comm !~ \"ba\"", true),
            ("comm == \"bash\" && comm < \"c\"", true),
            ("pid != 12 || ret < 0", true),
            ("pid > 12 || ret >= 0 || ret <= -3", false),
            ("!(pid == 12)", false),
            ("!ok && load > 1.25 && load == 1.5 && pid < 12.5", true),
            ("ok == false && ok == 0 && !args[0] && args[1] == 7", true),
            ("state == RUNNING && state ~ \"RUN.*\" && state != STOPPED", true),
            ("big == 0xffffffffffffffff && big > 9223372036854775807", true),
            ("pid == 1 && pid == 2 || pid == 12", true),
            ("pid == 1 && (pid == 2 || pid == 12)", false),
            ("at.x == 3 && at.y != 1", false),
            ("missing || !missing", true),
            ("pid == \"12\"", false),
            ("pid ~ \"1.\"", true),
        ] {
            assert_eq!(Expr::parse(text).unwrap().holds(&record()), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        let deep = "(".repeat(100_000);
        for text in [
            "",
            "pid ==",
            "== 3",
            "pid = 3",
            "(pid",
            "pid)",
            "comm ~ \"[\"",
            "comm ~ x",
            "comm == \"x",
            "a &&",
            deep.as_str(),
            "!",
            "a b",
        ] {
            assert!(Expr::parse(text).is_err(), "{text:.20}");
        }
        let error = Expr::parse("pid = 3").unwrap_err().to_string();
        assert!(error.ends_with("at character 5, not: = 3"), "{error}");
        let nots = "!".repeat(1000) + "a";
        assert!(Expr::parse(&nots).unwrap_err().to_string().contains("deeper"));
    }

    #[test]
    fn comparisons_that_never_hold_are_refused() {
        for (text, why) in [
            ("!(pid == 12 || pid == \"bash\")", "pid is a number, and is compared with a text"),
            ("comm > 5", "comm is a text, and is compared with a number"),
            ("at == 3", "at is a struct: compare one of its fields"),
            ("args != 3", "args is an array: compare one of its elements"),
        ] {
            let error = Expr::parse(text).unwrap().check(&record()).unwrap_err().to_string();
            assert_eq!(error, format!("--where: {why}"));
        }
        assert!(
            Expr::parse("state == STOPPED && ok == 0 && load < 1 && comm ~ \"1\"")
                .unwrap()
                .check(&record())
                .is_ok()
        );
    }

    #[test]
    fn unknown_fields_are_named() {
        let expr = Expr::parse("pid == 1 && !(pdi > 2)").unwrap();
        assert_eq!(expr.unknown(&|name| name == "pid"), Some("pdi"));
        assert_eq!(expr.unknown(&|_| true), None);
    }

    #[test]
    fn quotes_and_escapes() {
        let record = Value::Struct(vec![("t".to_owned(), Value::Text("a \"b\".c".to_owned()))]);
        assert!(Expr::parse(r#"t == "a \"b\".c""#).unwrap().holds(&record));
        assert!(Expr::parse(r#"t ~ ".*\"\.c""#).unwrap().holds(&record));
    }
}
