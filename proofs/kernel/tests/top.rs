//! Top keys that programs count: within their errors, mapped and by system call, and nothing is lost when programs
//! interrupt each other in a bucket.

use mapring::TopKeys;
use mapring_kernel_tests::prelude::*;

/// The longest wait for events that should happen soon.
const PATIENCE: Duration = Duration::from_secs(60);
/// `KEYS` of the programs.
const KEYS: u32 = 1024;

/// Every key is within its error, also those that are not listed, and the sums are exact.
fn check(top: &TopKeys, exact: &BTreeMap<u64, u64>) {
    for k in [0, 1, 10, usize::MAX] {
        let ranking = top.largest(k).unwrap();
        assert_eq!(ranking.total, exact.values().sum::<u64>(), "{}", top.access());
        assert!(ranking.keys.len() <= k && ranking.keys.is_sorted_by(|a, b| a.count >= b.count));
        let listed: BTreeMap<_, _> = ranking.keys.iter().map(|top| (top.key, top)).collect();
        assert_eq!(listed.len(), ranking.keys.len(), "no key is listed twice");
        for (key, &count) in exact {
            match listed.get(key) {
                Some(top) => {
                    assert!((top.count - top.error..=top.count).contains(&count), "{count}: {top:?}")
                }
                None => assert!(count <= ranking.unlisted, "{key}: {count}, {ranking:?}"),
            }
        }
        assert!(ranking.keys.iter().all(|top| exact.contains_key(&top.key)), "{ranking:?}");
    }
}

#[test]
fn keys_are_counted_within_their_errors() {
    require_bpf!();
    check_all(&bpf::TOP.load(fitted));
    check_all(&bpf::TOP_PORTABLE.load(fitted));
}

fn check_all(object: &Object) {
    let table = map(object, "table");
    let mapped = TopKeys::open(&table).unwrap();
    let by_call = TopKeys::open(read_only(&table)).unwrap();
    assert_eq!(mapped.access(), Access::Mapped);
    assert!(matches!(by_call.access(), Access::Syscall(_)));
    let shards = mapring::cpus::possible_cpus().unwrap().last().unwrap() + 1;
    assert_eq!((mapped.buckets(), mapped.shards()), (16, shards));

    let (add, mut exact) = (Runner::new(object, "add"), BTreeMap::new());
    // First keys that all have a place, then many more.
    for keys in [20, 3000_u64] {
        for &cpu in cpus() {
            on_cpu(cpu);
            for n in 0..keys {
                let (key, amount) = (n.wrapping_mul(n) << (n % 50), 1 + 5000 / (n + 1));
                add.run(&mut [key, amount]);
                *exact.entry(key).or_insert(0) += amount;
            }
        }
        check(&mapped, &exact);
        check(&by_call, &exact);
        assert_eq!(mapped.largest(9).unwrap(), by_call.largest(9).unwrap());
    }
    let ranking = mapped.largest(1).unwrap();
    assert_eq!((ranking.other, ranking.keys[0].key), (0, 0), "{ranking:?}");

    // Userspace adds to the same tables.
    let writable = TopKeys::open_with(&table, OpenOptions::new().write(true)).unwrap();
    for key in [7, u64::MAX, 0] {
        assert!(writable.writer(0).unwrap().add(key, 1 << 40));
        *exact.entry(key).or_insert(0) += 1 << 40;
    }
    check(&mapped, &exact);
    assert_eq!(mapped.writer(0).unwrap_err().kind(), ErrorKind::NotWritable);
    assert_eq!(writable.writer(shards).unwrap_err().kind(), ErrorKind::OutOfRange);
    println!("explored {} keys", exact.len());
}

#[test]
fn a_map_that_was_not_prepared_is_refused() {
    require_bpf!();
    if cpus().last() == Some(&0) {
        return;
    }
    let object = &bpf::TOP.load(unfitted);
    let error = TopKeys::open(&map(object, "table")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFitted);
}

#[test]
fn programs_that_interrupt_each_other_lose_nothing() {
    let object = &require_bpf!(TOP);
    let (cpu, task) = (on_one_cpu(), Runner::new(object, "task"));
    let fd = sample_clock(cpu, 50_000).into_raw_fd();
    let clock = program(object, "tick").attach_perf_event(fd).unwrap();
    let top = TopKeys::open(&map(object, "together")).unwrap();

    // Until interrupts have met a program in the bucket.
    let (start, mut seed) = (Instant::now(), 0);
    while top.largest(0).unwrap().other < 100 && start.elapsed() < PATIENCE {
        for _ in 0..100 {
            task.run(&mut [seed, 0]);
            seed += 64;
        }
    }
    drop(clock);
    let counts = map(object, "exact");
    let exact =
        (0..KEYS).map(|key| (u64::from(key), word_at(&counts, key, 0))).filter(|(_, count)| *count != 0);
    let exact = exact.collect();
    check(&top, &exact);
    let ranking = top.largest(10).unwrap();
    assert!(ranking.other >= 100, "programs never met in the bucket: {ranking:?}");
    println!("explored {} additions, {} in no count", ranking.total, ranking.other);
}
