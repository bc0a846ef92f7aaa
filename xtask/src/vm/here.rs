//! `cargo xtask features`: probes this kernel for the features that other kernels are probed for.

use std::fmt::Write as _;

use super::features::{FEATURES, Feature, probe_all};
use super::protocol::{Answer, Probed};

/// Probes the running kernel, and prints the behaviour without each missing feature, or why a probe has no result.
pub(crate) fn features() {
    let machine = rustix::system::uname();
    print!("Linux {}\n\n{}", machine.release().to_string_lossy(), table(&probe_all()));
}

fn table(probed: &[Probed]) -> String {
    let mut text = String::new();
    for (Feature { since: (major, minor), name, without, .. }, Probed { answer, .. }) in
        FEATURES.iter().zip(probed)
    {
        let (here, more) = match answer {
            Answer::Supported => ("yes", String::new()),
            Answer::Unsupported(words) => ("no", format!("without it: {without}\nsaid: {words}")),
            Answer::CouldNotTell(words) => ("?", format!("can't tell: {words}")),
        };
        let since = format!("{major}.{minor}");
        writeln!(text, "{here:4} {since:5} {name}").expect("a string");
        for line in more.lines() {
            writeln!(text, "           {line}").expect("a string");
        }
    }
    if probed.iter().any(|probed| matches!(probed.answer, Answer::CouldNotTell(_))) {
        text += "\n?: asking takes CAP_BPF and CAP_PERFMON (and CAP_SYS_ADMIN for some); as root, all is answered that can be.\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_answers() {
        let answers = [
            Answer::Supported,
            Answer::Unsupported("EINVAL".into()),
            Answer::CouldNotTell("Operation not permitted".into()),
        ];
        let probed = |(feature, answer): (&Feature, Answer)| Probed { feature: feature.name.into(), answer };
        let text = table(&FEATURES.iter().zip(answers).map(probed).collect::<Vec<_>>());
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("yes  5.5   arrays that can be mapped"), "{text}");
        assert!(
            lines[1].starts_with("no   5.6   batched") && lines[2].contains("without it: one lookup"),
            "{text}"
        );
        assert!(lines[4].starts_with("?    5.10") && lines[5].ends_with("Operation not permitted"), "{text}");
        assert!(text.ends_with("all is answered that can be.\n"), "{text}");
        assert!(!table(&[]).contains("CAP_BPF"));
    }
}
