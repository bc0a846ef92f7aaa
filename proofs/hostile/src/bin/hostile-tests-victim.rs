//! A writer to be killed: `hostile-tests-victim traced|free WHAT [NUMBER…]` performs one operation on the region on its
//! stdin and prints the result.
//!
//! With `traced`, it stops itself before and after, so that the tracer steps through only that operation.

use std::os::fd::AsFd;

use mapring::writers::CellsWriter;
use mapring::{Cells, Commands, Counters, Gauges, Latches, OpenOptions, Region, Ring, TopKeys, Writer};
use mapring_hostile_tests::Record;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};

type Deed = Box<dyn FnOnce() -> String>;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let traced = args[0] == "traced";
    let numbers: Vec<u64> = args[2..].iter().map(|n| n.parse().expect("a number")).collect();
    let deed = deed(&args[1], numbers);
    if traced {
        ptrace::traceme().expect("no other tracer");
        raise(Signal::SIGSTOP).expect("signals reach their sender");
    }
    let output = deed();
    if traced {
        raise(Signal::SIGSTOP).expect("signals reach their sender");
    }
    println!("{output}");
}

/// The operations, prepared up to their first write.
fn deed(what: &str, numbers: Vec<u64>) -> Deed {
    let first = numbers.first().copied().unwrap_or_default();
    match what {
        // `push COUNT N`: records N, N + 1, …
        "push" => {
            let writer = ring();
            let records: Vec<_> = (0..first).map(|i| Record::new(numbers[1] + i)).collect();
            Box::new(move || {
                let tickets = records.iter().map(|record| writer.push(record));
                tickets.map(|t| t.map_or("-".to_owned(), |t| t.to_string())).collect::<Vec<_>>().join(" ")
            })
        }
        // The steps of `push`, one by one.
        "fill" => {
            let (writer, record) = (ring(), Record::new(first));
            Box::new(move || {
                let Some(mut slot) = writer.reserve() else { return "-".to_owned() };
                slot.write(&record);
                slot.commit().expect("a record was written").to_string()
            })
        }
        "discard" => {
            let writer = ring();
            Box::new(move || {
                let Some(slot) = writer.reserve() else { return "-".to_owned() };
                let ticket = slot.ticket();
                slot.discard();
                ticket.to_string()
            })
        }
        // `tails COUNT N BYTES`: records N, N + 1, … with tails of this length.
        "tails" => {
            let writer = tails();
            let records = (0..first).map(|i| Record::new(numbers[1] + i));
            let records: Vec<_> = records.map(|record| (record, record.tail(bytes(numbers[2])))).collect();
            Box::new(move || {
                let tickets = records.iter().map(|(record, tail)| writer.push_with_tail(record, tail));
                tickets.map(|t| t.map_or("-".to_owned(), |t| t.to_string())).collect::<Vec<_>>().join(" ")
            })
        }
        "recover-tails" => {
            let mut writer = tails();
            Box::new(move || writer.recover().expect("no other writer").to_string())
        }
        "recover" => {
            let mut writer = ring();
            Box::new(move || writer.recover().expect("no other writer").to_string())
        }
        "set" => {
            let (writer, value) = (cells(), Record::new(first));
            Box::new(move || writer.set(0, &value).expect("cell 0").to_string())
        }
        "recover-cell" => {
            let (mut writer, value) = (cells(), Record::new(first));
            Box::new(move || writer.recover(0, &value).expect("cell 0").to_string())
        }
        "latch" => {
            let latches = Latches::<Record>::from_region(region()).expect("latches");
            let (writer, value) = (latches.writer().expect("writable"), Record::new(first));
            Box::new(move || writer.set(0, &value).map(|()| "true".to_owned()).expect("latch 0"))
        }
        // `command COUNT N`: commands N, N + 1, …
        "command" => {
            let commands = Commands::<Record>::from_region(region()).expect("commands");
            let writer = commands.writer().expect("no other process");
            let orders: Vec<_> = (0..first).map(|i| Record::new(numbers[1] + i)).collect();
            Box::new(move || {
                let pushed = orders.iter().map(|order| writer.push(order));
                pushed.map(|n| n.map_or("-".to_owned(), |n| n.to_string())).collect::<Vec<_>>().join(" ")
            })
        }
        // Becomes the owner.
        "own" => {
            let commands = Commands::<Record>::from_region(region()).expect("commands");
            Box::new(move || {
                // Stays the owner until this process ends.
                std::mem::forget(commands.writer().expect("no other process"));
                "true".to_owned()
            })
        }
        // `top KEY AMOUNT`
        "top" => {
            let writer = TopKeys::from_region(region()).and_then(|top| top.writer(0));
            let (writer, amount) = (writer.expect("writable buckets"), numbers[1]);
            Box::new(move || writer.add(first, amount).to_string())
        }
        // `gauge VALUE NS`
        "gauge" => {
            let writer = Gauges::from_region(region()).and_then(|gauges| gauges.writer(0));
            let (writer, ns) = (writer.expect("writable gauges"), numbers[1]);
            Box::new(move || writer.set_at(0, first, ns).expect("gauge 0").to_string())
        }
        "add" => {
            let writer = Counters::from_region(region()).and_then(|counters| counters.writer(0));
            let writer = writer.expect("writable counters");
            Box::new(move || writer.add(0, first).map(|()| "true".to_owned()).expect("counter 0"))
        }
        "create" => Box::new(|| {
            // Stays open until this process ends.
            std::mem::forget(Ring::<[u64; 2]>::create_memfd(4, 1).expect("memory"));
            String::new()
        }),
        _ => panic!("{what}?"),
    }
}

fn region() -> Region {
    let stdin = std::io::stdin().as_fd().try_clone_to_owned().expect("a descriptor");
    OpenOptions::new().write(true).open(stdin).expect("a region on stdin")
}

fn ring() -> Writer<Record> {
    Ring::from_region(region()).and_then(|ring| ring.writer(0)).expect("a writable ring")
}

fn tails() -> Writer<Record> {
    Ring::from_region(region()).and_then(|ring| ring.writer(0)).expect("a writable ring with tails")
}

fn bytes(number: u64) -> usize {
    usize::try_from(number).expect("few")
}

fn cells() -> CellsWriter<Record> {
    Cells::from_region(region()).and_then(|cells| cells.writer()).expect("writable cells")
}
