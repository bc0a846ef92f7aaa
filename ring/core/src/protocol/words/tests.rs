//! Every byte of a value is copied, and none beside it.

use super::*;

const GUARD: u8 = 0xa5;

/// No two adjacent bytes are equal and none is zero, so that a missing tail is detected.
fn pattern<const N: usize>(n: usize) -> [u8; N] {
    std::array::from_fn(|i| u8::try_from((n * 89 + i * 7 + i / 31) % 255 + 1).unwrap())
}

/// A value between neighbours that must not change.
#[derive(Clone, Copy)]
#[repr(C)]
struct Guarded<const N: usize>([u8; 16], [u8; N], [u8; 16]);

/// Writes a value of `N` bytes over another one, and reads it in both ways.
fn copied<const N: usize>() {
    let len = words_of::<[u8; N]>();
    for at in [0, 1, 2] {
        let words: Vec<_> = (0..at + len + 2).map(|_| AtomicU64::new(u64::MAX)).collect();
        let all = WordsMut::new(&words);
        for n in 0..2 {
            let value = pattern::<N>(n);
            all.write(at, &value);
            let bytes: Vec<_> =
                words.iter().flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes()).collect();
            let (before, rest) = bytes.split_at(at * WORD);
            let (written, rest) = rest.split_at(N);
            let (padding, after) = rest.split_at(len * WORD - N);
            assert_eq!(written, value, "{N} bytes at word {at}");
            assert!(padding.iter().all(|&byte| byte == 0), "{N} bytes at word {at}: {padding:?}");
            assert!([before, after].concat().iter().all(|&byte| byte == 0xff), "{N} bytes at word {at}");
            let mut out = vec![[GUARD; 2 * WORD]; N / (2 * WORD) + 1];
            let (pairs, after) = out.split_at_mut(N / (2 * WORD));
            all.copy_pairs(at, pairs);
            assert_eq!(pairs.as_flattened(), &value[..pairs.len() * 2 * WORD], "{N} bytes at word {at}");
            assert_eq!(after, [[GUARD; 2 * WORD]], "{N} bytes at word {at}");
            let reads: [fn(&Words<'_>, usize, &mut [u8; N]); 2] =
                [|words, at, out| words.read(at, out), |words, at, out| words.copy(at, out)];
            for (way, read) in reads.iter().enumerate() {
                // Bytes that are not copied would still be those of the other value.
                let mut out = Guarded([GUARD; 16], pattern::<N>(n + 2), [GUARD; 16]);
                read(&all, at, &mut out.1);
                assert_eq!(out.1, value, "{N} bytes at word {at}, way {way}");
                assert_eq!((out.0, out.2), ([GUARD; 16], [GUARD; 16]), "{N} bytes, way {way}");
            }
        }
    }
}

macro_rules! copied {
    ($($bytes:literal)*) => { $(copied::<$bytes>();)* };
}

#[test]
fn every_byte_of_small_values_is_copied() {
    copied!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34);
    copied!(35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64);
    copied!(65 66 67 68 69 70 71 72 73 74 75 76 77 78 79 80);
}

/// Sizes around [`LARGE`] and around whole lines.
#[test]
fn every_byte_of_large_values_is_copied() {
    copied!(127 128 129 191 192 193 247 248 249 255 256 257 263 264 265 271 272 273 311 319 320 321 328);
    copied!(1000 1001 1023 1024 1025 4087 4088 4095 4096 4097);
}

