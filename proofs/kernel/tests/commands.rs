//! Commands: programs on all CPUs carry out each command of several threads once and in order; no event sees a mixture;
//! one process writes at a time, and the next one takes over when it died.

use std::io::{BufRead, BufReader};

use mapring::Commands;
use mapring::writers::CommandsWriter;
use mapring_kernel_tests::prelude::*;

const CHILD: &str = env!("CARGO_BIN_EXE_kernel-tests-child");
/// As in `bpf/commands.bpf.c`.
const SLOTS: usize = 64;
const AT_ONCE: u64 = 16;
/// Words of the header, as in docs/abi.md.
const PUSHED: usize = 0;
const APPLIED: usize = 1;
const LOCK: usize = 2;
const OWNER: usize = 4;

fn both(test: impl Fn(&Object)) {
    test(&bpf::COMMANDS.load(fitted));
    test(&bpf::COMMANDS_PORTABLE.load(fitted));
}

fn open<T: Record>(object: &Object, name: &str) -> Commands<T> {
    Commands::open_with(&map(object, name), OpenOptions::new().write(true)).unwrap()
}

fn variable<T: Record>(object: &Object, name: &str) -> T {
    Globals::open(section(object, ".bss").unwrap()).unwrap().variable(name).unwrap().get().unwrap()
}

/// Runs an event; returns the thread and number of the command whose effect it saw.
fn event(program: &Runner) -> (u64, u64) {
    let mut args = [0; 4];
    program.run(&mut args);
    assert_eq!(args[3], 1, "no writer was in its way");
    (args[1], args[2])
}

fn clean(object: &Object) {
    for name in ["out_of_order", "mixed", "mixtures"] {
        assert_eq!(variable::<u64>(object, name), 0, "{name}");
    }
}

#[test]
fn the_very_next_event_sees_a_command() {
    require_bpf!();
    both(|object| {
        let commands = open::<Order>(object, "orders");
        let program = Runner::new(object, "one_event");
        let writer = commands.writer().unwrap();
        assert_eq!((commands.slots(), commands.owner().unwrap()), (SLOTS, Some(std::process::id())));
        assert_eq!(event(&program), (0, 0), "nothing was pushed");
        for number in 1..=1000 {
            assert_eq!(writer.push(&Order::new(1, number)), Ok(number));
            assert_eq!(writer.acknowledged(), number - 1);
            assert_eq!(event(&program), (1, number));
            assert_eq!((writer.acknowledged(), commands.pushed().unwrap()), (number, number));
        }
        clean(object);

        // By system call as well.
        let looked_up = Commands::<Order>::open(read_only(&map(object, "orders"))).unwrap();
        assert_eq!(looked_up.access(), Access::Syscall(Refusal::ReadOnlyFd));
        let seen = [looked_up.acknowledged(), looked_up.pushed(), looked_up.skipped()].map(Result::unwrap);
        assert_eq!((seen, looked_up.owner().unwrap()), ([1000, 1000, 0], Some(std::process::id())));
        assert_eq!(looked_up.writer().unwrap_err().kind(), ErrorKind::NotWritable);
        let read = Commands::<Order>::open(&map(object, "orders")).unwrap();
        assert_eq!(read.writer().unwrap_err().refusal(), Some(Refusal::NotAsked));
        assert_eq!(Commands::<[u64; 6]>::open(&map(object, "orders")).unwrap_err().kind(), ErrorKind::Layout);

        drop(writer);
        assert_eq!(commands.owner().unwrap(), None);
    });
}

