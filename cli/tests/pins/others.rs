//! Directories of pins in which another user plants and exchanges names.

use super::*;

impl Pins {
    /// One in which every user makes names.
    fn sticky(name: &str) -> Self {
        let pins = Self::new(name);
        fs::set_permissions(&pins.0, fs::Permissions::from_mode(0o1777)).unwrap();
        pins
    }
}

#[test]
fn links_of_another_user_are_not_followed() {
    if !may_use_bpf() {
        return;
    }
    let pins = Pins::sticky("planted");
    let victim = common::Dir::new();
    victim.file("passwd", "precious");
    let flight = pins.path("mapring/flight");
    fs::create_dir_all(&flight).unwrap();
    let own = |path: &Path| lchown(path, Some(nobody::NOBODY), Some(nobody::NOBODY)).unwrap();
    for dir in [&pins.path("mapring"), &flight] {
        own(Path::new(dir));
    }
    for part in ["flight-lock", "flight-lock/new", "recording"] {
        let dir = Path::new(&flight).join(part);
        fs::create_dir(&dir).unwrap();
        for name in ["links", "maps"] {
            symlink(&victim.0, dir.join(name)).unwrap();
            own(&dir.join(name));
        }
        own(&dir);
    }
    for command in [&["stop"][..], &["start", "--events", "exec", "--size", "1M"]] {
        let output = mapring(&[&["flight", "--pins", &flight], command].concat());
        assert_eq!(output.status.code(), Some(1));
        assert!(
            common::stderr(&output).contains("mapring belongs to user 65534, who could exchange the pins")
        );
    }
    assert!(mapring(&["clean", "--yes", &pins.path("")]).status.success());
    assert_eq!(fs::read(victim.0.join("passwd")).unwrap(), b"precious");
}

/// A link, and a further name, that another user made for a pin of root: `pin` and `freeze` would make public what it is.
#[test]
fn what_another_user_names_is_neither_pinned_nor_frozen() {
    if !may_use_bpf() {
        return;
    }
    let pins = Pins::sticky("named");
    let [private, evil, leak] = ["private", "evil", "leak"].map(|name| pins.path(name));
    let mut demo = Demo::start();
    assert!(mapring(&["pin", &demo.map("cpus"), &private]).status.success());
    let refused = |what: &str| {
        for command in [&["pin", &evil, &leak, "--mode", "666"][..], &["freeze", "--yes", &evil, &leak]] {
            let output = mapring(command);
            let log = common::stderr(&output);
            assert!(output.status.code() == Some(1) && log.contains(what), "{command:?}: {log}");
            assert!(log.contains("or name the map itself, as id:NUMBER") && !Path::new(&leak).exists());
        }
        fs::remove_file(&evil).unwrap();
    };
    symlink(&private, &evil).unwrap();
    lchown(&evil, Some(nobody::NOBODY), Some(nobody::NOBODY)).unwrap();
    refused("belongs to user 65534, who may have put it there");
    fs::hard_link(&private, &evil).unwrap();
    refused("has another name, too");
    assert!(mapring(&["pin", &private, &leak]).status.success());
}

/// The owner of a directory exchanges each name that root could make there with a link to a file or directory of root, while
/// root runs each command that makes, changes or removes pins, a thousand times together.
#[test]
fn what_another_user_exchanges_is_not_followed() {
    const RUNS: u64 = 1_000;
    if !may_use_bpf() {
        return;
    }
    let pins = Pins::new("exchanged");
    let victim = common::Dir::new();
    let file = victim.file("passwd", "precious");
    fs::create_dir(victim.path("maps")).unwrap();
    fs::write(victim.path("maps/passwd"), "precious").unwrap();
    for (path, mode) in [(&*file, 0o640), (&*victim.path("maps"), 0o750)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut demo = Demo::start();
    let id = demo.map("cpus");
    let (his, flight) = (pins.path("his"), pins.path("his/flight"));
    let names = ["p", "flight/flight-lock", "flight/recording"];
    for dir in [&his, &flight] {
        fs::create_dir(dir).unwrap();
    }
    let links = ["l", "flight/m", "flight/n"];
    for (link, to) in links.iter().zip([&*file, &*victim.path(""), &*victim.path("")]) {
        symlink(to, Path::new(&his).join(link)).unwrap();
    }
    for dir in [&flight, &his] {
        lchown(dir, Some(nobody::NOBODY), Some(nobody::NOBODY)).unwrap();
    }
    let (over, turns) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            nobody::become_nobody();
            while !over.load(Ordering::Relaxed) {
                for (link, name) in links.iter().zip(names) {
                    let [link, name] = [link, name].map(|name| Path::new(&his).join(name));
                    let done = renameat_with(CWD, link, CWD, name, RenameFlags::EXCHANGE);
                    turns.fetch_add(u64::from(matches!(done, Ok(()) | Err(Errno::NOENT))), Ordering::Relaxed);
                }
            }
        });
        let _over = Over(&over);
        let pin = format!("{his}/p");
        let commands = [
            &["pin", &id, &pin, "--mode", "666"][..],
            &["freeze", &id, &pin, "--yes"],
            &["flight", "--pins", &flight, "start", "--events", "exec", "--size", "1M"],
            &["flight", "--pins", &flight, "stop"],
            &["clean", "--yes", &his],
        ];
        let mut runs = 0;
        while runs < RUNS || turns.load(Ordering::Relaxed) < RUNS {
            for command in commands {
                let output = common::command(command).output().unwrap();
                let is_clean = command[0] == "clean";
                assert!(output.status.success() == is_clean, "{command:?}: {output:?}");
                let log = common::stderr(&output);
                assert!(is_clean || log.contains("belongs to user 65534"), "{command:?}: {log}");
                runs += 1;
            }
            assert!(runs < 100 * RUNS, "no turn for the attacker");
        }
    });
    for (path, mode) in [(&*file, 0o640), (&*victim.path("maps"), 0o750)] {
        let found = fs::metadata(path).unwrap();
        assert_eq!((found.mode() & 0o7777, found.uid(), found.gid()), (mode, 0, 0), "{path}");
    }
    for file in ["passwd", "maps/passwd"] {
        assert_eq!(fs::read(victim.path(file)).unwrap(), b"precious");
    }
}
