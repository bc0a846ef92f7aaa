//! A headless Chromium, driven by its own protocol (Chrome DevTools Protocol) over two pipes: no library and no network.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// By its names in distributions.
const PROGRAMS: [&str; 3] = ["chromium-headless-shell", "chromium", "google-chrome"];

pub(crate) struct Browser {
    process: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    session: Option<String>,
    count: u64,
    errors: Vec<Value>,
}

impl Browser {
    pub(crate) fn start() -> Self {
        let is_here =
            |name: &&str| Command::new(name).arg("--version").output().is_ok_and(|it| it.status.success());
        let program =
            PROGRAMS.into_iter().find(is_here).expect("no Chromium: `cargo xtask prove report` installs it");
        // The browser reads commands from file descriptor 3, and answers on 4.
        let script = "exec \"$0\" --headless --no-sandbox --disable-gpu --remote-debugging-pipe about:blank 3<&0 4>&1 0</dev/null 1>&2";
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", script, program])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let (to, from) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
        let mut browser = Self { process, to, from, session: None, count: 0, errors: Vec::new() };
        let target = browser.send("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].clone();
        let session = browser.send("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log"] {
            browser.send(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Sends a command, and returns its result. Notes errors that the browser reports meanwhile.
    fn send(&mut self, method: &str, params: Value) -> Value {
        self.count += 1;
        let mut command = json!({ "id": self.count, "method": method, "params": params });
        if let Some(session) = &self.session {
            command["sessionId"] = session.as_str().into();
        }
        self.to.write_all(format!("{command}\0").as_bytes()).unwrap();
        loop {
            let mut message = Vec::new();
            self.from.read_until(0, &mut message).unwrap();
            assert_eq!(message.pop(), Some(0), "the browser has ended");
            let message: Value = serde_json::from_slice(&message).unwrap();
            match message["method"].as_str() {
                Some("Runtime.exceptionThrown" | "Log.entryAdded" | "Runtime.consoleAPICalled") => {
                    self.errors.push(message);
                }
                None if message["id"] == self.count => {
                    assert!(message["error"].is_null(), "{method}: {message}");
                    return message["result"].clone();
                }
                _ => {}
            }
        }
    }

    /// Opens a file in a window of this width, and waits until it is there.
    pub(crate) fn open(&mut self, page: &Path, scheme: &str, width: u32) {
        let size = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.send("Emulation.setDeviceMetricsOverride", size);
        let scheme = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.send("Emulation.setEmulatedMedia", scheme);
        self.send("Page.navigate", json!({ "url": format!("file://{}", page.display()) }));
        let end = Instant::now() + Duration::from_secs(60);
        let ready = "location.protocol === 'file:' && document.readyState === 'complete' && !!document.getElementById('range').dataset.from";
        while self.value(ready) != true {
            assert!(Instant::now() < end, "the page is not ready: {:#?}", self.errors);
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The value of an expression in the page.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "returnByValue": true });
        let found = self.send("Runtime.evaluate", params);
        assert!(found["exceptionDetails"].is_null(), "{expression}: {found}");
        found["result"]["value"].clone()
    }

    pub(crate) fn mouse(&mut self, kind: &str, x: f64, y: f64) {
        let buttons = u32::from(kind != "mouseReleased");
        let params =
            json!({ "type": kind, "x": x, "y": y, "button": "left", "buttons": buttons, "clickCount": 1 });
        self.send("Input.dispatchMouseEvent", params);
    }

    pub(crate) fn wheel(&mut self, x: f64, y: f64, by: f64) {
        let params = json!({ "type": "mouseWheel", "x": x, "y": y, "deltaX": 0, "deltaY": by });
        self.send("Input.dispatchMouseEvent", params);
    }

    pub(crate) fn key(&mut self, key: &str) {
        for kind in ["keyDown", "keyUp"] {
            self.send("Input.dispatchKeyEvent", json!({ "type": kind, "key": key }));
        }
    }

    /// What the console has shown, and what the browser refused.
    pub(crate) fn errors(&self) -> &[Value] {
        &self.errors
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