/// Elements of 16 and 24 bytes: the header is in several of them.
#[test]
fn small_commands() {
    require_bpf!();
    both(|object| {
        let (smalls, odds) = (open::<u64>(object, "smalls"), open::<[u32; 3]>(object, "odds"));
        let [small, odd] = ["one_small", "one_odd"].map(|name| Runner::new(object, name));
        let (small_writer, odd_writer) = (smalls.writer().unwrap(), odds.writer().unwrap());
        let mut sum = 0;
        for n in 1..=100_u32 {
            assert_eq!(small_writer.push(&u64::from(n)), Ok(u64::from(n)));
            let mut args = [0; 4];
            small.run(&mut args);
            assert_eq!((args[2], args[3]), (u64::from(n), 1));
            assert_eq!(odd_writer.push(&[n, 1000 * n, 7]), Ok(u64::from(n)));
            sum += u64::from(n) * 1001 + 7;
            odd.run(&mut args);
            assert_eq!(args[2], sum);
            assert_eq!((small_writer.acknowledged(), odd_writer.acknowledged()), (n.into(), n.into()));
        }
    });
}

#[test]
fn a_full_ring_refuses_a_command_and_loses_none() {
    require_bpf!();
    both(|object| {
        let commands = open::<Order>(object, "orders");
        let program = Runner::new(object, "one_event");
        let writer = commands.writer().unwrap();
        let mut number = 0;
        for _ in 0..5 {
            while let Ok(pushed) = writer.push(&Order::new(0, number + 1)) {
                number += 1;
                assert_eq!(pushed, number);
            }
            assert_eq!(number - writer.acknowledged(), SLOTS as u64);
            let full = writer.push(&Order::new(0, 77)).unwrap_err();
            assert_eq!((full.slots, commands.pushed().unwrap()), (SLOTS, number), "{full}");
            // Each event does a bounded part.
            let before = writer.acknowledged();
            assert_eq!(event(&program).1, before + AT_ONCE);
            assert_eq!(writer.acknowledged(), before + AT_ONCE);
        }
        while writer.acknowledged() < number {
            event(&program);
        }
        assert_eq!((event(&program), commands.skipped().unwrap()), ((0, number), 0));
        clean(object);
    });
}

/// Programs in three contexts on each CPU, which run until the links are dropped.
fn attach(object: &Object) -> Vec<Link> {
    let others = ["on_enter", "on_switch"].map(|name| program(object, name).attach().unwrap());
    ticks(object, "on_tick", 50_000).into_iter().chain(others).collect()
}

#[test]
fn every_command_is_carried_out_once_and_in_order() {
    const THREADS: u64 = 4;
    const EACH: u64 = 500_000;
    require_bpf!();
    both(|object| {
        let commands = open::<Order>(object, "orders");
        let events = attach(object);
        let (full, total) = (AtomicU64::new(0), THREADS * EACH);
        let push = |writer: &CommandsWriter<Order>, number: u64| {
            let order = Order::new(number / EACH, number % EACH + 1);
            loop {
                match writer.push(&order) {
                    Ok(number) => break number,
                    // A system call, and so an event.
                    Err(_) => thread::yield_now(),
                }
                full.fetch_add(1, Ordering::Relaxed);
            }
        };
        thread::scope(|scope| {
            for thread in 0..THREADS {
                // Clones, and writers of other handles, take turns.
                let writer = commands.writer().unwrap();
                let writer = if thread % 2 == 0 { writer.clone() } else { writer };
                let push = &push;
                scope.spawn(move || {
                    let mut last = 0;
                    for number in thread * EACH..(thread + 1) * EACH {
                        let pushed = push(&writer, number);
                        assert!(
                            pushed > last && writer.acknowledged() >= pushed.saturating_sub(SLOTS as u64)
                        );
                        last = pushed;
                    }
                });
            }
            scope.spawn(|| {
                let (mut seen, mut steps) = (0, 0_u64);
                while seen < total {
                    let now = commands.acknowledged().unwrap();
                    assert!(now >= seen && now <= total, "{now} after {seen}");
                    steps += u64::from(now > seen);
                    seen = now;
                    thread::yield_now();
                }
                println!("acknowledged in {steps} steps");
            });
        });
        drop(events);
        // Each thread's commands came in order, so none is missing.
        assert_eq!((variable::<u64>(object, "carried_out"), commands.skipped().unwrap()), (total, 0));
        clean(object);
        let [events, unread] = ["events", "unread"].map(|name| variable::<u64>(object, name));
        let drained_on = Counters::open(&map(object, "drained_on")).unwrap();
        assert_eq!(drained_on.sum(0).unwrap(), total);
        let cpus = cpus().iter().filter(|&&cpu| drained_on.get(cpu, 0).unwrap() > 0).count();
        let full = full.into_inner();
        println!(
            "{total} commands on {cpus} CPUs; {full} times full; {events} events, {unread} of them unread"
        );
        assert!(full > 0 && events > 0 && (cpus > 1 || mapring_kernel_tests::cpus().len() == 1));
    });
}

