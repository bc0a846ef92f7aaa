//! Pins in directories that other users can change, while they do so: root changes nothing but its own pins.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{MetadataExt, chown, symlink};

use mapring_kernel_tests::prelude::*;
use mapring_sys::PinDir;
use mapring_sys::stage::Stage;
use rustix::fs::{CWD, RenameFlags, renameat, renameat_with};
use rustix::io::Errno;
use rustix::thread::{Gid, Uid, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// How often root acts at least, and how often the attacker must have had his turn meanwhile.
const TRIES: u64 = 1_000;

/// A file of root that nobody may touch.
struct Victim(PathBuf);

impl Victim {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mapring-victim-{test}-{}", std::process::id()));
        fs::write(&path, "precious").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        Self(path)
    }

    fn expect_untouched(&self) {
        let found = fs::metadata(&self.0).unwrap();
        assert_eq!((found.mode() & 0o7777, found.uid(), found.gid()), (0o640, 0, 0));
        assert_eq!(fs::read(&self.0).unwrap(), b"precious");
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Changes this thread to user nobody.
fn become_nobody() {
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    set_thread_groups(&[]).unwrap();
    set_thread_res_gid(group, group, group).unwrap();
    set_thread_res_uid(user, user, user).unwrap(); // which takes the capabilities
}

fn exchange(a: &Path, b: &Path) -> rustix::io::Result<()> {
    match renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE) {
        // The BPF file system exchanges names from 5.16 on, and never takes names with a dot.
        Err(Errno::INVAL) => {
            let aside = a.with_file_name("aside");
            to_name(a, &aside)?;
            let exchanged = to_name(b, a);
            to_name(&aside, if exchanged.is_ok() { b } else { a })?;
            exchanged
        }
        done => done,
    }
}

fn to_name(from: &Path, to: &Path) -> rustix::io::Result<()> {
    renameat(CWD, from, CWD, to)
}

/// Calls `act` a thousand times or more, while nobody calls `attack` again and again, and has said as often that he had his
/// turn.
fn attacked(attack: impl Fn() -> bool + Sync, mut act: impl FnMut()) {
    let (end, turns) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            become_nobody();
            while !end.load(Ordering::Relaxed) {
                turns.fetch_add(u64::from(attack()), Ordering::Relaxed);
            }
        });
        let _end = SetAtEnd(&end);
        let mut tries = 0;
        while tries < TRIES || turns.load(Ordering::Relaxed) < TRIES {
            act();
            tries += 1;
            assert!(tries < 1000 * TRIES, "no turn for the attacker");
        }
    });
}

/// If a test fails, its other thread must end.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn of_nobody(path: &Path, mode: u32) {
    chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn open() -> PinOptions {
    PinOptions::new(0o666).allow_unprivileged_bpf(true)
}

/// The owner of a directory exchanges each new pin with a link to a file of root.
#[test]
fn in_a_directory_of_another_user_nothing_is_pinned() {
    let object = &require_bpf!(REFUSALS);
    let region = Region::open(&map(object, "ring")).unwrap();
    let (pins, victim) = (PublicPins::new(), Victim::new("owner"));
    let dir = pins.path("his");
    fs::create_dir(&dir).unwrap();
    symlink(&victim.0, dir.join("l")).unwrap();
    of_nobody(&dir, 0o755);
    let (p, l) = (dir.join("p"), dir.join("l"));
    attacked(
        || exchange(&l, &p) != Err(Errno::ACCESS),
        || {
            let refused = region.pin(&p, 0o600).unwrap_err();
            assert!(refused.to_string().contains("belongs to user 65534"), "{refused}");
            let refused = region.freeze_and_pin(&p, open()).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::CannotSeal);
        },
    );
    victim.expect_untouched();
    assert_ne!(mapring_is_frozen(&region), Some(true), "refused before the freeze");
    fs::set_permissions(&dir, Permissions::from_mode(0o777)).unwrap();
    chown(&dir, Some(0), Some(0)).unwrap();
    let refused = region.pin(&p, 0o600).unwrap_err().to_string();
    assert!(refused.contains("chmod go-w"), "{refused}");
}

