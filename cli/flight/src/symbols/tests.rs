//! Names of functions of this test, and of a C program whose file is gone.

use std::fs;
use std::hint::black_box;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;

use super::elf::Elf;
use super::files::{Image, handle};
use super::*;
use crate::event::tests::{event, exec};
use crate::procfs::{self, Ticks};

#[inline(never)]
fn a_known_function() -> u32 {
    black_box(7)
}

fn me() -> Process {
    procfs::process(std::process::id(), &Ticks::new()).unwrap()
}

/// The names of a stack's frames; the first one is of the innermost frame.
fn names(symbols: &mut Symbols, user: &[UserFrame], process: Option<&Process>) -> Vec<Vec<String>> {
    let stack = Stack { user: user.to_vec(), ..Stack::default() };
    symbols.frames(&stack, process).user.iter().map(|frame| frame.names.clone()).collect()
}

#[test]
fn functions_of_this_process_have_names() {
    let address = a_known_function as fn() -> u32 as usize as u64;
    let me = me();
    let space = Space::of(&me);
    let mapping = space.find(address).unwrap();
    let offset = address - mapping.start + mapping.offset;
    let build_id = Elf::read(&fs::File::open("/proc/self/exe").unwrap()).unwrap().build_id.unwrap();
    // The second one is called there: the address after its first byte is one to return to.
    let frames = [
        UserFrame::File { build_id, offset },
        UserFrame::File { build_id, offset: offset + 1 },
        UserFrame::Address(address + 1),
    ];
    let mut symbols = Symbols::new(&[]);
    for names in names(&mut symbols, &frames, Some(&me)) {
        assert_eq!(names, ["mapring_flight::symbols::tests::a_known_function"]);
    }
    // The process is not needed any more; nor is it if an event has named the file.
    assert!(names(&mut symbols, &frames[..1], None)[0][0].ends_with("a_known_function"));
    let mut symbols = Symbols::new(&[]);
    let file = std::env::current_exe().unwrap();
    symbols.learn(&event(1, 7, exec(file.as_os_str().as_encoded_bytes(), "test")));
    assert!(names(&mut symbols, &frames[..1], None)[0][0].ends_with("a_known_function"));
    let stack = Stack { user: frames.to_vec(), ..Stack::default() };
    let frame = &symbols.frames(&stack, Some(&me)).user[0];
    let name = std::env::current_exe().unwrap();
    assert_eq!(
        (&*frame.module, frame.build_id),
        (name.file_name().unwrap().to_str().unwrap(), Some(build_id))
    );
}

#[test]
fn what_is_unknown_stays_a_number() {
    let me = me();
    let mut build_id = [0; 20];
    build_id[..16].fill(0xab);
    let frames = [UserFrame::File { build_id, offset: 0x10 }, UserFrame::Address(u64::MAX)];
    let unknown =
        [vec![format!("[build id {}]+0x10", "ab".repeat(16))], vec!["0xffffffffffffffff".to_owned()]];
    assert_eq!(names(&mut Symbols::new(&[]), &frames, None), unknown);
    // In this process's stack: no file, and no function.
    let local = 0_u8;
    let name =
        &names(&mut Symbols::new(&[]), &[UserFrame::Address(&raw const local as u64)], Some(&me))[0][0];
    assert!(name.starts_with("0x") || name.starts_with("[stack]+0x"), "{name}");
    let of = |kernel| Symbols::new(&[]).frames(&Stack { kernel, ..Stack::default() }, None).kernel;
    assert_eq!(of(vec![0])[0].names, ["0x0"]);
    assert_eq!(of(vec![u64::MAX])[0].names, ["0xffffffffffffffff"], "behind the last symbol");
}

#[test]
fn a_stack_ends_at_the_first_number_that_is_no_code() {
    let me = me();
    let code = a_known_function as fn() -> u32 as usize as u64 + 1;
    let file = fs::File::open("/proc/self/exe").unwrap();
    let elf = Elf::read(&file).unwrap();
    let data = elf.loads().into_iter().find(|load| !load.is_code && load.size > 1).unwrap();
    let data = UserFrame::File { build_id: elf.build_id.unwrap(), offset: data.offset + 1 };
    let local = 0_u8;
    let of_stack = UserFrame::Address(&raw const local as u64);
    let count = |guessed, process| {
        let user = vec![UserFrame::Address(code), guessed, UserFrame::Address(code)];
        let named = Symbols::new(&[]).frames(&Stack { user, ..Stack::default() }, process);
        assert_eq!(named.is_cut, named.user.len() < 3);
        named.user.len()
    };
    for guessed in [data, of_stack, UserFrame::Address(1 << 12)] {
        assert_eq!(count(guessed, Some(&me)), 1, "{guessed:?}");
        assert_eq!(count(guessed, None), 3, "nothing is known of a process that has ended, and of its files");
    }
    let unknown = UserFrame::File { build_id: [7; 20], offset: 1 };
    assert_eq!(count(unknown, Some(&me)), 3);
    // A file with names says the same on another machine.
    let mut symbols = Symbols::new(&[]);
    let stack = Stack { user: vec![data; 2], ..Stack::default() };
    assert!(symbols.frames(&stack, Some(&me)).is_cut);
    let saved = serde_json::to_string(&symbols.to_save()).unwrap();
    let saved: Saved = serde_json::from_str(&saved).unwrap();
    assert!(Symbols::new(&[]).with_saved(Some(&saved)).frames(&stack, None).is_cut);
}