#[test]
fn each_event_after_the_acknowledgement_sees_the_command() {
    const TIMES: u64 = 3000;
    require_bpf!();
    both(|object| {
        let commands = open::<Order>(object, "orders");
        let program = Runner::new(object, "one_event");
        let stop = AtomicBool::new(false);
        let events = attach(object);
        thread::scope(|scope| {
            for &cpu in cpus() {
                let stop = &stop;
                scope.spawn(move || {
                    on_cpu(cpu);
                    while !stop.load(Ordering::Relaxed) {
                        thread::yield_now();
                    }
                });
            }
            let writer = commands.writer().unwrap();
            for number in 1..=TIMES {
                writer.push(&Order::new(0, number)).unwrap();
                while writer.acknowledged() < number {
                    thread::yield_now();
                }
                // On the CPU that this happens to be, and on another one.
                assert_eq!(event(&program), (0, number));
                on_cpu(cpus()[usize::try_from(number).unwrap() % cpus().len()]);
                assert_eq!(event(&program), (0, number));
            }
            stop.store(true, Ordering::Relaxed);
        });
        everywhere();
        drop(events);
        clean(object);
    });
}

/// The words of an element of the map `orders`.
type Element = [u64; 8];

#[test]
fn forged_words_stop_no_program() {
    require_bpf!();
    both(|object| {
        let commands = open::<Order>(object, "orders");
        let (program, orders) = (Runner::new(object, "one_event"), map(object, "orders"));
        let writer = commands.writer().unwrap();
        let (first, slots) = (commands.region().geometry().first(), commands.region().geometry().slots(0));
        let put = |element: usize, words: Element| update(&orders, u32::try_from(element).unwrap(), &words);
        let header = |pushed, applied, lock| {
            let mut words = Element::default();
            (words[PUSHED], words[APPLIED], words[LOCK]) = (pushed, applied, lock);
            put(first, words);
        };

        // A slot that has another command than its number says is skipped, and counted.
        for number in 1..=3 {
            writer.push(&Order::new(0, number)).unwrap();
        }
        put(slots + 1, [77; 8]);
        assert_eq!((event(&program), writer.acknowledged(), commands.skipped().unwrap()), ((0, 3), 3, 1));

        // Positions: each event is bounded, and in the end the programs continue at the forged place.
        let positions = [0, 1, 2, 63, 64, 65, 1 << 32, 1 << 63, u64::MAX - 1, u64::MAX];
        let (mut full, mut ended) = (0, 0);
        for pushed in positions {
            for applied in positions {
                header(pushed, applied, 0);
                for _ in 0..SLOTS as u64 / AT_ONCE {
                    event(&program);
                }
                assert_eq!(writer.acknowledged(), pushed, "from {applied}");
                ended += 1;
                // A forged distance is a full ring for the writer.
                header(pushed, applied, 0);
                let refused = writer.push(&Order::new(0, 5)).is_err();
                assert_eq!(refused, pushed.wrapping_sub(applied) >= SLOTS as u64);
                full += u64::from(refused);
            }
        }
        assert!(ended == 100 && full > 0 && full < 100);

        // A lock that nobody holds: commands wait, programs do not.
        header(0, 0, 9);
        for number in 1..=SLOTS as u64 {
            assert_eq!(writer.push(&Order::new(0, number)), Ok(number));
            event(&program);
        }
        assert!(writer.push(&Order::new(0, 0)).is_err() && writer.acknowledged() == 0);
        put(first, {
            let mut words = Element::default();
            words[PUSHED] = SLOTS as u64;
            words
        });
        (0..4).for_each(|_| _ = event(&program));
        assert_eq!((event(&program), writer.acknowledged()), ((0, SLOTS as u64), SLOTS as u64));
    });
}