/// Whether the map is frozen, as its writers see it.
fn mapring_is_frozen(region: &Region) -> Option<bool> {
    use std::os::fd::{AsFd, AsRawFd};
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", region.as_fd().as_raw_fd())).ok()?;
    text.lines().find_map(|line| line.strip_prefix("frozen:\t")).map(|frozen| frozen == "1")
}

/// A name on the way is a directory of another user, and then a link of his to one of root.
#[test]
fn a_way_that_another_user_exchanges_is_not_taken() {
    let object = &require_bpf!(REFUSALS);
    let region = Region::open(&map(object, "ring")).unwrap();
    let pins = PublicPins::with_mode(c"mode=1777");
    let good = pins.path("good");
    fs::create_dir(&good).unwrap();
    let (a, b) = (pins.path("a"), pins.path("b"));
    fs::create_dir(&a).unwrap();
    of_nobody(&a, 0o777);
    symlink(&good, &b).unwrap();
    std::os::unix::fs::lchown(&b, Some(NOBODY), Some(NOBODY)).unwrap();
    attacked(|| exchange(&a, &b).is_ok(), || drop(region.pin(a.join("p"), 0o600).unwrap_err()));
    assert_eq!(fs::read_dir(&good).unwrap().count(), 0);
}

/// In a sticky directory of root others make names, and can't exchange those of root.
#[test]
fn in_a_sticky_directory_pins_stay_what_they_are() {
    let object = &require_bpf!(REFUSALS);
    let region = Region::open(&map(object, "ring")).unwrap();
    let (pins, victim) = (PublicPins::with_mode(c"mode=1777"), Victim::new("sticky"));
    let (p, l, beside) = (pins.path("p"), pins.path("l"), pins.path("p__next"));
    symlink(&victim.0, &l).unwrap();
    std::os::unix::fs::lchown(&l, Some(NOBODY), Some(NOBODY)).unwrap();
    attacked(
        || {
            let refused = [exchange(&l, &p), exchange(&l, &beside)];
            assert!(refused.iter().all(Result::is_err), "{refused:?}");
            refused.contains(&Err(Errno::PERM)) // the name was there
        },
        || {
            region.pin(&p, PinOptions::new(0o640).replace(true)).unwrap();
            let found = fs::symlink_metadata(&p).unwrap();
            assert_eq!((found.mode(), found.uid()), (0o100_640, 0));
        },
    );
    victim.expect_untouched();
    // A directory beside the pin, planted.
    fs::remove_file(&p).unwrap();
    fs::create_dir(&beside).unwrap();
    of_nobody(&beside, 0o777);
    let refused = region.pin(&p, 0o600).unwrap_err().to_string();
    assert!(refused.contains("p__next belongs to user 65534"), "{refused}");
}

/// In a sticky directory, nobody makes and removes what could be a place for the pins of all CPUs, with a mode of his own.
#[test]
fn no_other_user_chooses_who_may_change_a_directory_of_pins() {
    let object = &require_bpf!(NUMA);
    let ring = Ring::<Numbered>::open(&map(object, "numbers")).unwrap();
    let pins = PublicPins::with_mode(c"mode=1777");
    let p = pins.path("p");
    let mut made = 0;
    attacked(
        || {
            let made = fs::create_dir(&p).is_ok();
            let _ = fs::set_permissions(&p, Permissions::from_mode(0o777));
            let _ = fs::remove_dir(&p);
            made
        },
        || {
            if ring.pin(&p, PinOptions::new(0o600).replace(made % 2 == 1)).is_ok() {
                let found = fs::metadata(&p).unwrap();
                assert_eq!((found.uid(), found.mode() & 0o022), (0, 0));
                fs::remove_dir_all(&p).unwrap();
                made += 1;
            }
        },
    );
    assert!(made > 0);
    // More than can be removed, or than another user stops adding to.
    let deep = pins.path("deep");
    fs::create_dir(&deep).unwrap();
    of_nobody(&deep, 0o777);
    fs::create_dir(deep.join("1")).unwrap();
    let refused = ring.pin(&deep, PinOptions::new(0o600).replace(true)).unwrap_err().to_string();
    assert!(refused.contains("deep belongs to user 65534, who may have put it there"), "{refused}");
    let one = &require_bpf!(REFUSALS);
    let region = Region::open(&map(one, "ring")).unwrap();
    let refused = region.pin(&deep, PinOptions::new(0o600).replace(true)).unwrap_err().to_string();
    assert!(refused.contains("deep belongs to user 65534"), "{refused}");
    assert!(!pins.path("deep__next").exists());
}

