//! Opens the page of a report of the real kernel in a headless Chromium: clicks, zooms, reads numbers back, and looks for errors.
#![cfg(feature = "bpf")]

#[path = "browser/chromium.rs"]
mod chromium;
mod skip;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::{fs, thread, time::Duration};

use chromium::Browser;
use serde_json::{Value, json};

/// What no page may take for an element.
const HOSTILE: &str = "</script><img src=x onerror=alert(1)>";

/// A recording with pins of its own. Dropping it ends the recording, and removes its files.
struct Recorder {
    pins: PathBuf,
    dir: PathBuf,
}

impl Recorder {
    fn run(&self, options: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mapring"));
        command.arg("flight").arg("--pins").arg(&self.pins).args(options);
        let output = command.current_dir(&self.dir).stdin(Stdio::null()).output().unwrap();
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        output
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.run(&["stop"]);
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Records a crash and names that are hostile, and returns the page's file. `None` if BPF is refused here.
fn record() -> Option<(Recorder, PathBuf)> {
    let name = format!("mapring-page-{}", std::process::id());
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&name);
    fs::create_dir_all(&dir).unwrap();
    let recorder = Recorder { pins: Path::new("/sys/fs/bpf").join(name), dir };
    // The kernel takes the name of a thread from that of its program.
    let program = recorder.dir.join("<img onerror=x>");
    fs::copy("/bin/sh", &program).unwrap();
    let mut crash = Command::new(program);
    let mut crash = crash.args(["-c", "read go; kill -SEGV $$"]).stdin(Stdio::piped()).spawn().unwrap();
    let trigger = format!("exit signal=SIGSEGV pid={}", crash.id());
    let groups = "sched,irq,syscalls,exec,block,net,profile,waits";
    let options = ["start", "--size", "32M", "--events", groups, "--stop-on", &trigger, "--after", "100ms"];
    let started = recorder.run(&options);
    if started.status.code() == Some(77) {
        crash.kill().unwrap();
        crash.wait().unwrap();
        skip::without_bpf(&String::from_utf8_lossy(&started.stderr));
        return None;
    }
    assert!(started.status.success());
    let mut hog = Command::new("/bin/sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
    thread::sleep(Duration::from_secs(1));
    hog.kill().unwrap();
    hog.wait().unwrap();
    assert!(recorder.run(&["mark", HOSTILE]).status.success());
    drop(crash.stdin.take()); // `read` returns
    assert!(!crash.wait().unwrap().success());
    thread::sleep(Duration::from_millis(300));
    assert!(recorder.run(&["report", "--out", "incident.html"]).status.success());
    let page = recorder.dir.join("incident.html");
    Some((recorder, page))
}

/// The times that the lanes show, in nanoseconds.
fn shown(browser: &mut Browser) -> [f64; 2] {
    let range = browser.value("Object.values(document.getElementById('range').dataset).map(Number)");
    serde_json::from_value(range).unwrap()
}

#[test]
#[ignore = "cargo xtask prove report"]
fn the_page_works_in_a_browser() {
    let Some((_recorder, page)) = record() else { return };
    let text = fs::read_to_string(&page).unwrap();
    let (_, data) = text.split_once("id=\"data\">").unwrap();
    let data: Value = serde_json::from_str(data.split_once("</script>").unwrap().0).unwrap();
    let mut browser = Browser::start();
    let mut backgrounds = Vec::new();
    for (scheme, width) in [("light", 1280), ("dark", 1280), ("light", 400)] {
        browser.open(&page, scheme, width);
        backgrounds.push(browser.value("getComputedStyle(document.body).backgroundColor"));
        looks_right(&mut browser, &data);
        lanes_move(&mut browser, &data);
        flames_zoom(&mut browser);
        assert_eq!(
            browser.value("document.documentElement.scrollWidth <= innerWidth"),
            true,
            "{scheme} {width}"
        );
        assert!(browser.errors().is_empty(), "{scheme} {width}: {:#?}", browser.errors());
    }
    assert_eq!(backgrounds[0], backgrounds[2]);
    assert_ne!(backgrounds[0], backgrounds[1]);
}

/// The page says what the data say, and hostile names are text.
fn looks_right(browser: &mut Browser, data: &Value) {
    let figures = &data["figures"];
    let cause = figures["stopped"]["cause"].as_str().unwrap();
    assert_eq!(browser.value("document.querySelector('h1').textContent"), format!("Stopped by {cause}"));
    let first = browser.value("document.getElementById('first').innerText").to_string();
    assert!(first.contains("was killed by SIGSEGV") && first.contains("<img onerror=x> ("), "{first}");
    let marks = browser.value("document.querySelector('main').textContent").to_string();
    assert!(marks.contains(HOSTILE));
    assert_eq!(browser.value("document.images.length"), 0);
    let rows = |browser: &mut Browser, title: &str| {
        browser.value(&format!(
            "[...document.querySelectorAll('h2')].find((it) => it.textContent.startsWith('{title}')).parentNode.querySelectorAll('tbody tr').length"
        ))
    };
    for (title, figure) in
        [("CPU time", "cpu_time"), ("Time in the run queue", "runqueue_worst"), ("Programs that", "started")]
    {
        assert_eq!(rows(browser, title), figures[figure].as_array().unwrap().len(), "{title}");
    }
}

/// A click on a frame of a flame graph makes it as wide as the graph; one on the lowest shows all.
fn flames_zoom(browser: &mut Browser) {
    assert_eq!(browser.value("document.querySelectorAll('.flame').length"), 2);
    for graph in ["#running", "#waiting"] {
        let frames = format!("[...document.querySelectorAll('{graph} g')]");
        let widths = format!(
            "{frames}.map((it) => it.hasAttribute('hidden') ? 0 : parseFloat(it.querySelector('rect').getAttribute('width')))"
        );
        let click = |browser: &mut Browser, frame: &str| {
            browser.value(&format!("{frame}.dispatchEvent(new MouseEvent('click', {{ bubbles: true }}))"));
            serde_json::from_value::<Vec<f64>>(browser.value(&widths)).unwrap()
        };
        let count = |widths: &[f64]| widths.iter().filter(|wide| **wide > 0.0).count();
        let narrow = format!(
            "{frames}.reduce((a, b) => Number(a.querySelector('rect').getAttribute('fg:w')) <= Number(b.querySelector('rect').getAttribute('fg:w')) ? a : b)"
        );
        let lowest =
            format!("{frames}.find((it) => it.querySelector('title').textContent.startsWith('all '))");
        let all = click(browser, &lowest);
        let zoomed = click(browser, &narrow);
        assert!(
            count(&zoomed) < count(&all) && zoomed.iter().filter(|wide| **wide > 99.9).count() > 1,
            "{zoomed:?}"
        );
        assert_eq!(click(browser, &lowest), all);
    }
}

/// Wheel, keys, dragging, buttons and rows of tables move the lanes; a turn tells whose it is.
fn lanes_move(browser: &mut Browser, data: &Value) {
    let lanes = &data["lanes"];
    let all = [&lanes["from"], &lanes["until"]].map(|it| it.as_f64().unwrap());
    assert_eq!(shown(browser), all);
    browser.value("document.getElementById('turns').scrollIntoView({ block: 'center' })");
    let area = browser.value(
        "(({ x, y, width, height }) => [x, y, width, height])(document.querySelector('#turns .u-over').getBoundingClientRect())",
    );
    let [x, y, width, height]: [f64; 4] = serde_json::from_value(area).unwrap();
    let (middle, top) = (x + width / 2.0, y + height / 4.0);
    (0..5).for_each(|_| browser.wheel(middle, top, -100.0));
    let zoomed = shown(browser);
    let [wide, narrow] = [all, zoomed].map(|[from, until]| until - from);
    assert!(narrow < wide / 5.0 && zoomed[0] > all[0] && zoomed[1] < all[1], "{zoomed:?} of {all:?}");
    browser.mouse("mousePressed", middle, top);
    browser.mouse("mouseMoved", middle + width / 4.0, top);
    browser.mouse("mouseReleased", middle + width / 4.0, top);
    let dragged = shown(browser);
    let moved = (zoomed[0] - dragged[0]) / narrow;
    assert!((moved - 0.25).abs() < 0.01, "{moved}");
    browser.value("document.getElementById('turns').focus()");
    browser.key("ArrowRight");
    let moved = (shown(browser)[0] - dragged[0]) / narrow;
    assert!((moved - 0.25).abs() < 0.01, "{moved}");
    browser.key("0");
    assert_eq!(shown(browser), all);
    browser.value("document.getElementById('in').click()");
    assert!(((shown(browser)[1] - shown(browser)[0]) / wide - 0.5).abs() < 0.01);
    browser.value("document.getElementById('all').click()");

    // The thread of the longest turn of the first CPU, by its own numbers: the tip names it, and a click says how long it ran.
    let turns: Vec<u64> = serde_json::from_value(lanes["cpus"][0]["turns"].clone()).unwrap();
    let (mut at, mut longest) = (all[0], (0.0, 0.0, 0));
    for turn in turns.chunks(4) {
        #[allow(clippy::cast_precision_loss)] // less than 2^53 ns
        let (from, ns) = (at + turn[0] as f64, turn[1] as f64);
        at = from + ns;
        if turn[3] < 8 && ns > longest.1 {
            longest = (from, ns, turn[2]);
        }
    }
    let (from, ns, thread) = longest;
    // Anew for each zoom: a browser rounds positions to pixels, and the turn can be narrower than one at first.
    let point_of = |[left, right]: [f64; 2]| x + (from + ns / 2.0 - left) / (right - left) * width;
    for _ in 0..20 {
        let point = point_of(shown(browser));
        browser.wheel(point, top, -100.0);
    }
    let point = point_of(shown(browser));
    browser.mouse("mouseMoved", point, top);
    let thread = &lanes["threads"][usize::try_from(thread).unwrap()];
    let name = format!("{} ({})", thread["name"].as_str().unwrap(), thread["tid"]);
    assert_eq!(browser.value("document.querySelector('#tip b').textContent"), name);
    browser.mouse("mousePressed", point, top);
    browser.mouse("mouseReleased", point, top);
    let range = browser.value("document.getElementById('range').textContent").to_string();
    assert!(range.contains(&format!("; {name} ran ")), "{range}");
    browser.key("Escape");

    // The longest delay in the run queue.
    let worst = &data["figures"]["runqueue_worst"][0];
    let [end, took] = [&worst["at_ns"], &worst["ns"]].map(|it| it.as_f64().unwrap());
    let end = end - lanes["zero_ns"].as_f64().unwrap();
    browser.value(
        "[...document.querySelectorAll('h2')].find((it) => it.textContent.startsWith('Time in the run')).parentNode.querySelector('.go').click()",
    );
    let [from, until] = shown(browser);
    assert!(from <= end - took && until >= end, "{from} to {until}: {took} before {end}");
    assert!(until - from < wide, "{from} to {until}");
    assert_ne!(browser.value("document.getElementById('about').textContent"), json!(""));
}
