//! Maps of a real program, exported by their types.

use std::fs;

use libbpf_rs::{MapCore, MapFlags};

use super::loaded::Loaded;
use super::nobody::as_nobody;
use super::{Dir, Kept, Running, mapring, scrape, until_some, value};

/// The kernel keeps 15 bytes of a name, and these have the first 15 in common.
#[test]
fn maps_with_long_names_have_metrics_of_their_own() {
    let Some(mut loaded) = Loaded::new() else { return };
    let (words, bytes) = (loaded.path("t_name_of_many_words"), loaded.path("t_name_of_many_bytes"));
    loaded.skel.maps.t_name_of_many_words.pin(&words).unwrap();
    loaded.skel.maps.t_name_of_many_bytes.pin(&bytes).unwrap();
    let output = mapring(&["export", "prometheus", "--once", &words, &bytes]);
    let text = String::from_utf8(output.stdout).unwrap();
    for name in ["t_name_of_many_words", "t_name_of_many_bytes"] {
        assert!(text.contains(&format!("# HELP mapring_{name}_number ")), "{text}");
    }
}

#[test]
fn every_kind_is_exported_by_its_types() {
    let Some(mut loaded) = Loaded::new() else { return };
    loaded.skel.maps.bss.pin(loaded.path("bss")).unwrap();
    loaded.fill(10);
    let cpus = libbpf_rs::num_possible_cpus().unwrap();
    let point = |cpu: u8| vec![100 + cpu, 0, 0, 0, 0, 0, 0, 0];
    let last = (0..cpus).map(|cpu| point(cpu.try_into().unwrap_or(0))).collect::<Vec<_>>();
    loaded.skel.maps.t_each.update_percpu(&69_u32.to_ne_bytes(), &last, MapFlags::ANY).unwrap();
    let names = [
        "t_events",
        "t_sized",
        "t_nodes",
        "t_loads",
        "t_calls",
        "t_waits",
        "t_depths",
        "t_keys",
        "t_settings",
        "t_each",
        "data",
        "bss",
    ];
    let files: Vec<_> = fs::read_dir(&loaded.dir).unwrap().map(|file| file.unwrap().file_name()).collect();
    let find = |name: &str| files.iter().find(|file| file.to_string_lossy().ends_with(name)).unwrap();
    let paths: Vec<_> = names.iter().map(|name| loaded.path(find(name).to_str().unwrap())).collect();
    let mut args = vec!["export", "prometheus", "--once"];
    args.extend(paths.iter().map(String::as_str));
    let output = mapring(&args);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    for (map, series, more, expected) in [
        ("t_calls", "mapring_t_calls_total", ",index=\"9\"", 10.0),
        ("t_calls", "mapring_t_calls_total", ",index=\"999\"", 0.0),
        ("t_waits", "mapring_t_waits_count", "", 10.0),
        ("t_waits", "mapring_t_waits_bucket", ",le=\"15\"", 4.0),
        ("t_depths", "mapring_t_depths_max", ",index=\"1\"", 17.0),
        ("t_loads", "mapring_t_loads_number", ",index=\"3\"", 42.0),
        ("t_loads", "mapring_t_loads_at_x", ",index=\"3\"", -1.0),
        ("t_settings", "mapring_t_settings_number", ",index=\"1\"", 5.0),
        ("t_keys", "mapring_t_keys_total", ",key=\"0\"", 40.0),
        ("t_events", "mapring_dropped_total", ",cause=\"no_slot\"", 0.0),
        ("t_sized", "mapring_up", "", 1.0),
        ("t_each", "mapring_up", "", 1.0),
    ] {
        let at = names.iter().position(|name| *name == map).unwrap();
        let series = format!("{series}{{region=\"{}\"{more}}}", paths[at]);
        assert_eq!(value(&text, &series), Some(expected), "{series}\n{text}");
    }
    let sum = |prefix: &str| -> f64 {
        let of = text.lines().filter(|line| line.starts_with(prefix) && !line.starts_with('#'));
        of.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    };
    // How libbpf names these maps differs between kernels.
    for (suffix, expected) in [("data_t_place_y{", -4.0), ("bss_t_total{", 10.0)] {
        let line = text.lines().find(|line| !line.starts_with('#') && line.contains(suffix)).unwrap();
        assert_eq!(line.rsplit(' ').next().unwrap().parse(), Ok(expected), "{line}");
    }
    for (ring, records) in [("t_events", 10.0), ("t_sized", 1.0), ("t_nodes", 1.0)] {
        assert_eq!(sum(&format!("mapring_{ring}_records_total{{")), records, "{text}");
    }
    // Each CPU has its own values.
    let of_last: f64 = last.iter().map(|point| f64::from(point[0])).sum();
    assert_eq!((sum("mapring_t_each_x{"), sum("mapring_t_each_y{")), (1.0 + of_last, -2.0), "{text}");
    let each = format!("mapring_t_each_x{{region=\"{}\",index=\"69\",cpu=\"0\"}}", loaded.path("t_each"));
    assert_eq!(value(&text, &each), Some(100.0), "{text}");
    assert!(text.contains(",index=\"1\",cpu=\"0\"}"), "{text}");

    let dir = Dir::new();
    let metric = |field: &str| {
        let region = &paths[3];
        format!(
            "[[metric]]\nregion = {region:?}\nname = \"load\"\nfield = \"{field}\"\nscale = 0.5\nentries = {{ 3 = \"a\" }}"
        )
    };
    let good = mapring(&["export", "prometheus", "--once", "--config", &dir.file("c", &metric("number"))]);
    let text = String::from_utf8(good.stdout).unwrap();
    assert!(text.contains(&format!("load{{region=\"{}\",index=\"a\"}} 21\n", paths[3])), "{text}");
    let bad = mapring(&["export", "prometheus", "--once", "--config", &dir.file("c", &metric("x"))]);
    assert!(String::from_utf8(bad.stderr).unwrap().contains("number, at.x, at.y"));
}