/// What nobody put in a sticky directory is not taken for the pin of an earlier loader: a link, a pin, and a further name of a
/// pin of root.
#[test]
fn a_loader_uses_no_pin_of_another_user() {
    let object = &require_bpf!(REFUSALS);
    let region = Region::open(&map(object, "ring")).unwrap();
    let pins = PublicPins::with_mode(c"mode=1777");
    let private = pins.path("private");
    region.pin(&private, 0o600).unwrap();
    let p = pins.path("p");
    let dir = PinDir::open(&pins.path("")).unwrap();
    let opened = || dir.open_our_pin("p").map(drop).map_err(|e| e.to_string());
    let refused = |what: &str| {
        let refused = opened().unwrap_err();
        assert!(refused.contains(what), "{refused}");
    };
    symlink(&private, &p).unwrap();
    std::os::unix::fs::lchown(&p, Some(NOBODY), Some(NOBODY)).unwrap();
    refused("belongs to user 65534, who may have put it there");
    fs::remove_file(&p).unwrap();
    fs::hard_link(&private, &p).unwrap();
    refused("has another name, too");
    fs::remove_file(&p).unwrap();
    region.pin(&p, 0o600).unwrap();
    assert_eq!(opened(), Ok(()));
    chown(&p, Some(NOBODY), Some(NOBODY)).unwrap();
    refused("belongs to user 65534");
    // Where nobody else makes names, a pin may belong to anybody: root gave it to him.
    let own = PinDir::create(&pins.path("own"), 0o755).unwrap();
    own.pin(&region, "p").unwrap();
    chown(pins.path("own/p"), Some(NOBODY), Some(NOBODY)).unwrap();
    own.open_our_pin("p").unwrap();
}

/// The directory of a ring's pin becomes another user's. A resize replaces the ring, and no name in that directory.
#[test]
fn a_resize_changes_nothing_in_a_directory_of_another_user() {
    let object = &require_bpf!(RESIZABLE);
    let ring = Ring::<Numbered>::open(&map(object, "numbers")).unwrap();
    let (pins, victim) = (PublicPins::new(), Victim::new("resize"));
    let dir = pins.path("his");
    fs::create_dir(&dir).unwrap();
    let (p, l, next) = (dir.join("p"), dir.join("l"), dir.join("p__next"));
    ring.pin(&p, 0o640).unwrap();
    symlink(&victim.0, &l).unwrap();
    of_nobody(&dir, 0o755);
    let mut sizes = [64, 128].into_iter().cycle();
    attacked(
        || [&p, &next].map(|name| exchange(&l, name)).iter().all(|done| *done != Err(Errno::ACCESS)),
        || {
            let refused = ring.resize(sizes.next().unwrap()).unwrap_err().to_string();
            assert!(refused.contains("belongs to user 65534"), "{refused}");
        },
    );
    victim.expect_untouched();
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
}

/// The pin of a ring was removed, and nobody has planted a link in its place: who owns it, and its mode, are not those of the
/// next ring.
#[test]
fn a_resize_takes_no_access_from_what_another_user_planted() {
    let object = &require_bpf!(RESIZABLE);
    let ring = Ring::<Numbered>::open(&map(object, "numbers")).unwrap();
    let pins = PublicPins::with_mode(c"mode=1777");
    let p = pins.path("p");
    ring.pin(&p, 0o640).unwrap();
    fs::remove_file(&p).unwrap();
    symlink("nowhere", &p).unwrap();
    std::os::unix::fs::lchown(&p, Some(NOBODY), Some(NOBODY)).unwrap();
    let refused = ring.resize(64).unwrap_err().to_string();
    assert!(refused.contains("belongs to user 65534, who may have put it there"), "{refused}");
    assert!(fs::symlink_metadata(&p).unwrap().is_symlink());
}

