//! Memory files: regions of other processes, valid and forged.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::time::Duration;

use mapring::abi::{Geometry, Kind, Preamble, Tails};
use mapring::writers::MemfdOptions;
use mapring::{Counters, Histograms, Ring};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use super::{lines, mapring, path, stderr, text};

/// A sealed memory file with these bytes.
fn file(bytes: &[u8]) -> OwnedFd {
    let fd = memfd_create("forged", MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC).unwrap();
    let mut file = File::from(fd);
    file.write_all(bytes).unwrap();
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW).unwrap();
    file.into()
}

fn ring(records: u64) -> Ring<[u64; 2]> {
    let ring = Ring::create_memfd(16, 2).unwrap();
    for number in 0..records {
        ring.writer((number % 2) as usize).unwrap().push(&[number, 10 * number]).unwrap();
    }
    ring
}

#[test]
fn a_ring_of_another_process_is_shown() {
    let ring = ring(40);
    let path = path(&ring.region());
    let shown = lines(&mapring(&["show", &path, "--json", "--rows", "3"]));
    assert_eq!(
        (&shown[0]["kind"], &shown[0]["access"], &shown[0]["shards"]),
        (&"ring".into(), &"mapped".into(), &2.into())
    );
    assert_eq!(shown[0]["loader"]["pid"], std::process::id());
    assert_eq!(shown.len(), 4);
    assert_eq!((&shown[3]["shard"], &shown[3]["ticket"]), (&1.into(), &19.into()));
    let people = text(&mapring(&["show", &path]));
    assert!(
        people.contains("40 records reserved, 32 still in the ring")
            && people.contains("a memory file has no BTF")
    );
}

#[test]
fn tail_prints_each_record_once_and_takes_none() {
    let ring = ring(20);
    let path = path(&ring.region());
    for _ in 0..2 {
        let output = mapring(&["tail", &path, "--no-follow", "--json"]);
        let found = lines(&output);
        let tickets = |shard: u64| -> Vec<_> {
            let of_shard = found.iter().filter(|line| line["shard"] == shard);
            of_shard.map(|line| line["ticket"].as_u64().unwrap()).collect()
        };
        assert_eq!((tickets(0), tickets(1)), ((0..10).collect(), (0..10).collect()));
        let expected =
            if cfg!(target_endian = "little") { "0x0200000000000000_1400000000000000" } else { "" };
        assert!(cfg!(target_endian = "big") || found.iter().any(|line| line["record"] == expected));
        assert!(stderr(&output).contains("20 records, none lost"));
    }
    assert_eq!(mapring(&["tail", &path, "--from", "now", "--no-follow"]).stdout, b"");
    assert_eq!(ring.reader().drain().count(), 20);
    // Without types there are no fields.
    for option in [["--where", "pid == 1"], ["--stamp", "ns"]] {
        let output = mapring(&["tail", &path, "--no-follow", option[0], option[1]]);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("a memory file has no BTF"));
    }
}

/// By whatever cause.
#[test]
fn what_programs_dropped_is_the_same_number_everywhere() {
    let create = |options| Ring::<[u64; 2]>::create_memfd_with(16, 1, options).unwrap();
    let full = create(MemfdOptions::default().keep_oldest());
    let mut reader = full.reader();
    reader.require(Duration::from_secs(60)).unwrap();
    let writer = full.writer(0).unwrap();
    let dropped = (0..50).filter(|n| writer.push(&[*n, 0]).is_none()).count();
    let tails = create(MemfdOptions::default().tails(Tails::new(64, 4096).unwrap()));
    let writer = tails.writer(0).unwrap();
    assert!(dropped > 0 && (0..3).all(|n| writer.push_with_tail(&[n, 0], &[0; 65]).is_none()));

    for (ring, number, cause) in [(&full, dropped, "held_by_reader"), (&tails, 3, "tail_too_long")] {
        let path = path(&ring.region());
        let facts = &lines(&mapring(&["show", &path, "--json"]))[0];
        assert_eq!(facts["dropped"], number, "{facts}");
        let shown = text(&mapring(&["show", &path]));
        assert!(shown.contains(&format!("dropped   {number} by programs")), "{shown}");
        assert!(shown.contains(&format!("still in the ring, {number} dropped by programs")), "{shown}");
        let exported = text(&mapring(&["export", "prometheus", "--once", &path]));
        let line = exported.lines().find(|line| line.contains(&format!("cause=\"{cause}\"")));
        assert!(line.is_some_and(|line| line.ends_with(&format!(" {number}"))), "{exported}");
    }
}

