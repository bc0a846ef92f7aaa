//! Parsers of files under /proc: text in, numbers out. Nothing here opens a file.

/// From `/proc/<pid>/stat`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stat<'a> {
    pub(crate) comm: &'a [u8],
    pub(crate) running: bool,
    /// The CPU that it runs on, or last ran on.
    pub(crate) cpu: u16,
}

/// A name can contain blanks and parentheses: the last closing parenthesis ends it.
pub(crate) fn stat(text: &[u8]) -> Option<Stat<'_>> {
    let open = text.iter().position(|&byte| byte == b'(')?;
    let close = text.iter().rposition(|&byte| byte == b')')?;
    let comm = text.get(open + 1..close)?;
    let rest = std::str::from_utf8(text.get(close + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let running = fields.next()? == "R";
    // Field 39 of proc(5); the state was field 3.
    let cpu = fields.nth(39 - 4)?.parse().ok()?;
    Some(Stat { comm, running, cpu })
}

/// How often the process was switched out, from `/proc/<pid>/status`.
pub(crate) fn switches(text: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(text);
    let number = |line: &str| line.split_once(':')?.1.trim().parse::<u64>().ok();
    let mut both = text.lines().filter(|line| line.contains("voluntary_ctxt_switches:"));
    Some(number(both.next()?)?.wrapping_add(number(both.next()?)?))
}

/// From `/proc/stat`: the idle ticks of each CPU, and the total of all context switches.
pub(crate) fn machine(text: &[u8]) -> (Vec<(usize, u64)>, u64) {
    let text = String::from_utf8_lossy(text);
    let mut idle = Vec::new();
    let mut switches = 0;
    for line in text.lines() {
        let mut fields = line.split_ascii_whitespace();
        match fields.next() {
            Some("ctxt") => switches = fields.next().and_then(|n| n.parse().ok()).unwrap_or(0),
            Some(name) => {
                let Some(cpu) = name.strip_prefix("cpu").and_then(|n| n.parse().ok()) else { continue };
                // Skip user, nice and system; take idle and iowait.
                let ticks = fields.skip(3).take(2).filter_map(|n| n.parse::<u64>().ok());
                idle.push((cpu, ticks.sum()));
            }
            None => {}
        }
    }
    (idle, switches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_parenthesis() {
        let fields = "R 1 ".to_owned() + &"0 ".repeat(34) + "7 0 0";
        let text = format!("12 (a) (b)) {fields}");
        assert_eq!(stat(text.as_bytes()), Some(Stat { comm: b"a) (b)", running: true, cpu: 7 }));
        assert_eq!(stat(b"12 (half"), None);
        assert_eq!(stat(b")("), None);
    }

    #[test]
    fn this_process() {
        let read = |path| std::fs::read(path).unwrap();
        let text = read("/proc/thread-self/stat");
        let stat = stat(&text).unwrap();
        assert!(stat.running);
        assert_eq!(stat.comm, read("/proc/thread-self/comm").trim_ascii_end());
        assert!(switches(&read("/proc/self/status")).is_some());
        let (idle, switches) = machine(&read("/proc/stat"));
        assert!(!idle.is_empty() && switches > 0);
    }
}
