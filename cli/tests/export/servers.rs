//! Servers that a test starts, if they are installed.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Dir, Running, get, until_some};

/// A command to start a server, from the folder `MAPRING_SERVERS` that `cargo xtask test export` fills, or without it
/// an installed one. `None`, after a loud message, if there is none.
pub(crate) fn installed(server: &str) -> Option<Command> {
    let folder = std::env::var_os("MAPRING_SERVERS").map(PathBuf::from);
    let program = folder.map_or_else(|| server.into(), |folder| folder.join(server));
    let found = Command::new(&program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    match found {
        Ok(_) => Some(Command::new(program)),
        Err(e) => skipped(&format!("{}: {e}", program.display())),
    }
}

/// Says loudly that a test does not run, or fails where all servers are expected.
pub(crate) fn skipped<T>(why: &str) -> Option<T> {
    assert!(std::env::var_os("MAPRING_SERVERS").is_none(), "{why}");
    crate::skip::skipped(&format!("{why}: `cargo xtask test export` fetches the servers, and runs all"));
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
        let mut command = installed("prometheus")?;
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
        let mut command = installed("victoria-metrics")?;
        let dir = Dir::new();
        command.arg(format!("-storageDataPath={}/data", dir.0.display()));
        command.args(["-httpListenAddr=127.0.0.1:0", "-search.latencyOffset=0s", "-search.disableCache"]);
        let mut running = Running::new(&mut command);
        let address = running.address();
        let known = get(&address, "/opentelemetry/v1/metrics", "");
        if known
            .is_none_or(|(status, _, body)| status >= 400 && body.windows(11).any(|w| w == b"unsupported"))
        {
            return skipped("this victoria-metrics does not take OTLP");
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
        until_some(query, || {
            last = self.query(query);
            assert!(std::time::Instant::now() < end, "{query}: {last:?}");
            match &last[..] {
                [(labels, value)] if holds(*value) => Some(labels.clone()),
                _ => None,
            }
        })
    }
}
