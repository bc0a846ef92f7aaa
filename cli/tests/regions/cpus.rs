//! Machines on which sysfs lists other CPUs than the kernel has, as in some containers.

use std::process::{Command, Output, Stdio};

use libbpf_rs::libbpf_sys::bpf_map_create_opts;
use libbpf_rs::{MapHandle, MapType};

use super::loaded::Loaded;
use super::{lines, stderr};

/// The command where `list` is mounted over the list of possible CPUs, in a mount namespace of its own.
fn with_list(list: &str, args: &[&str]) -> Output {
    let script = "mount -t tmpfs tmpfs /mnt && printf %b \"$0\" > /mnt/possible && \
                  mount --bind /mnt/possible /sys/devices/system/cpu/possible && \
                  umount --lazy /mnt && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, list, env!("CARGO_BIN_EXE_mapring")]);
    let output = command.args(args).stdin(Stdio::null()).output().unwrap();
    eprint!("{list:?} {args:?}\n{}", String::from_utf8_lossy(&output.stderr));
    output
}

#[test]
fn a_wrong_list_of_cpus_makes_no_command_fail() {
    let Some(loaded) = Loaded::new() else { return };
    loaded.fill(10);
    let options = bpf_map_create_opts { sz: size_of::<bpf_map_create_opts>() as u64, ..Default::default() };
    let wide = MapHandle::create(MapType::PercpuArray, Some("t_wide"), 4, 32 << 10, 2, &options);
    let mut wide = wide.unwrap();
    wide.pin(loaded.path("t_wide")).unwrap();
    let cpus = mapring::cpus::possible_cpus().unwrap().len();
    let dir = loaded.path("");
    for list in ["0\n", "0-7\n", "\n", "", "0-8191\n", "0-99999999\n"] {
        let run = |args: &[&str]| {
            let output = with_list(list, args);
            assert!(output.status.success(), "{list:?} {args:?}: {}", output.status);
            output
        };
        for map in ["t_wide", "t_each"] {
            let shown = lines(&run(&["show", &loaded.path(map), "--json"]));
            let mut seen: Vec<_> = shown.iter().filter_map(|line| line["cpu"].as_u64()).collect();
            seen.sort_unstable();
            seen.dedup();
            // Of `t_wide` all values are zero, and none is listed.
            assert!(map == "t_wide" || seen.len() <= cpus && !seen.is_empty(), "{map} {list:?}: {shown:?}");
            run(&["show", &loaded.path(map)]);
        }
        for args in [
            &["ls", &*dir] as &[_],
            &["stat", &*loaded.path("t_calls"), "--count", "1", "--interval", "10ms"],
            &["clean", &*dir],
            &["export", "prometheus", "--once"],
        ] {
            run(args);
        }
        for args in [&["doctor"] as &[_], &["show", &loaded.path("t_nodes")], &["ls", "--json"]] {
            let output = with_list(list, args);
            let log = stderr(&output);
            assert!(
                matches!(output.status.code(), Some(0 | 1)) && !log.contains("panicked"),
                "{list:?} {args:?}"
            );
        }
        let doctor = String::from_utf8(with_list(list, &["doctor"]).stdout).unwrap();
        assert!(doctor.contains("/sys/devices/system/cpu/possible"), "{list:?}: {doctor}");
    }
}