/// Another process that writes the commands in this pin.
struct Owner(Child);

impl Owner {
    /// Starts it; returns it once it has pushed `count` commands, with the number of the last one.
    fn start(pin: &str, count: u64) -> (Self, u64) {
        let mut child = Command::new(CHILD);
        child.args(["commands", pin, &count.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = Self(child.spawn().unwrap());
        let line = BufReader::new(child.0.stdout.as_mut().unwrap()).lines().next().unwrap().unwrap();
        (child, line.parse().unwrap())
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn one_process_writes_and_the_next_takes_over() {
    let object = &require_bpf!(COMMANDS);
    let program = Runner::new(object, "one_event");
    let commands = open::<Order>(object, "orders");
    let pins = PinDir::new();
    let pin = pins.path("orders");
    commands.region().pin(&pin, 0o600).unwrap();
    let refused = |pid: u32| {
        let error = commands.writer().unwrap_err();
        assert_eq!((error.kind(), commands.owner().unwrap()), (ErrorKind::OtherWriters, Some(pid)));
        assert!(error.to_string().contains(&format!("process {pid} writes these commands")), "{error}");
    };

    // This process is the first one, until it drops its last writer.
    let writer = commands.writer().unwrap();
    let another = commands.writer().unwrap();
    assert_eq!(writer.push(&Order::new(1, 1)), Ok(1));
    let pin = pin.to_str().unwrap();
    let text = mapring_kernel_tests::try_child(CHILD, &["commands", pin, "1"]).unwrap_err();
    assert!(text.contains(&format!("process {} writes these commands", std::process::id())), "{text}");
    drop(writer);
    assert!(mapring_kernel_tests::try_child(CHILD, &["commands", pin, "1"]).is_err());
    drop(another);
    assert_eq!(commands.owner().unwrap(), None);

    // A process that was killed, and one that its parent has not waited for. Both pushed what is not carried out yet.
    let (mut child, number) = Owner::start(pin, 10);
    assert_eq!((number, event(&program)), (11, (1, 10)));
    refused(child.0.id());
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    let (mut zombie, number) = Owner::start(pin, 10);
    assert_eq!(number, 21);
    refused(zombie.0.id());
    zombie.0.kill().unwrap();
    let writer = loop {
        match commands.writer() {
            Ok(writer) => break writer,
            Err(e) => assert_eq!(e.kind(), ErrorKind::OtherWriters), // still dying
        }
    };
    assert_eq!(
        (writer.push(&Order::new(2, 1)), commands.owner().unwrap()),
        (Ok(22), Some(std::process::id()))
    );
    assert_eq!((event(&program), writer.acknowledged()), ((2, 1), 22));
    assert_eq!(commands.skipped().unwrap(), 0);

    // A forged owner: a process that never was, and one that lives.
    drop(writer);
    let (orders, first) = (map(object, "orders"), commands.region().geometry().first());
    let forge = |owner: u64| {
        let mut words = Element::default();
        (words[PUSHED], words[APPLIED], words[OWNER]) = (22, 22, owner);
        update(&orders, u32::try_from(first).unwrap(), &words);
    };
    for dead in [0, 1 << 22, 1, u64::MAX, (1 << 22) - 1] {
        forge(dead);
        assert_eq!(commands.writer().unwrap().push(&Order::new(0, 1)), Ok(23), "{dead:#x}");
    }
    let (child, _) = Owner::start(pin, 0);
    refused(child.0.id());
}