#[test]
fn all_regions_are_exported_and_a_new_loader_is_followed() {
    let Some(mut loaded) = Loaded::new() else { return };
    loaded.fill(5);
    let mut exporter = Running::mapring(&["export", "prometheus", "--listen", "127.0.0.1:0"]);
    let address = exporter.address();
    let calls = loaded.path("t_calls");
    let series = format!("mapring_t_calls_total{{region=\"{calls}\",index=\"4\"}}");
    let sized = format!("mapring_up{{region=\"{}\"}}", loaded.path("t_sized"));
    let text = scrape(&address);
    assert_eq!((value(&text, &series), value(&text, &sized)), (Some(5.0), Some(1.0)), "{text}");
    // Arrays and global data are exported only by name.
    assert!(!text.contains("mapring_t_settings") && !text.contains("t_place"), "{text}");
    // Another loader replaces the map.
    let old = std::mem::replace(&mut loaded.skel, Loaded::load().unwrap());
    fs::remove_file(&calls).unwrap();
    loaded.skel.maps.t_calls.pin(&calls).unwrap();
    loaded.fill(10);
    loaded.fill(10);
    until_some("the new counters", || (value(&scrape(&address), &series) == Some(10.0)).then_some(()));
    drop(old);
    assert_eq!(exporter.interrupt(), Some(0));
}

#[test]
fn nobody_exports_what_is_readable_and_is_told_what_is_not() {
    let Some(loaded) = Loaded::new() else { return };
    loaded.fill(5);
    let denied = as_nobody(&["export", "prometheus", "--once", &loaded.path("t_calls")]);
    let log = String::from_utf8(denied.stderr).unwrap();
    assert!(denied.status.code() == Some(77) && log.contains(&loaded.path("t_calls")), "{log}");
    let denied = as_nobody(&["export", "nats", "--stream", "s", "--subject", "r", &loaded.path("t_events")]);
    assert_eq!(denied.status.code(), Some(77));
    let all = as_nobody(&["export", "prometheus", "--once"]);
    let log = String::from_utf8(all.stderr).unwrap();
    assert!(all.status.success() && !log.is_empty(), "it says what is hidden");
}

/// Sets the most open files of a process, which may raise it again. `None`: as many as it has now.
fn limit_files(pid: u32, most: Option<u64>) {
    let open = || fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64;
    let most = Some(most.unwrap_or_else(open));
    let pid = rustix::process::Pid::from_raw(pid.cast_signed());
    // The test's own: it takes no privilege.
    let maximum = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let limit = rustix::process::Rlimit { current: most, maximum };
    rustix::process::prlimit(pid, rustix::process::Resource::Nofile, limit).unwrap();
}

#[test]
fn an_exporter_without_descriptors_says_what_it_leaves_out() {
    let Some(loaded) = Loaded::new() else { return };
    let names = ["t_calls", "t_waits", "t_depths", "t_loads", "t_keys", "t_nodes", "t_sized"];
    let regions = names.map(|name| loaded.path(name));
    for command in [&["export", "prometheus", "--once"][..], &["stat", "-n", "1"], &["ls"]] {
        let mut shell = std::process::Command::new("sh");
        let shell = shell.args(["-c", "ulimit -n 12; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_mapring")]);
        let output = shell.args(command).output().unwrap();
        let (text, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        // `ls` needs fewer descriptors.
        assert!(log.contains("Too many open files") || command[0] == "ls", "{command:?}: {log}");
        for region in &regions {
            let is_named = log.contains(region.as_str());
            assert!(text.contains(region.as_str()) || is_named, "{command:?}: {region}: {log}");
            let up = value(&text, &format!("mapring_up{{region=\"{region}\"}}"));
            assert!(command[0] != "export" || up == Some(if is_named { 0.0 } else { 1.0 }));
        }
    }
}

#[test]
fn an_exporter_that_gets_short_of_descriptors_keeps_what_is_open() {
    let Some(loaded) = Loaded::new() else { return };
    let regions = ["t_calls", "t_waits", "t_depths", "t_loads"].map(|name| loaded.path(name));
    let mut args = vec!["export", "prometheus", "--listen", "127.0.0.1:0"];
    args.extend(regions.iter().map(String::as_str));
    let mut exporter = Running::mapring(&args);
    let address = exporter.address();
    let mut kept = Kept::new(&address);
    assert!(kept.get("").1.contains("mapring_up"));
    let pid = exporter.child.0.id();
    limit_files(pid, None);
    let (counters, extra) = (loaded.path("t_calls"), loaded.path("t_calls2"));
    let text_of = |kept: &mut Kept| kept.get("").1;
    // Longer than the time between two looks at the pins.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while std::time::Instant::now() < end {
        let text = text_of(&mut kept);
        for region in &regions {
            assert_eq!(value(&text, &format!("mapring_up{{region=\"{region}\"}}")), Some(1.0), "{text}");
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    // What is removed and comes back meanwhile is found when there are descriptors again.
    fs::rename(&counters, &extra).unwrap();
    let up = format!("mapring_up{{region=\"{counters}\"}}");
    limit_files(pid, Some(1024));
    until_some("it to be down", || (value(&text_of(&mut kept), &up) == Some(0.0)).then_some(()));
    fs::rename(&extra, &counters).unwrap();
    until_some("it to be up", || (value(&text_of(&mut kept), &up) == Some(1.0)).then_some(()));
    assert_eq!(exporter.interrupt(), Some(0));
}