/// A record that its program never ends, and the later tickets of its slot, which no program had.
#[test]
fn a_record_that_is_not_ended_is_named_and_lost_once() {
    let ring = Ring::<[u64; 2]>::create_memfd(64, 2).unwrap();
    let writer = ring.writer(1).unwrap();
    let mut reader = ring.reader().with_patience(Duration::ZERO);
    std::mem::forget(writer.reserve().unwrap());
    let mut read = 0;
    for n in 0..5 * 63 {
        writer.push(&[n, n]).unwrap();
        while reader.poll().is_some() {
            read += 1;
        }
    }
    while read < 5 * 63 {
        read += reader.drain().count();
    }
    assert_eq!(reader.stats().to_string(), "315 delivered, 1 lost (1 skipped), 0 dropped, 4 stepped over");

    let path = path(&ring.region());
    let named = "shard 1: the record of ticket 0 has been reserved ";
    let shown = text(&mapring(&["show", &path]));
    assert!(shown.contains(named) && shown.contains("a path of the program has no commit"), "{shown}");
    assert!(shown.contains("stepped over 1 of the tickets in the ring"), "{shown}");
    let facts = &lines(&mapring(&["show", &path, "--json"]))[0];
    assert_eq!((&facts["stepped_over"], &facts["unended"][0]["shard"]), (&1.into(), &1.into()), "{facts}");
    let output = mapring(&["tail", &path, "--no-follow"]);
    assert!(stderr(&output).contains(named), "{}", stderr(&output));

    // Although nothing is written any more.
    let reported = text(&mapring(&["stat", &path, "--count", "2", "--interval", "50ms"]));
    assert_eq!(
        reported.matches(named).count(),
        1,
        "the last report has it, the first is too early: {reported}"
    );
    let output = mapring(&["stat", &path, "--count", "1", "--interval", "600ms", "--json"]);
    let unended = &lines(&output)[0]["unended"];
    assert_eq!(
        (&unended[0]["shard"], &unended[0]["ticket"], &unended[1]),
        (&1.into(), &0.into(), &().into())
    );
    assert!(
        lines(&output)[0]["lost_total"].as_object().unwrap().values().all(|count| *count == 0),
        "{output:?}"
    );
}

#[test]
fn counters_and_histograms_are_shown() {
    let counters = Counters::create_memfd(5, 2).unwrap();
    counters.writer(1).unwrap().add(3, 1_234_567).unwrap();
    let shown = text(&mapring(&["show", &path(counters.region())]));
    assert!(shown.contains("index 3: 1,234,567  cpus [0,1234567]") && shown.contains("(4 are zero"));
    let stat = lines(&mapring(&["stat", &path(counters.region()), "-n", "2", "-i", "1ms", "--json"]));
    assert_eq!(stat.len(), 2);
    assert_eq!(
        (&stat[1]["total"], &stat[1]["unit"], &stat[1]["per_second"]),
        (&1_234_567.into(), &"counts".into(), &0.0.into())
    );

    let histograms = Histograms::create_memfd(2, 1).unwrap();
    let writer = histograms.writer(0).unwrap();
    (1..=1000).for_each(|value| writer.add(1, value).unwrap());
    let path = path(histograms.region());
    let shown = text(&mapring(&["show", &path]));
    assert!(shown.contains("index 1: 1,000 values") && shown.contains("p50 ≤ ") && shown.contains("####"));
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    let json = lines(&mapring(&["show", &path, "--json"]));
    assert_eq!((&json[1]["index"], &json[1]["count"]), (&1.into(), &1000.into()));
    assert!(json[1]["percentiles"]["p50"].as_u64().is_some_and(|p50| (500..=563).contains(&p50)));
}

