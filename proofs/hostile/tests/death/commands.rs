//! Commands: the owner dies after any store of a push, and the next owner continues after the last command.

use mapring::abi::{Geometry, Kind};
use mapring::{Commands, ErrorKind, OpenOptions, Region};
use mapring_hostile_tests::{Memory, Record};

use super::{at_every_store, kill, next};

/// Stores of a push: the command, its number, the position.
const PUSH: usize = Record::WORDS + 2;
/// The store that gives the ring back.
const BACK: usize = 1;

fn region() -> Region {
    let geometry = Geometry::new(Kind::Commands, size_of::<Record>() as u64, 4, 1).unwrap();
    Region::create_memfd(geometry, "record").unwrap()
}

fn open(region: &Region) -> Commands<Record> {
    Commands::from_region(OpenOptions::new().write(true).open(Memory::of(region).fd()).unwrap()).unwrap()
}

/// What programs would carry out: the commands up to the position, each whole and with its number.
fn pushed(region: &Region) -> Vec<u64> {
    let (words, geometry) = (Memory::of(region).words(), region.geometry());
    let pushed = open(region).pushed().unwrap();
    let command = |number: u64| {
        let at = (geometry.slots(0) + usize::try_from((number - 1) % 4).unwrap()) * geometry.element_words();
        let command: Record = bytemuck::cast::<[u64; 3], _>(words[at + 1..at + 4].try_into().unwrap());
        assert!(words[at] == number && command.is_whole(), "command {number}: {:?}", &words[at..at + 4]);
        command.n
    };
    (1..=pushed).map(command).collect()
}

#[test]
fn a_command_whose_writer_died_was_not_pushed() {
    at_every_store("command push", 2 * PUSH + BACK, |stores| {
        let region = region();
        let death = kill(&region, stores, &["command", "2", "10"]);
        let whole = death.stores / PUSH;
        assert_eq!(pushed(&region), [10, 11][..whole]);

        // The next owner is another process, and then this one.
        assert_eq!(next(&region, &["command", "1", "20"]), (whole + 1).to_string());
        let commands = open(&region);
        assert_eq!(commands.owner().unwrap(), None, "the last owner has ended by itself");
        let writer = commands.writer().unwrap();
        assert_eq!(writer.push(&Record::new(30)), Ok(whole as u64 + 2));
        let expected: Vec<_> = [10, 11][..whole].iter().copied().chain([20, 30]).collect();
        assert_eq!(pushed(&region), expected);
        death
    });
}

/// The victim died in the last lap's slot: what it wrote there is of a command that nobody pushed.
#[test]
fn death_in_a_slot_that_is_used_again() {
    at_every_store("command push, second lap", PUSH + BACK, |stores| {
        let region = region();
        assert_eq!(next(&region, &["command", "5", "1"]), "1 2 3 4 -", "full");
        let (memory, header) =
            (Memory::of(&region), region.geometry().first() * region.geometry().element_words());
        memory.put(header + 1, 4); // all are carried out
        let death = kill(&region, stores, &["command", "1", "50"]);
        let number = 5 + death.stores / PUSH;
        assert_eq!(memory.words()[header], number as u64 - 1);
        assert_eq!(next(&region, &["command", "1", "60"]), number.to_string());
        let at = (region.geometry().slots(0) + (number - 1) % 4) * region.geometry().element_words();
        let words = memory.words();
        assert_eq!(words[at..at + 2], [number as u64, 60]);
        death
    });
}

#[test]
fn an_owner_is_replaced_when_it_is_dead_and_not_before() {
    at_every_store("own", 1, |stores| {
        let region = region();
        let death = kill(&region, stores, &["own"]);
        let commands = open(&region);
        assert_eq!(commands.owner().unwrap().is_some(), death.stores == 1);
        let writer = commands.writer().unwrap();
        assert_eq!(commands.owner().unwrap(), Some(std::process::id()));
        assert_eq!(writer.push(&Record::new(1)), Ok(1));
        // Another handle in this process is the same owner.
        assert_eq!(open(&region).writer().unwrap().push(&Record::new(2)), Ok(2));
        drop(writer);
        assert_eq!(commands.owner().unwrap(), None);
        death
    });
}

#[test]
fn processes_that_cannot_be_are_no_owners() {
    let region = region();
    let owner = region.geometry().first() * region.geometry().element_words() + 4;
    let commands = open(&region);
    for forged in [1, 1 << 22, u64::MAX, u64::from(std::process::id())] {
        Memory::of(&region).put(owner, forged);
        drop(commands.writer().unwrap());
    }
    // One that lives, by its start: this process's parent.
    let parent = std::os::unix::process::parent_id();
    let stat = std::fs::read_to_string(format!("/proc/{parent}/stat")).unwrap();
    let fields = &stat[stat.rfind(')').unwrap() + 2..];
    let start: u64 = fields.split(' ').nth(19).unwrap().parse().unwrap();
    Memory::of(&region).put(owner, start << 22 | u64::from(parent));
    let error = commands.writer().unwrap_err();
    assert_eq!((error.kind(), commands.owner().unwrap()), (ErrorKind::OtherWriters, Some(parent)));
    assert!(error.to_string().contains(&format!("process {parent} writes")), "{error}");
}
