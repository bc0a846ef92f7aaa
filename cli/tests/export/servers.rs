//! Servers that a test starts, if they are installed.

use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Dir, Running, get, until};

/// A command to start a server. `None`, after a loud message, if it is not installed.
pub(crate) fn installed(server: &str, package: &str) -> Option<Command> {
    let found = Command::new(server).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    match found {
        Ok(_) => Some(Command::new(server)),
        Err(e) => skipped(&format!("{server}: {e}: sudo apt-get install {package}")),
    }
}

/// Says loudly that a test does not run, or fails if all must run.
pub(crate) fn skipped<T>(why: &str) -> Option<T> {
    let required = std::env::var("MAPRING_REQUIRE_BPF").is_ok_and(|value| value == "1");
    assert!(!required, "MAPRING_REQUIRE_BPF=1, but {why}");
    eprintln!("\n!!!! SKIPPED: {why} !!!!\n");
    None
}

/// A server that answers queries in PromQL.
pub(crate) struct Prometheus {
    pub(crate) address: String,
    _running: Running,
    _dir: Dir,
}

impl Prometheus {
    /// Prometheus with this configuration. `None` if it is not installed.
    pub(crate) fn start(config: &str, options: &[&str]) -> Option<Self> {
        let mut command = installed("prometheus", "prometheus")?;
        let dir = Dir::new();
        let config = dir.file("prometheus.yml", config);
        command.arg(format!("--config.file={config}"));
        command.arg(format!("--storage.tsdb.path={}/data", dir.0.display()));
        command.args(["--web.listen-address=127.0.0.1:0", "--log.level=info"]).args(options);
        let mut running = Running::new(&mut command);
        let line = running.wait_for("msg=\"Listening on\"");
        let address = line.split("address=").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        Some(Self { address, _running: running, _dir: dir })
    }

    /// VictoriaMetrics, which takes OTLP. (Debian's Prometheus is built without.) `None` if it is not installed, or older
    /// than 1.92.
    pub(crate) fn victoria() -> Option<Self> {
        const PACKAGE: &str = "victoria-metrics # of Debian 13 or later";
        let name =
            std::env::var("MAPRING_VICTORIA_METRICS").unwrap_or_else(|_| "victoria-metrics".to_owned());
        let mut command = installed(&name, PACKAGE)?;
        let dir = Dir::new();
        command.arg(format!("-storageDataPath={}/data", dir.0.display()));
        command.args(["-httpListenAddr=127.0.0.1:0", "-search.latencyOffset=0s", "-search.disableCache"]);
        let mut running = Running::new(&mut command);
        let address = running.address();
        let known = get(&address, "/opentelemetry/v1/metrics", "");
        if known
            .is_none_or(|(status, _, body)| status >= 400 && body.windows(11).any(|w| w == b"unsupported"))
        {
            return skipped(&format!("{name} does not take OTLP: sudo apt-get install {PACKAGE}"));
        }
        Some(Self { address, _running: running, _dir: dir })
    }

    /// The values that a query finds, each with its labels.
    pub(crate) fn query(&self, query: &str) -> Vec<(Value, f64)> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let Some((200, _, body)) = get(&self.address, &format!("/api/v1/query?query={encoded}"), "") else {
            return Vec::new();
        };
        let answer: Value = serde_json::from_slice(&body).unwrap();
        let found = answer["data"]["result"].as_array().unwrap().iter();
        found.map(|one| (one["metric"].clone(), one["value"][1].as_str().unwrap().parse().unwrap())).collect()
    }

    /// Waits until a query finds just one value, for which this holds.
    pub(crate) fn wait_for(&self, query: &str, holds: impl Fn(f64) -> bool) -> Value {
        let mut last = Vec::new();
        let end = std::time::Instant::now() + super::DEADLINE;
        until(query, || {
            last = self.query(query);
            assert!(std::time::Instant::now() < end, "{query}: {last:?}");
            match &last[..] {
                [(labels, value)] if holds(*value) => Some(labels.clone()),
                _ => None,
            }
        })
    }
}