#[test]
fn forged_names_and_preambles_do_no_harm() {
    let geometry = Geometry::new(Kind::Ring, 24, 8, 1).unwrap();
    let preamble = Preamble { geometry, generation: 1, name: String::new() }.encode();
    let image = |change: &dyn Fn(&mut [u8])| {
        let mut words = vec![0_u64; geometry.bytes() / 8];
        words[..preamble.len()].copy_from_slice(&preamble);
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
        change(bytes);
        file(bytes)
    };
    let names: [&[u8]; 3] = [b"\x1b[2J\x1b[Hroot#", b"a\xc2\x9b31m\xe2\x80\xaetxt", b"\xff\xfe\nlost 0\r"];
    for name in names {
        let fd = image(&|bytes| bytes[64..64 + name.len()].copy_from_slice(name));
        for command in ["ls", "show"] {
            assert!(mapring(&[command, &path(&fd)]).status.success());
            assert!(mapring(&[command, &path(&fd), "--json"]).status.success());
        }
        assert!(mapring(&["tail", &path(&fd), "--no-follow"]).status.success());
    }
    // Each word of the preamble and of the ring's header, overwritten.
    for at in (0..256).step_by(8) {
        for word in [0, 1, u64::MAX, 1 << 40] {
            let fd = image(&|bytes| bytes[at..at + 8].copy_from_slice(&word.to_ne_bytes()));
            for args in [&["show"][..], &["tail", "--no-follow"], &["stat", "-n", "1", "-i", "1ms"]] {
                let output = mapring(&[args, &[&path(&fd)]].concat());
                assert!(matches!(output.status.code(), Some(0 | 1)), "{at} {word} {output:?}");
            }
        }
    }
}

#[test]
fn what_is_no_region_is_refused_with_its_name() {
    let empty = file(&[0; 4096]);
    for name in [
        path(&empty).as_str(),
        "/dev/zero",
        "/dev/null",
        "/proc/self/status",
        "/does/not/exist",
        "/tmp",
        "id:x",
    ] {
        for command in ["show", "tail", "stat"] {
            let output = mapring(&[command, name]);
            assert_eq!(output.status.code(), Some(1), "{command} {name}");
            assert!(output.stdout.is_empty() && stderr(&output).starts_with("mapring: "));
            assert!(stderr(&output).contains(name.trim_start_matches("id:")), "{}", stderr(&output));
        }
    }
    assert!(
        stderr(&mapring(&["show", "id:4294967295"])).contains("no map has the id 4294967295: `mapring ls`")
    );
    assert!(stderr(&mapring(&["show", "id:x"])).contains("write a map's id as id:42"));
    let counters = Counters::create_memfd(2, 1).unwrap();
    let tail = mapring(&["tail", &path(counters.region())]);
    assert!(stderr(&tail).contains("is not a mapring ring, but of kind counters"));
    // A pipe that nobody writes: it must not wait.
    let dir = std::env::temp_dir().join(format!("mapring-fifo-{}", std::process::id()));
    rustix::fs::mknodat(rustix::fs::CWD, &dir, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let output = mapring(&["show", dir.to_str().unwrap()]);
    std::fs::remove_file(&dir).unwrap();
    assert!(output.status.code() == Some(1) && stderr(&output).contains("not a memory file"));
    let ring = ring(1);
    let no_terminal = mapring(&["top", &path(&ring.region())]);
    assert!(no_terminal.status.code() == Some(1) && stderr(&no_terminal).contains("needs a terminal"));
    assert_eq!(mapring(&["tail"]).status.code(), Some(2));
}

#[test]
fn a_closed_pipe_ends_quietly() {
    use std::process::{Command, Stdio};
    let ring = ring(30);
    let mut tail = Command::new(env!("CARGO_BIN_EXE_mapring"));
    tail.args(["tail", "--no-follow", "--quiet", &path(&ring.region())]);
    let mut tail = tail.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(tail.stdout.take());
    let output = tail.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
