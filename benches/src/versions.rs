//! Versions of the peers.

/// The version of a crate in this build, from `Cargo.lock`.
pub fn version_of(name: &str) -> &'static str {
    let wanted = format!("name = \"{name}\"");
    let mut lines = include_str!("../../Cargo.lock").lines().skip_while(|line| *line != wanted);
    let version = lines.nth(1).and_then(|line| line.strip_prefix("version = \""));
    version.map_or("unknown", |version| version.trim_end_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_lock_file() {
        assert_eq!(version_of("mapring-benches"), env!("CARGO_PKG_VERSION"));
        assert!(version_of("libbpf-sys").contains("+v"));
        assert_eq!(version_of("no such crate"), "unknown");
    }
}