/// A pin that gets another map after the look is not removed.
#[test]
fn a_pin_that_changed_is_not_removed() {
    let object = &require_bpf!(REFUSALS);
    let [old, new] = [&map(object, "ring"), &map(object, "cells")].map(|map| Region::open(map).unwrap());
    let pins = PublicPins::new();
    let (p, q) = (pins.path("p"), pins.path("q"));
    let is_old = |region: &Region| region.geometry() == old.geometry();
    new.pin(&p, 0o600).unwrap();
    let (end, mut rounds, mut turns, mut removed) = (AtomicBool::new(false), 0, 0, 0);
    thread::scope(|scope| {
        // A loader that starts again and again.
        scope.spawn(|| {
            while !end.load(Ordering::Relaxed) {
                for region in [&old, &new] {
                    region.pin(&q, 0o600).unwrap();
                    fs::rename(&q, &p).unwrap();
                }
            }
        });
        let _end = SetAtEnd(&end);
        while rounds < TRIES || turns == 0 || removed == 0 {
            let stage = Stage::beside(&p).unwrap();
            if Region::open(p.as_path()).is_ok_and(|region| is_old(&region)) {
                let mut right = true;
                let done = stage.remove_if(|map| {
                    right = is_old(&Region::open(map).unwrap());
                    turns += u64::from(!right);
                    io::Result::Ok(right)
                });
                let done = done.unwrap();
                // The other thread never leaves the name free.
                assert!(right || !done && p.exists(), "a live pin was removed");
                removed += u64::from(done);
                rounds += 1;
            }
            assert!(rounds < 1000 * TRIES, "{turns} turns, {removed} removed");
        }
    });
    assert!(!is_old(&Region::open(p.as_path()).unwrap()), "the last one is pinned");
    eprintln!("{rounds} rounds, {turns} exchanges after the look, {removed} removed");
    fs::remove_file(&p).unwrap();
    let left = PinDir::open(&pins.path("")).unwrap().entries().unwrap();
    assert!(
        left.iter().all(|(name, _)| name.as_encoded_bytes().contains(&b'.')),
        "only the kernel's own: {left:?}"
    );
}

/// What a process left that died while it pinned is finished or taken back.
#[test]
fn what_a_killed_process_left_is_finished() {
    let object = &require_bpf!(REFUSALS);
    let [ring, cells] = [&map(object, "ring"), &map(object, "cells")].map(|map| Region::open(map).unwrap());
    let pins = PublicPins::new();
    let (p, beside) = (pins.path("p"), pins.path("p__next"));
    let root = PinDir::open(&pins.path("")).unwrap();
    let left = |names: &[&str]| {
        let stage = root.make("p__next", 0o700).unwrap();
        names.iter().for_each(|name| stage.pin(&ring, name).unwrap());
        assert_eq!(mapring_sys::stage::abandoned(&beside), Some(p.clone()));
    };
    let names = || {
        let mut names: Vec<_> = root.entries().unwrap().into_iter().map(|(name, _)| name).collect();
        names.retain(|name| !name.as_encoded_bytes().contains(&b'.'));
        names.sort();
        names
    };
    // Before the pin was public.
    left(&["new", "new__readers"]);
    drop(Stage::beside(&p).unwrap());
    assert!(names().is_empty());
    // After that: the others follow.
    cells.pin(&p, 0o600).unwrap();
    left(&["new__readers", "new__bells"]);
    drop(Stage::beside(&p).unwrap());
    assert_eq!(names(), ["p", "p__bells", "p__readers"]);
    // The same, in place of a directory.
    ["p__bells", "p__readers"].iter().for_each(|name| root.remove(name).unwrap());
    left(&["new__readers", "new__bells"]);
    root.dir("p__next").unwrap().make("new", 0o700).unwrap();
    drop(Stage::beside(&p).unwrap());
    assert_eq!(names(), ["p", "p__bells", "p__readers"]);
    // In the middle of a removal.
    fs::remove_file(&p).unwrap();
    left(&["old"]);
    drop(Stage::beside(&p).unwrap());
    assert!(Region::open(p.as_path()).unwrap().geometry() == ring.geometry());
    // While another process is at work, one waits, and then gives up.
    let held = Stage::beside(&p).unwrap();
    assert_eq!(mapring_sys::stage::abandoned(&beside), None);
    assert_eq!(
        ring.pin(&p, PinOptions::new(0o600).replace(true)).unwrap_err().io_error().unwrap().kind(),
        io::ErrorKind::ResourceBusy
    );
    drop(held);
}
