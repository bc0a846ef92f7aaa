//! The regions that are pinned: damaged ones, those that nothing writes any more, and those that were replaced.

use std::path::Path;

use super::{Finding, State};
use crate::output::bytes;
use crate::pins::stale;
use crate::regions::find::{All, Place};
use crate::regions::target::{Sort, Target};
use crate::regions::text::printable;

const AREA: &str = "pins";

pub(super) fn findings() -> Vec<Finding> {
    let all = All::find();
    let mut found: Vec<_> =
        all.hidden.iter().map(|why| Finding::unknown(AREA, "pins", why, "There may be more.")).collect();
    let mut good = 0;
    for (id, pins) in &all.maps {
        for pin in pins {
            match finding(&all, *id, pin) {
                Some(finding) => found.push(finding),
                None => good += 1,
            }
        }
    }
    let none = found.iter().all(|finding| finding.state != State::Missing);
    if good > 0 || none {
        found.insert(0, Finding::ok(AREA, "pins", format!("{good} without fault")));
    }
    found
}

/// What is wrong with a pin, if anything is.
fn finding(all: &All, id: u32, pin: &Path) -> Option<Finding> {
    let shown = printable(&pin.to_string_lossy()).into_owned();
    let target = Target::open(Place::Pin(pin.to_owned())).ok()?;
    if let Sort::Damaged(error) = &target.sort {
        let lost = "Readers of this pin fail.";
        return Some(
            Finding::missing(AREA, "region", format!("{shown}: {error}"), lost)
                .fixed_by("start its loader again, or use the version of mapring that made it"),
        );
    }
    let stale = match stale(pin) {
        Ok(stale) => stale?,
        Err(error) => return Some(Finding::unknown(AREA, "writers", error.to_string(), "It may be stale.")),
    };
    let size = bytes(stale.bytes as u64);
    if let Some(other) = successor(all, id, &target) {
        let lost = "Readers of this pin wait for records that never come.";
        return Some(
            Finding::missing(
                AREA,
                "region",
                format!("{shown} was replaced: programs write map {other}"),
                lost,
            )
            .fixed_by(format!("rm {shown} && mapring pin id:{other} {shown}")),
        );
    }
    let (seen, lost) = (format!("{shown}: {}, {size}", stale.why), "Its records can still be read.");
    Some(
        Finding::missing(AREA, "region", seen, lost)
            .fixed_by(format!("mapring clean --yes {}", directory(pin))),
    )
}

/// A map of the same name that programs use.
fn successor(all: &All, id: u32, target: &Target) -> Option<u32> {
    let name = target.name();
    let mut others = all.maps.keys().filter(|other| **other != id);
    others.find_map(|&other| {
        let opened = Target::open(Place::Id(other)).ok().filter(|opened| opened.name() == name)?;
        let used = opened.region()?.programs().is_ok_and(|programs| !programs.is_empty());
        used.then_some(other)
    })
}

fn directory(pin: &Path) -> String {
    pin.parent().map_or_else(String::new, |dir| printable(&dir.to_string_lossy()).into_owned())
}