#[test]
fn every_byte_is_copied_to_any_address() {
    let words: Vec<_> = (0..256_u64).map(|n| AtomicU64::new(n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    let bytes: Vec<_> = words.iter().flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes()).collect();
    for (offset, pairs) in (0..40).flat_map(|offset| [1, 4, 63, 64, 67, 100].map(|pairs| (offset, pairs))) {
        let mut out = vec![GUARD; offset + pairs * 2 * WORD + 64];
        let (room, after) = out[offset..].split_at_mut(pairs * 2 * WORD);
        Words::new(&words).copy_pairs(1, room.as_chunks_mut().0);
        assert_eq!(room, &bytes[WORD..][..room.len()], "{pairs} pairs at {offset}");
        assert!(after.iter().all(|&byte| byte == GUARD), "{pairs} pairs at {offset}");
        assert!(out[..offset].iter().all(|&byte| byte == GUARD), "{pairs} pairs at {offset}");
    }
}

#[test]
fn a_word_is_changed_by_its_own_operations() {
    let words = [0, 0b1100, 5].map(AtomicU64::new);
    let all = WordsMut::new(&words);
    let load = |at| all.load(at, Ordering::Relaxed);
    all.store(0, 7, Ordering::Relaxed);
    all.add(0, 2);
    assert_eq!((all.fetch_add(0, 1, Ordering::Relaxed), load(0)), (9, 10));
    all.set(1, 0b0110);
    assert_eq!((load(1), all.clear(1, 0b1010), load(1)), (0b1110, 0b1110, 0b0100));
    assert!(!all.swap_if(2, 4, 8, Ordering::Relaxed) && load(2) == 5);
    assert!(all.swap_if(2, 5, 8, Ordering::Relaxed) && load(2) == 8);
    all.store(2, 6 << 32 | 3, Ordering::Relaxed);
    let half = |upper| all.half(2, upper).load(Ordering::Relaxed);
    assert_eq!((half(false), half(true)), (3, 6));
    all.half(2, true).store(9, Ordering::Relaxed);
    assert_eq!(load(2), 9 << 32 | 3);
}

#[test]
fn views_end_where_they_say() {
    let words = [1, 2, 3].map(AtomicU64::new);
    let all = Words::new(&words);
    assert!(all.len() == 3 && !all.is_empty() && all.slice(3, 0).is_empty());
    assert_eq!(all.slice(1, 2).load(1, Ordering::Relaxed), 3);
    all.prefetch(1 << 40, 3); // anywhere
    all.slice(0, 2).copy_pairs(0, &mut [[0; 16]]);
    let panics = |f: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).is_err();
    assert!(panics(&|| _ = all.load(3, Ordering::Relaxed)) && panics(&|| _ = all.slice(2, 2)));
    assert!(panics(&|| _ = all.slice(usize::MAX, 2)) && panics(&|| _ = all.slice(4, 0)));
    assert!(panics(&|| all.slice(0, 1).read(0, &mut [0_u64; 2])));
    assert!(panics(&|| all.slice(0, 1).copy(0, &mut [0_u8; 9])));
    assert!(panics(&|| all.copy_pairs(0, &mut [[0; 16]; 2])));
    let all = WordsMut::new(&words);
    assert!(panics(&|| all.slice(1, 1).write(0, &[0_u64; 2])) && panics(&|| all.write_bytes(2, &[0; 9])));
}

/// As any record: aligned to more than a word.
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(16))]
struct Any([u64; 4]);

#[test]
fn of_any_record_the_view_is_copied() {
    let words = [1, 2, 3].map(AtomicU64::new);
    let all = WordsMut::new(&words);
    let read = |at| {
        let (mut read, mut copied) = (Any([9; 4]), Any([9; 4]));
        all.read(at, &mut read);
        all.copy(at, &mut copied);
        assert_eq!(read, copied);
        read.0
    };
    assert_eq!((read(0), read(2), read(3)), ([1, 2, 3, 9], [3, 9, 9, 9], [9; 4]));
    all.write(1, &Any([5, 6, 7, 8]));
    assert_eq!(read(0), [1, 5, 6, 9]);
    assert_eq!((is_any::<Any>(), is_any::<[u64; 4]>()), (true, false));
    assert_eq!((used::<Any>(7, 2), used::<[u8; 9]>(7, 2), words_of::<[u8; 8]>()), (7, 5, 1));
}
