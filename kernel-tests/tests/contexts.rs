//! Which programs count as those that only nest: each context that programs run in, and what takes an object's code to
//! another task.
#![allow(missing_docs)]

use std::mem::MaybeUninit;

use libbpf_rs::OpenObject;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use mapring::Grounds;
use mapring_kernel_tests::skel::{ContextsSkelBuilder, ContextsTaskWorkSkelBuilder, ContextsWqSkelBuilder};
use mapring_kernel_tests::{real_time, require_bpf};

/// The programs of `bpf/contexts.bpf.c` that nothing but an interrupt comes between.
const NESTS: [&str; 3] = ["on_xdp", "on_tc", "on_perf_event"];

/// What keeps every ring of the object from nested claims, if the programs do not.
fn of_the_machine() -> Option<Grounds> {
    match real_time() {
        _ if !cfg!(target_arch = "x86_64") => Some(Grounds::NotX86),
        true => Some(Grounds::RealTime),
        false => None,
    }
}

/// Has only the programs of these names loaded.
fn only(object: &mut OpenObject, names: &[&str]) {
    let is_one = |name: &str| names.contains(&name);
    object.progs_mut().for_each(|mut program| {
        let loads = is_one(program.name().to_str().unwrap());
        program.set_autoload(loads);
    });
}

/// On what grounds the object's ring has its claims.
fn grounds(object: &mut OpenObject) -> Grounds {
    let fitted = mapring::fit_object(object).unwrap();
    fitted.rings().map(|(_, grounds)| grounds.clone()).next().unwrap()
}

fn names(object: &OpenObject) -> Vec<String> {
    object.progs().map(|program| program.name().to_str().unwrap().to_owned()).collect()
}

#[test]
fn programs_that_can_be_preempted_do_not_nest() {
    require_bpf!();
    let mut storage = MaybeUninit::uninit();
    let mut open = ContextsSkelBuilder::default().open(&mut storage).unwrap();
    let object = open.open_object_mut();
    only(object, &NESTS);
    assert_eq!(grounds(object), of_the_machine().unwrap_or(Grounds::OnlyNest));
    let all = names(object);
    assert!(all.len() > 25 && NESTS.iter().all(|name| all.iter().any(|found| found == name)));
    for name in all.iter().map(String::as_str) {
        // By itself, and beside those that only nest.
        for others in [&[][..], &NESTS] {
            only(object, &[others, &[name]].concat());
            let found = grounds(object);
            match of_the_machine() {
                Some(other) => assert_eq!(found, other),
                None if NESTS.contains(&name) => assert_eq!(found, Grounds::OnlyNest, "{name}"),
                None => assert!(
                    matches!(&found, Grounds::Preemptible { program, .. } if program == name),
                    "{name}: {found}"
                ),
            }
        }
    }
    only(object, &[]);
    assert_eq!(grounds(object), of_the_machine().unwrap_or(Grounds::NoPrograms));
}

/// The program's section goes on saying `sched_switch`, but it runs in tasks that can be preempted.
#[test]
fn what_is_attached_elsewhere_does_not_nest() {
    require_bpf!();
    let mut storage = MaybeUninit::uninit();
    let mut open = ContextsSkelBuilder::default().open(&mut storage).unwrap();
    let object = open.open_object_mut();
    only(object, &["on_tp_btf_sched_switch"]);
    for mut program in object.progs_mut().filter(|program| program.name() == "on_tp_btf_sched_switch") {
        program.set_attach_target(0, Some("sys_enter".to_owned())).unwrap();
        assert_eq!(program.section(), "tp_btf/sched_switch");
    }
    let found = grounds(object);
    assert!(found != Grounds::OnlyNest, "{found}");
}

#[test]
fn code_that_is_deferred_to_another_task_does_not_nest() {
    require_bpf!();
    let check = |object: &mut OpenObject, expected: &str| {
        // Wherever in the object it is used, in programs that are loaded or not.
        for loaded in [&NESTS[..], &["on_xdp", "defers"]] {
            only(object, loaded);
            match (of_the_machine(), grounds(object)) {
                (Some(other), found) => assert_eq!(found, other),
                (None, Grounds::Deferred { function }) => assert_eq!(function, expected),
                (None, other) => panic!("{other}"),
            }
        }
    };
    let (mut wq, mut task_work) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    let mut open = ContextsWqSkelBuilder::default().open(&mut wq).unwrap();
    check(open.open_object_mut(), "bpf_wq_start");
    let mut open = ContextsTaskWorkSkelBuilder::default().open(&mut task_work).unwrap();
    check(open.open_object_mut(), "bpf_task_work_schedule_signal");
}
