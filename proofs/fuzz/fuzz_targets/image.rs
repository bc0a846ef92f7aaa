//! Opens a region of these bytes, and reads everything in it.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use mapring::abi::{Kind, WORD};
use mapring::any::AnyRecord;
use mapring::{OpenOptions, Region, Ring};
use mapring_hostile_tests::{Memory, forge, read_all};

fuzz_target!(|bytes: &[u8]| {
    let Ok(region) = OpenOptions::new().any_record().open(forge(bytes, true)) else { return };
    let words = Memory::of(&region).words();
    match (region.geometry().kind(), region.geometry().tails()) {
        // Its reader is that of the ring.
        (Kind::Readers, _) => {}
        (_, Some(tails)) => with_tails(region.clone(), tails.longest()),
        _ => _ = read_all(&OpenOptions::new().open(forge(bytes, true)).expect("opened before"), Some(&words)),
    }
    assert_eq!(Memory::of(&region).words(), words, "readers write nothing");
});

/// Reads records of any size with their tails.
fn with_tails(region: Region, longest: usize) {
    let geometry = *region.geometry();
    let Ok(ring) = Ring::<AnyRecord<32>>::from_region(region) else { return };
    let mut reader = ring.reader().with_patience(Duration::ZERO);
    let begin: Vec<_> = reader.shards().map(|shard| reader.position(shard)).collect();
    for _ in 0..3 {
        let limit = geometry.shards() * (geometry.capacity() + 16);
        let found = reader.for_each(usize::MAX, |event| {
            assert!(event.tail.len() <= longest && event.shard < geometry.shards());
            assert_eq!(event.record.bytes(geometry.record() - 2 * WORD).len(), geometry.record() - 2 * WORD);
        });
        assert!(found <= limit, "{found} of {limit} records");
    }
    for (shard, begin) in begin.into_iter().enumerate() {
        let moved = reader.position(shard).zip(begin).map(|(now, begin)| now.wrapping_sub(begin));
        assert_eq!(reader.shard_stats(shard).map(|stats| stats.passed()), moved, "shard {shard}");
    }
}
