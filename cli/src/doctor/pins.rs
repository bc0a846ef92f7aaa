//! The regions that are pinned: damaged ones, those that nothing writes any more, and those that were replaced.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use aya::programs::loaded_programs;
use mapring::Start;
use mapring::abi::Kind;
use mapring::liveness::Unended;
use mapring_kit::output::bytes;
use mapring_kit::text::{one_line, printable, printable_path};
use mapring_sys::PinDir;
use mapring_sys::btf::{self, Btf};
use mapring_view::find::{All, Location, is_gone};
use mapring_view::target::{Layout, Target};

use super::{Finding, State, word};
use crate::pins::stale;

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
    let shown = printable_path(pin);
    let target = match Target::open(Location::Pin(pin.to_owned())) {
        Ok(target) => target,
        Err(e) => return unknown("region", &shown, &e),
    };
    if let Layout::Damaged(error) = &target.layout {
        let lost = "Readers of this pin fail.";
        return Some(
            Finding::missing(AREA, "region", format!("{shown}: {error}"), lost)
                .fixed_by("start its loader again, or use the version of mapring that made it"),
        );
    }
    let differs = match other_types(&target) {
        Ok(differs) => differs,
        Err(e) => return unknown("types", &shown, &e),
    };
    if let Some(differs) = differs {
        let lost = "Its readers decode the records by the types of the map, and get wrong values.";
        return Some(
            Finding::missing(AREA, "types", format!("{shown}: {differs}"), lost)
                .fixed_by(of_pin(pin, |pin| {
                    format!("end both versions of the program, rm {pin}, and start the new one")
                })),
        );
    }
    let unended = match unended(&target) {
        Ok(unended) => unended,
        Err(e) => return unknown("records", &shown, &e),
    };
    if let Some(unended) = unended {
        let lost = "No other record uses its slot: programs step over one ticket in each lap.";
        return Some(
            Finding::missing(AREA, "records", format!("{shown}: {unended}"), lost)
                .fixed_by("end the record on each path of the program: mapring_record() does"),
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
            .fixed_by(of_pin(pin, |pin| format!("rm {pin} && mapring pin id:{other} {pin}"))),
        );
    }
    let (seen, lost) = (format!("{shown}: {}, {size}", stale.why), "Its records can still be read.");
    let dir = pin.parent().unwrap_or(pin);
    let clean = of_pin(pin, |_| format!("mapring clean --yes {}", word(dir).unwrap_or_default()));
    Some(Finding::missing(AREA, "region", seen, lost).fixed_by(clean))
}

/// A fix with a path of this pin. Other users give pins their names, and root runs the fix: so it is a command only if
/// the path stays the same pin until then.
fn of_pin(pin: &Path, fix: impl FnOnce(&str) -> String) -> String {
    match (PinDir::of(pin), word(pin)) {
        (Err(_), _) => "no command is safe: another user could change what its path means. Look at the owners and modes of its directories".to_owned(),
        (_, None) => "remove it by its inode (find -inum): its name can't be shown as it is".to_owned(),
        (Ok(_), Some(word)) => fix(&word),
    }
}

/// A pin that could not be looked at. `None` if it is not there any more.
fn unknown(feature: &'static str, pin: &str, e: &anyhow::Error) -> Option<Finding> {
    let seen = || format!("{pin}: {}", one_line(e));
    (!is_gone(e.as_ref())).then(|| Finding::unknown(AREA, feature, seen(), "It may have a fault."))
}

/// A record of a ring that was reserved and not ended, if there is one.
fn unended(target: &Target) -> Result<Option<Unended>> {
    let Some(region) = target.region().filter(|_| target.kind() == Some(Kind::Ring)) else { return Ok(None) };
    let mut records = target.records(Start::Oldest)?;
    // Only records that are there, so that this ends while programs write.
    let limit = region.geometry().capacity().saturating_mul(records.positions().len());
    for _ in 0..20 {
        records.each(limit, &mut |_| {});
        if let Some(unended) = records.unended().into_iter().next() {
            return Ok(Some(unended));
        }
        records.wait(Duration::from_millis(1))?;
    }
    Ok(None)
}

/// The program that has another type of the same name than the records, if there is one: libbpf lets the programs of a
/// new version use a pinned map if the sizes are the same.
fn other_types(target: &Target) -> Result<Option<String>> {
    let (Ok(record), Some(region)) = (target.ty(), target.region()) else { return Ok(None) };
    let users = match region.programs() {
        Ok(users) => users,
        // The area `user` says so of all pins.
        Err(e) if e.io_error().is_some_and(|e| e.kind() == ErrorKind::PermissionDenied) => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    let wanted = fields(record);
    for user in users {
        let types = match types_of(user.id) {
            Ok(Some(types)) => types,
            Ok(None) => continue,
            Err(e) if is_gone(e.as_ref()) => continue,
            Err(e) => return Err(e),
        };
        let of_name = types.types().filter(|ty| ty.kind() == record.kind() && ty.name() == record.name());
        // A compiler makes few of one name; these bytes are a program's own.
        let (same, other): (Vec<_>, Vec<_>) = of_name.take(64).partition(|ty| fields(*ty) == wanted);
        if same.is_empty() && !other.is_empty() {
            let name = String::from_utf8_lossy(record.name()).into_owned();
            let (name, program) = (printable(&name), printable(&user.name));
            return Ok(Some(format!("program {} ({program}) has another `{name}` than the map", user.id)));
        }
    }
    Ok(None)
}

/// The types of a loaded program, if it has some.
fn types_of(program: u32) -> Result<Option<Btf>> {
    let all = loaded_programs().find(|found| found.as_ref().map_or(true, |found| found.id() == program));
    let Some(btf) = all.transpose()?.and_then(|program| program.btf_id()) else { return Ok(None) };
    Ok(Some(Btf::load(btf)?))
}

/// The name, place and size of all fields of a type, nested ones included.
fn fields(ty: btf::Type<'_>) -> Vec<(&[u8], usize, u32, Option<u64>)> {
    let all = ty.fields_within(|_| true).into_iter();
    all.map(|field| (field.name, field.from, field.bits, field.ty.bytes())).collect()
}

/// A map of the same name that programs use.
fn successor(all: &All, id: u32, target: &Target) -> Option<u32> {
    let name = target.name();
    let mut others = all.maps.keys().filter(|other| **other != id);
    others.find_map(|&other| {
        let opened = Target::open(Location::Id(other)).ok().filter(|opened| opened.name() == name)?;
        let used = opened.region()?.programs().is_ok_and(|programs| !programs.is_empty());
        used.then_some(other)
    })
}
