//! What all commands print alike: colours, notes, sizes and times on the command line.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anstream::ColorChoice;
use clap::ValueEnum;

static QUIET: AtomicBool = AtomicBool::new(false);

/// When to use colours.
#[derive(Clone, Copy, Default, ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Applies the options `--color` and `--quiet` to this process. The streams of `anstream` then print colours or remove them.
pub fn set(color: Color, quiet: bool) {
    let choice = match color {
        Color::Auto => return QUIET.store(quiet, Ordering::Relaxed),
        Color::Always => ColorChoice::Always,
        Color::Never => ColorChoice::Never,
    };
    choice.write_global();
    QUIET.store(quiet, Ordering::Relaxed);
}

/// Whether `--quiet` was given.
pub fn is_quiet() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// As the macro of the standard library, but it does not panic if stderr is full or gone: what the command does matters more
/// than what it says.
#[macro_export]
macro_rules! eprintln {
    ($($text:tt)*) => { $crate::output::print(&format!("{}\n", format_args!($($text)*))) };
}

/// Writes this on stderr, if it can.
pub fn print(text: &str) {
    let _ = anstream::stderr().lock().write_all(text.as_bytes());
}

/// Prints a line on stderr that says how it goes, unless `--quiet`. Errors and losses are printed always, by other means.
pub fn note(text: impl std::fmt::Display) {
    if !is_quiet() {
        eprintln!("{text}");
    }
}

/// A line on the terminal that says how far a command is, after two seconds.
pub struct Progress {
    /// When it is drawn next; `None` if never.
    next: Option<Instant>,
    is_drawn: bool,
}

/// Shows nothing if stderr is not a terminal, or with `--quiet`.
impl Default for Progress {
    fn default() -> Self {
        let is_shown = io::stderr().is_terminal() && !is_quiet();
        Self { next: is_shown.then(|| Instant::now() + Duration::from_secs(2)), is_drawn: false }
    }
}

impl Progress {
    /// Draws the line if it is time.
    pub fn show(&mut self, text: impl FnOnce() -> String) {
        let now = Instant::now();
        if self.next.is_some_and(|next| now >= next) {
            (self.next, self.is_drawn) = (Some(now + Duration::from_millis(500)), true);
            let _ = write!(io::stderr(), "\r\x1b[K{}", text());
        }
    }

    /// Removes the line.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.is_drawn) {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A number of bytes: `4096`, `512K`, `64M`, `2G`. Units are powers of 1024.
pub fn size(text: &str) -> Result<u64, String> {
    let config = parse_size::Config::new().with_binary();
    config.parse_size(text).map_err(|_| "write it as 4096, 512K, 64M or 2G".to_owned())
}

/// The longest time span: a clock plus this is still a time.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);

/// A time span: `500ms`, `10s`, `5m`, `2h`.
pub fn span(text: &str) -> Result<Duration, String> {
    let long = || Err("the longest time is 100 years, and the longest number has 11 digits".to_owned());
    // humantime panics if a sum is exactly a second more than the longest duration. Sums of these are smaller.
    if text.len() > 64 || text.split(|c: char| !c.is_ascii_digit()).any(|number| number.len() > 11) {
        return long();
    }
    match humantime::parse_duration(text) {
        Ok(span) if span <= LONGEST => Ok(span),
        Ok(_) | Err(humantime::DurationError::NumberOverflow) => long(),
        Err(_) => Err("write it as 500ms, 10s, 5m or 2h".to_owned()),
    }
}

/// A wall time in this format of RFC 3339. `None` before 1970 and after 9999, which files and clocks can claim: humantime
/// panics there.
pub fn wall(time: SystemTime, format: fn(SystemTime) -> humantime::Rfc3339Timestamp) -> Option<String> {
    const YEAR_10000: u64 = 253_402_300_800;
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    (since.as_secs() < YEAR_10000).then(|| format(time).to_string())
}

/// `1536` as `1.5K`, for people.
pub fn bytes(count: u64) -> String {
    let mut units = ["", "K", "M", "G", "T", "P", "E"].into_iter();
    #[allow(clippy::cast_precision_loss)] // one digit after the point is shown
    let mut value = count as f64;
    let mut unit = units.next().unwrap_or_default();
    for next in units {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    if value.fract() == 0.0 { format!("{value}{unit}") } else { format!("{value:.1}{unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_spans() {
        assert_eq!((size("64M"), size("512K"), size("7")), (Ok(64 << 20), Ok(512 << 10), Ok(7)));
        assert_eq!(size("many").unwrap_err(), "write it as 4096, 512K, 64M or 2G");
        assert_eq!(span("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(span("10").unwrap_err(), "write it as 500ms, 10s, 5m or 2h");
        assert_eq!(span("100y"), Ok(Duration::from_secs(3_155_760_000)));
        // With the fourth, humantime panicked.
        let most = "18446744073709551615s";
        for long in ["101y", most, "300000000000y", &format!("{most} 1000000000ns"), &"9s ".repeat(30)] {
            assert!(span(long).unwrap_err().starts_with("the longest time is 100 years"), "{long}");
        }
        assert_eq!([bytes(0), bytes(1536), bytes(64 << 20)], ["0", "1.5K", "64M"]);
    }

    #[test]
    fn walls_that_no_calendar_has() {
        use humantime::{format_rfc3339_nanos, format_rfc3339_seconds};
        let at = |seconds| wall(UNIX_EPOCH + Duration::from_secs(seconds), format_rfc3339_seconds);
        assert_eq!(at(0).as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(at(253_402_300_799).as_deref(), Some("9999-12-31T23:59:59Z"));
        assert_eq!(at(253_402_300_800), None);
        assert_eq!(wall(UNIX_EPOCH - Duration::from_nanos(1), format_rfc3339_nanos), None);
    }
}
