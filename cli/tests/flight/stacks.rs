//! The stacks of the real kernel and of programs with a known chain of calls.

use std::collections::HashMap;
use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::event::{Event, What};
use crate::recorder::Recorder;
use crate::stack::{Stack, UserFrame};

/// A program whose functions call each other: main, outer, middle, and one that spins or waits.
struct Chain {
    dir: tempfile::TempDir,
    /// Where its functions are in the file.
    functions: HashMap<String, Range<u64>>,
    build_id: String,
}

/// Without libc in the innermost function: that has no frame pointers.
const SOURCE: &str = r#"
#include <sys/syscall.h>
static long wait_for_input(void) {
    char byte;
#ifdef __x86_64__
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "0"(SYS_read), "D"(0), "S"(&byte), "d"(1) : "rcx", "r11", "memory");
    return result;
#else
    register long result __asm__("x0") = 0;
    register long to __asm__("x1") = (long)&byte;
    register long size __asm__("x2") = 1;
    register long number __asm__("x8") = SYS_read;
    __asm__ volatile("svc 0" : "+r"(result) : "r"(to), "r"(size), "r"(number) : "memory");
    return result;
#endif
}
static volatile unsigned long turns;
__attribute__((noinline)) long spin(void) { for (;;) turns++; }
__attribute__((noinline)) long waits(void) { return wait_for_input() + turns; }
__attribute__((noinline)) long deep(long n) { return (n ? deep(n - 1) : waits()) + turns; }
__attribute__((noinline)) long middle(char what) { return (what == 's' ? spin() : what == 'd' ? deep(300) : waits()) + turns; }
__attribute__((noinline)) long outer(char what) { return middle(what) + turns; }
int main(int argc, char **argv) { return outer(argv[argc - 1][0]) < 0; }
"#;

impl Chain {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("chain.c");
        fs::write(&source, SOURCE).unwrap();
        let path = dir.path().join("chain");
        // Optimized functions that call no others have no frame of their own.
        let options = ["-g", "-O0", "-fno-omit-frame-pointer"];
        let mut compiler = Command::new("cc");
        compiler.args(options).arg("-Wl,--build-id").arg(&source).arg("-o").arg(&path);
        assert!(compiler.status().unwrap().success());
        let output = |command: &str, option: &str| {
            let output = Command::new(command).arg(option).arg(&path).output().unwrap();
            assert!(output.status.success());
            String::from_utf8(output.stdout).unwrap()
        };
        let hex = |text: &str| u64::from_str_radix(text, 16).unwrap();
        let function = |line: &str| match line.split(' ').collect::<Vec<_>>()[..] {
            // The linker gives code the address of its place in the file.
            [begin, size, "T", name] => Some((name.to_owned(), hex(begin)..hex(begin) + hex(size))),
            _ => None,
        };
        // What is left when the program is deleted.
        let debug = dir.path().join("debug");
        fs::create_dir(&debug).unwrap();
        let mut split = Command::new("objcopy");
        split.arg("--only-keep-debug").arg(&path).arg(debug.join("chain.debug"));
        assert!(split.status().unwrap().success());
        let functions = output("nm", "-S").lines().filter_map(function).collect();
        let notes = output("readelf", "-n");
        let build_id = notes.lines().find_map(|line| line.trim().strip_prefix("Build ID: ")).unwrap();
        Self { functions, build_id: build_id.to_owned(), dir }
    }

    fn debug_dir(&self) -> PathBuf {
        self.dir.path().join("debug")
    }

    fn run(&self, what: &str) -> Child {
        let mut program = Command::new(self.dir.path().join("chain"));
        program.arg(what).stdin(Stdio::piped()).spawn().unwrap()
    }

    /// Whether the stack is that of these functions, the innermost one first, called by main.
    fn is(&self, stack: &Stack, functions: &[&str]) -> bool {
        let is = |(frame, name): (&UserFrame, &&str)| match frame {
            UserFrame::File { build_id, offset } => {
                let id: String = build_id.iter().map(|byte| format!("{byte:02x}")).collect();
                id == self.build_id && self.functions[*name].contains(offset)
            }
            UserFrame::Address(_) => false,
        };
        stack.user.len() > functions.len() && stack.user.iter().zip(functions).all(is)
    }
}

/// The process, and its end.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Reads until there is such an event.
fn until<T>(recorder: &Recorder, find: impl Fn(&Event) -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let events = recorder.events();
        if let Some(found) = events.iter().find_map(&find) {
            return found;
        }
        assert!(Instant::now() < end, "not among {} events: {:?}", events.len(), events.last());
    }
}

#[test]
fn samples_have_the_chain_of_calls_also_of_a_deleted_program() {
    let chain = Chain::new();
    let recorder = Recorder::new("samples");
    if !recorder.start(&["--size", "16M", "--events", "profile"]) {
        return;
    }
    let program = Ended(chain.run("spin"));
    let pid = program.0.id();
    fs::remove_file(chain.dir.path().join("chain")).unwrap();
    // Earlier ones may be of its start.
    let process = until(&recorder, |event| match &event.what {
        What::Sample { stack } if event.tid == pid => {
            chain.is(stack, &["spin", "middle", "outer", "main"]).then_some(event.pid)
        }
        _ => None,
    });
    assert_eq!(process, pid);
    // No stack of this process has other frames.
    let samples = recorder.events().into_iter().filter(|event| event.pid == pid);
    for event in samples {
        let What::Sample { stack } = event.what else { unreachable!() };
        assert!(
            chain.is(&stack, &["spin", "middle", "outer", "main"]) || !stack.kernel.is_empty(),
            "{stack:?}"
        );
    }
    drop(program);
    let (pid, id) = (format!("\"tid\":{pid},"), format!("{}+0x", chain.build_id));
    let text = recorder.run(&["dump", "--format", "ndjson"]).stdout;
    let mut lines = str::from_utf8(&text).unwrap().lines();
    assert!(lines.any(|line| line.contains("\"sample\"") && line.contains(&pid) && line.contains(&id)));
    let folded = |options: &[&str]| {
        let output = recorder.run(&[&["dump", "--format", "folded"], options].concat());
        String::from_utf8(output.stdout).unwrap()
    };
    let nameless = folded(&[]);
    assert!(nameless.contains(&format!(";[build id {}]+0x", chain.build_id)), "{nameless}");
    let named = folded(&["--debug-dir", chain.debug_dir().to_str().unwrap()]);
    assert!(
        named.lines().any(|line| line.starts_with("chain;") && line.contains(";main;outer;middle;spin ")),
        "{named}"
    );
}
