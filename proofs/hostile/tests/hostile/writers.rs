//! Writers in memory of any content.

use std::cell::Cell;

use mapring::abi::{Kind, Preamble};
use mapring::{
    Cells, Commands, Counters, ErrorKind, Gauges, Histograms, Latches, OpenOptions, Ring, TopKeys,
};
use mapring_hostile_tests::{Memory, read_all};

use crate::images::{contents, open, with_images};

#[test]
fn writers_go_on_in_whatever_they_find() {
    let done = Cell::new([0_u64; 2]);
    with_images("contents, written", &contents(), |image| {
        let region = open(bytemuck::cast_slice(&image.words), true, OpenOptions::new().write(true)).unwrap();
        let mut count = done.get();
        match (image.geometry.kind(), image.geometry.record()) {
            (Kind::Ring, 24) => {
                let ring = Ring::<[u64; 3]>::from_region(region.clone()).unwrap();
                for shard in 0..ring.shards() {
                    let mut writer = ring.writer(shard).unwrap();
                    let pushed = (0..10).filter(|&n| writer.push(&[n; 3]).is_some()).count();
                    assert!(writer.recover().unwrap() <= ring.slots());
                    assert_eq!(writer.recover().unwrap(), 0);
                    count[usize::from(pushed > 0)] += 1;
                }
            }
            (Kind::Cells, 24) => {
                let cells = Cells::<[u64; 3]>::from_region(region.clone()).unwrap();
                let mut writer = cells.writer().unwrap();
                for index in 0..cells.len() {
                    let set = writer.set(index, &[7; 3]).unwrap();
                    assert_ne!(set, writer.recover(index, &[7; 3]).unwrap());
                    assert_eq!(cells.read(index).unwrap(), [7; 3]);
                    count[usize::from(set)] += 1;
                }
            }
            (Kind::Latches, 24) => {
                let latches = Latches::<[u64; 3]>::from_region(region.clone()).unwrap();
                let writer = latches.writer().unwrap();
                for index in 0..latches.len() {
                    writer.set(index, &[7; 3]).unwrap();
                    assert_eq!(latches.read(index).unwrap(), [7; 3]);
                }
            }
            (Kind::Commands, 24) => {
                let commands = Commands::<[u64; 3]>::from_region(region.clone()).unwrap();
                match commands.writer() {
                    Ok(writer) => {
                        let [pushed, applied] =
                            [commands.pushed(), commands.acknowledged()].map(Result::unwrap);
                        let free = (commands.slots() as u64).saturating_sub(pushed.wrapping_sub(applied));
                        let taken = (0..40).filter(|&n| writer.push(&[n; 3]).is_ok()).count() as u64;
                        assert_eq!(taken, free, "{pushed} pushed, {applied} carried out");
                        assert_eq!(commands.pushed().unwrap(), pushed.wrapping_add(taken));
                    }
                    Err(e) => assert_eq!(e.kind(), ErrorKind::OtherWriters, "a forged owner that lives: {e}"),
                }
            }
            (Kind::Counters, _) => {
                let counters = Counters::from_region(region.clone()).unwrap();
                let before = counters.get(0, 0).unwrap();
                counters.writer(0).unwrap().add(0, u64::MAX).unwrap();
                assert_eq!(counters.get(0, 0).unwrap(), before.wrapping_sub(1));
            }
            (Kind::Histograms, _) => {
                let histograms = Histograms::from_region(region.clone()).unwrap();
                let before = histograms.snapshot_of(0, 0).unwrap();
                (0..=u64::MAX)
                    .step_by(1 << 59)
                    .for_each(|value| histograms.writer(0).unwrap().add(0, value).unwrap());
                assert_ne!(histograms.snapshot_of(0, 0).unwrap(), before);
            }
            (Kind::Gauges, _) => {
                let writer = Gauges::from_region(region.clone()).unwrap().writer(0).unwrap();
                // Hostile words can be of the end of all time: then later values are not recorded.
                for ns in [0, 1 << 40, u64::MAX] {
                    writer.set_at(0, u64::MAX, ns).unwrap();
                }
            }
            (Kind::TopKeys, _) => {
                let top = TopKeys::from_region(region.clone()).unwrap();
                let writer = top.writer(0).unwrap();
                (0..100).for_each(|key| _ = writer.add(key << (key % 64), u64::MAX / 3));
            }
            _ => {}
        }
        done.set(count);
        read_all(&region, None);
        assert_eq!(
            Memory::of(&region).words()[..Preamble::DROPPED],
            image.words[..Preamble::DROPPED],
            "writers stay in their place"
        );
    });
    let [refused, taken] = done.get();
    assert!(refused > 0 && taken > 0, "{refused} refused, {taken} taken");
}
