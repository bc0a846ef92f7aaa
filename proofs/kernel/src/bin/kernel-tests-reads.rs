//! Reads a ring as user nobody, once stdin has ended, and prints what it found: `kernel-tests-reads PIN [HOW]`. The test `options`
//! compares this with what readers in other languages print. HOW: from the `oldest` record; as root, who may read `types`; with
//! another record (`wrong`). PIN may be a memfd in /proc. Or it only asks for a `bell`, or to `require` it.

use std::io::{Read, stdin};
use std::thread::sleep;
use std::time::Duration;

use bytemuck::AnyBitPattern;
use mapring::{Record, Ring, Start};
use mapring_kernel_tests::{Rec, become_nobody};

fn main() -> anyhow::Result<()> {
    let args: Vec<_> = std::env::args().skip(1).collect();
    if args.get(1).is_none_or(|how| how != "types") {
        become_nobody()?;
    }
    let read = match &args[..] {
        [pin, how] if how == "wrong" => read(pin, how, |_: &[u64; 3]| String::new()),
        [pin, how @ ..] => {
            read(pin, how.first().map_or("", |how| how), |rec: &Rec| format!("{} {}", rec.n, rec.twice))
        }
        [] => anyhow::bail!("kernel-tests-reads PIN [oldest|types|wrong|bell|require]"),
    };
    if let Err(error) = read {
        eprintln!("{error}");
        std::process::exit(1);
    }
    Ok(())
}

fn read<T: AnyBitPattern + Record>(pin: &str, how: &str, text: impl Fn(&T) -> String) -> mapring::Result<()> {
    let ring = match pin.starts_with("/proc/") {
        true => Ring::<T>::open(std::fs::File::open(pin).expect("the memfd is open there"))?,
        false => Ring::<T>::open(pin)?,
    };
    let mut reader = ring.reader_from(if how == "oldest" { Start::Oldest } else { Start::First });
    match how {
        "bell" => {
            let Err(error) = reader.bell() else { return Ok(()) };
            eprintln!("{error}");
            std::process::exit(1)
        }
        "require" => return reader.require(Duration::from_secs(3600)),
        _ => {}
    }
    println!("{}", ring.access());
    stdin().read_to_end(&mut Vec::new()).expect("a pipe can be read");
    // A record that was not ended holds back later ones, for some passes and 10 ms.
    let mut empty = 0;
    while empty < 64 {
        let found = reader.for_each(usize::MAX, |event| {
            let tail: String = event.tail.iter().map(|byte| format!("{byte:02x}")).collect();
            println!("record {} {} {} {tail}", event.shard, event.ticket, text(event.record));
        });
        empty = if found > 0 { 0 } else { empty + 1 };
        sleep(Duration::from_millis(1));
        reader.wait(Duration::ZERO)?; // so that the next pass looks past it
    }
    let s = reader.stats();
    println!(
        "delivered {} lapped {} skipped {} tail_lost {} discarded {} stepped_over {} no_slot {} full {} no_shard {} no_tail {} too_long {}",
        s.delivered,
        s.lapped,
        s.skipped,
        s.tail_lost,
        s.discarded,
        s.stepped_over,
        s.no_slot,
        s.full,
        s.no_shard,
        s.no_tail,
        s.too_long
    );
    reader.take_error().map_or(Ok(()), Err)
}
