//! What mapring says of a map: whether it reads it and how, and whether it writes it.

use std::fmt::Debug;

use bytemuck::AnyBitPattern;
use mapring::table::{Guard, Table};
use mapring_kernel_tests::prelude::*;

use crate::facts::{Holds, OTHER, VALUE, Value, again_of, no};

/// The result of reading and writing a value.
pub(crate) fn through_mapring(kind: Kind, holds: Holds, fd: &OwnedFd) -> (String, String) {
    match (kind, holds) {
        (Kind::Latches, _) => table(
            Latches::<Value>::open_with(again_of(fd), OpenOptions::new().write(true)),
            |latches| latches.read(0).unwrap(),
            |latches| latches.writer()?.set(0, &OTHER).map(|()| true),
            VALUE,
            OTHER,
        ),
        (_, Holds::OfEachCpu) => {
            let cells = PerCpuCells::<Value>::open_with(again_of(fd), OpenOptions::new().write(true));
            let Ok(cells) = cells else { return (no(&cells.unwrap_err()), "no".to_owned()) };
            assert_eq!(cells.read(cells.cpus()[0], 0).unwrap(), VALUE);
            (path(cells.access()), format!("no: `{:?}`", cells.region().writable().unwrap_err()))
        }
        (_, Holds::Locks) => large::<17>(fd),
        (_, Holds::Timers) => large::<18>(fd),
        _ => cells(fd, VALUE, OTHER),
    }
}

/// Cells with longer records.
fn large<const N: usize>(fd: &OwnedFd) -> (String, String)
where
    [u64; N]: bytemuck::Pod,
{
    let [mut value, mut other] = [[0; N]; 2];
    value[..VALUE.len()].copy_from_slice(&VALUE);
    other[..OTHER.len()].copy_from_slice(&OTHER);
    cells(fd, value, other)
}

fn cells<T: bytemuck::Pod + PartialEq + Debug>(fd: &OwnedFd, value: T, other: T) -> (String, String) {
    table(
        // Plain words, whatever the C type is.
        OpenOptions::new().write(true).open(again_of(fd)).and_then(Cells::<T>::from_region),
        |cells| cells.read(0).unwrap(),
        |cells| cells.writer()?.set(0, &other),
        value,
        other,
    )
}

/// The same for both kinds of tables: `get` must return `value` first, and `other` after `set` has stored it.
fn table<T, P>(
    opened: mapring::Result<Table<T, P>>,
    get: impl Fn(&Table<T, P>) -> T,
    set: impl Fn(&Table<T, P>) -> mapring::Result<bool>,
    value: T,
    other: T,
) -> (String, String)
where
    T: AnyBitPattern + PartialEq + Debug,
    P: Guard,
{
    let table = match opened {
        Ok(table) => table,
        Err(error) => return (no(&error), "no".to_owned()),
    };
    assert_eq!(get(&table), value);
    let writes = match set(&table) {
        Ok(done) => {
            assert!(done);
            assert_eq!(get(&table), other);
            if table.region().writable().is_ok() { "mapped".to_owned() } else { "by update".to_owned() }
        }
        Err(error) => no(&error),
    };
    (path(table.access()), writes)
}

fn path(access: Access) -> String {
    match access {
        Access::Mapped => "mapped".to_owned(),
        Access::Syscall(refusal) => format!("by lookup: `{refusal:?}`"),
    }
}