#[test]
fn kernel_functions_have_names() {
    let symbols = fs::read_to_string("/proc/kallsyms").unwrap();
    let line = symbols.lines().find(|line| line.ends_with(" schedule")).unwrap();
    let address = u64::from_str_radix(line.split(' ').next().unwrap(), 16).unwrap();
    let stack = Stack { kernel: vec![address, address + 1], ..Stack::default() };
    let frames = Symbols::new(&[]).frames(&stack, None).kernel;
    let shown = if address == 0 { ["0x0", "0x1"] } else { ["schedule"; 2] };
    assert_eq!([&*frames[0].names[0], &*frames[1].names[0]], shown);
    assert_eq!(frames[0].module, "[kernel]");
}

/// A C program in a directory; where `mark` is in its file, which is inlined in `outer`; its build id.
fn program(dir: &Path) -> (u64, BuildId) {
    let source = "static inline __attribute__((always_inline)) int leaf(int x) {\n\
                  asm volatile(\"mark: nop\" : \"+r\"(x)); return x * 2; }\n\
                  __attribute__((noinline)) int outer(int x) { return leaf(x) + 1; }\n\
                  int main(int argc, char **argv) { return outer(argc); }\n";
    fs::write(dir.join("a.c"), source).unwrap();
    run(dir, "cc -g -O1 -Wl,--build-id -o a a.c");
    let elf = Elf::read(&fs::File::open(dir.join("a")).unwrap()).unwrap();
    let symbols = Command::new("nm").arg(dir.join("a")).output().unwrap().stdout;
    let symbols = String::from_utf8(symbols).unwrap();
    let mark = symbols.lines().find(|line| line.ends_with(" mark")).unwrap();
    let mark = u64::from_str_radix(mark.split(' ').next().unwrap(), 16).unwrap();
    let load = elf
        .loads()
        .into_iter()
        .find(|load| (load.address..load.address + load.size).contains(&mark))
        .unwrap();
    (mark - load.address + load.offset, elf.build_id.unwrap())
}

fn run(dir: &Path, line: &str) {
    let mut words = line.split(' ');
    let status = Command::new(words.next().unwrap()).args(words).current_dir(dir).status();
    assert!(status.unwrap().success(), "{line}");
}

#[test]
fn a_debug_file_names_a_program_that_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (offset, build_id) = program(dir.path());
    let frame = [UserFrame::File { build_id, offset }];
    let of = |dir: &Path| names(&mut Symbols::new(&[dir.to_owned()]), &frame, None).remove(0);
    assert_eq!(of(dir.path()), ["leaf", "outer"], "the program itself");
    let [debug, by_id] = ["debug", "by_id"].map(|name| dir.path().join(name));
    fs::create_dir(&debug).unwrap();
    run(dir.path(), "objcopy --only-keep-debug a debug/any.debug");
    run(dir.path(), "strip a");
    let unknown = format!("[build id {}]+{offset:#x}", hex(&build_id));
    let stripped = of(dir.path());
    assert_eq!(stripped, [format!("a+{offset:#x}")], "no symbols");
    fs::remove_file(dir.path().join("a")).unwrap();
    assert_eq!(of(dir.path()), std::slice::from_ref(&unknown));
    assert_eq!(of(&debug), ["leaf", "outer"], "any name");
    let id = hex(&build_id);
    let (first, rest) = id.split_at(2);
    let at = by_id.join(format!(".build-id/{first}"));
    fs::create_dir_all(&at).unwrap();
    let file = at.join(format!("{rest}.debug"));
    fs::copy(debug.join("any.debug"), &file).unwrap();
    assert_eq!(of(&by_id), ["leaf", "outer"], "its build id is its name");
    // Of another program: its name says this build id, its note does not.
    fs::write(dir.path().join("b.c"), "int outer(void) { return 1; } int main(void) { return outer(); }")
        .unwrap();
    run(dir.path(), "cc -g -Wl,--build-id -o b b.c");
    fs::copy(dir.path().join("b"), &file).unwrap();
    assert_eq!(of(&by_id), [unknown]);
}

#[test]
fn files_of_other_users_are_copied_and_may_be_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let (offset, _) = program(dir.path());
    let path = dir.path().join("a");
    if rustix::process::geteuid().is_root() {
        chown(&path, Some(12345), None).unwrap();
    } else {
        run(dir.path(), "chmod g+w a");
    }
    let find = || {
        let image = Image::open(handle(&path));
        Module::new(Vec::from_iter(image), &[]).functions(offset).unwrap_or_default()
    };
    assert_eq!(find(), ["leaf", "outer"]);
    let whole = fs::read(&path).unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    let mut named = 0;
    for _ in 0..300 {
        let mut damaged = whole.clone();
        for _ in 0..random.usize(1..30) {
            let at = random.usize(..damaged.len());
            damaged[at] = random.u8(..);
        }
        damaged.truncate(random.usize(damaged.len() / 2..damaged.len() * 2));
        fs::write(&path, &damaged).unwrap();
        named += usize::from(!find().is_empty());
    }
    assert!(named > 0, "damage elsewhere does no harm");
}

#[test]
fn only_regular_files_are_opened() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe.debug");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
    fs::write(dir.path().join("empty.debug"), "").unwrap();
    std::os::unix::fs::symlink("/dev/tty", dir.path().join("device.debug")).unwrap();
    let frame = UserFrame::File { build_id: [1; 20], offset: 1 };
    // Would wait for a writer of the pipe.
    assert!(
        names(&mut Symbols::new(&[dir.path().to_owned()]), &[frame], None)[0][0].starts_with("[build id 01")
    );
}
