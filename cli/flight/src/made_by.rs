//! Which mapring recorded: its version, and a hash of all that another one must know to read it. A command reads only
//! recordings whose hash is its own. Equal versions can differ, too: builds of two commits.

use std::collections::BTreeMap;

use mapring::Record;

use crate::record::{HOLD, MARK, OFFLINE, RESUME};
use crate::rings::{GROUPS, MARKS, text_of};
use crate::stopped::Stop;
use crate::triggers::KINDS;

pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Increase it when a field means something else, and keeps its name and place.
const MEANING: u32 = 1;

/// What the numbers of triggers and marks mean, and how the end of the recording is written.
pub(crate) const STOP: &str = "stop";

/// What is recorded, in words: the records of each ring, and [`STOP`].
pub(crate) fn layouts() -> BTreeMap<String, String> {
    let rings = GROUPS.iter().chain([&MARKS]).map(|group| (group.name.to_owned(), group.layout()));
    let by_hand = [("mark", MARK), ("hold", HOLD), ("resume", RESUME), ("offline", OFFLINE)];
    let kinds = KINDS.iter().map(|kind| (kind.name, kind.number)).chain(by_hand);
    let kinds: String = kinds.map(|(name, number)| format!(" {name}={number}")).collect();
    rings.chain([(STOP.to_owned(), format!("{MEANING} {}{kinds}", text_of(&Stop::LAYOUT)))]).collect()
}

/// The text that `start` keeps with the recording.
pub(crate) fn text() -> String {
    let layouts = layouts().into_iter().map(|(name, layout)| format!("{name}: {layout}\n"));
    format!("{VERSION} {:08x}", crc32fast::hash(layouts.collect::<String>().as_bytes()))
}

/// What is wrong if another mapring made the recording, by the text that it has kept.
pub(crate) fn complaint(kept: Option<&str>) -> Option<String> {
    let version = match kept {
        Some(kept) if kept == text() => return None,
        kept => kept.and_then(|kept| kept.split(' ').next()),
    };
    let by = match version {
        None => "an older mapring".to_owned(),
        Some(VERSION) => format!("another build of mapring {VERSION}"),
        Some(version) => format!("mapring {}", mapring_kit::text::printable(version)),
    };
    Some(format!(
        "started by {by}: read it with that one, or end it with `mapring flight stop` of any version"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_builds_are_told_apart() {
        assert_eq!(complaint(Some(&text())), None);
        let of = |kept: Option<&str>| complaint(kept).unwrap();
        assert!(
            of(Some(&format!("{VERSION} 0"))).starts_with("started by another build of mapring 0.1.0: read")
        );
        assert!(of(Some("9.8.7 abc")).starts_with("started by mapring 9.8.7: read"));
        assert!(of(None).contains("older") && of(Some("\x1b[2J")).contains("\\u{1b}"));
    }

    #[test]
    fn what_programs_write_is_in_the_layouts() {
        let layouts = layouts();
        assert!(layouts["sched"].starts_with("ns@0:8 pid@8:4 tid@12:4 "), "{layouts:?}");
        let stop = &layouts[STOP];
        for part in ["kind@24:4", "met@", " oom=7", " hold=33"] {
            assert!(stop.contains(part), "{part}: {stop}");
        }
    }
}
