//! Shared code of the fuzz targets. Each target reads bytes that can have any content, and must neither panic, nor run
//! without an end, nor take memory without a bound.

/// Bytes of a recording or a saved flight before its first block or part.
const START: usize = 16;
/// Bytes of a block, or of a part, before its content.
const HEADER: usize = 32;

/// Makes the checksums of a recording's blocks right, and their numbers: no fuzzer finds a checksum.
pub fn repair_blocks(file: &mut [u8]) {
    repair(file, 28, |header, number| {
        header[24..28].copy_from_slice(&number.to_le_bytes());
        u32::from_le_bytes(header[8..12].try_into().expect("4 bytes")).into()
    });
}

/// Makes the checksums of a saved flight's parts right.
pub fn repair_parts(file: &mut [u8]) {
    repair(file, 24, |header, _| u64::from_le_bytes(header[16..24].try_into().expect("8 bytes")));
}

/// Each part has a header, whose checksum is at `at`, after the bytes that count. `len` returns the length of the content.
fn repair(file: &mut [u8], at: usize, len: impl Fn(&mut [u8; HEADER], u32) -> u64) {
    let mut rest = file.get_mut(START..).unwrap_or_default();
    for number in 0.. {
        let Some((header, after)) = rest.split_first_chunk_mut() else { return };
        let len = usize::try_from(len(header, number)).unwrap_or(usize::MAX);
        let Some((content, after)) = after.split_at_mut_checked(len) else { return };
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(&header[..at]);
        checksum.update(content);
        header[at..at + 4].copy_from_slice(&checksum.finalize().to_le_bytes());
        rest = after;
    }
}

/// Checks that a text for people has no control characters: a file can have any.
///
/// # Panics
/// Panics if it has one.
pub fn assert_printable(text: &[u8]) {
    let text = str::from_utf8(text).expect("UTF-8");
    let bad = text.chars().find(|&c| c.is_control() && !"\n\t".contains(c));
    assert!(bad.is_none(), "{bad:?} in {text:?}");
}
