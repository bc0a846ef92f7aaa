//! `mapring export otlp`: pushes values to a collector of OpenTelemetry, as protobuf over HTTP.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail, ensure};
use mapring_kit::signals::Interrupted;
use mapring_kit::text::printable;
use mapring_kit::{lookup, output};
use prost::Message;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use crate::What;
use crate::messages::otlp::{ExportMetricsPartialSuccess, ExportMetricsServiceResponse};
use crate::otlp_proto::Otlp;
use crate::sample::Sampler;

/// Push values of regions to an OpenTelemetry collector, or another server that takes OTLP over HTTP
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    what: What,
    /// Where to push: http://HOST:PORT/PATH. For TLS, push to a collector on this machine
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:4318/v1/metrics", value_parser = url)]
    to: String,
    /// The time between two pushes
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = output::span)]
    every: Duration,
    /// Push once, and end
    #[arg(long)]
    once: bool,
}

/// The longest time for a push.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The first pause after a failed push, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
/// The longest pause that a server may ask for.
const ASKED: Duration = Duration::from_secs(3600);
/// The largest answer that is read.
const ANSWER: u64 = 64 << 10;

fn url(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("http://").filter(|rest| !rest.is_empty() && !rest.starts_with('/'));
    host.map(|_| text.to_owned()).ok_or_else(|| "write it as http://HOST:PORT/v1/metrics".to_owned())
}

/// What the server did not take, and whether it may take it later.
struct Failed {
    why: String,
    /// How long the server wants to be left alone.
    after: Option<Duration>,
    /// It may take the next push.
    for_now: bool,
}

impl Failed {
    fn new(why: &str, for_now: bool) -> Self {
        Self { why: printable(why).into_owned(), after: None, for_now }
    }
}

/// What the server says of a push that it took.
struct Warning {
    rejected: i64,
    text: String,
}

impl Warning {
    fn of(
        ExportMetricsPartialSuccess { rejected_data_points: rejected, error_message }: ExportMetricsPartialSuccess,
    ) -> Option<Self> {
        let why = printable(&error_message);
        let text = match rejected {
            1.. => format!("{rejected} values were rejected: {why}"),
            _ if error_message.is_empty() => return None,
            _ => format!("a warning: {why}"),
        };
        Some(Self { rejected, text })
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    ensure!(args.every >= Duration::from_millis(10), "--every: at least 10ms");
    let mut sampler = args.what.sampler()?;
    let interrupted = Interrupted::new()?;
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .timeout_global(Some(TIMEOUT))
        .user_agent(concat!("mapring/", env!("CARGO_PKG_VERSION")))
        .build();
    let agent = ureq::Agent::with_parts(config, DefaultConnector::default(), Lookup);
    if !args.once {
        output::note(format_args!("mapring: {} regions to {}", sampler.regions(), printable(&args.to)));
    }
    let (mut failures, mut last_error, mut warned, mut pause) = (0_u64, String::new(), None, PAUSES[0]);
    loop {
        // Values are sums: a push replaces those that failed before, so none is kept.
        let wait = match push(&agent, args, &mut sampler, &host, &interrupted) {
            _ if interrupted.is_set() => return Ok(()),
            Ok(Some(Warning { rejected: 1.., text })) if args.once => {
                bail!("{}: {text}", printable(&args.to))
            }
            // What a server rejects of a push is not sent again, says the specification of OTLP.
            Ok(warning) => {
                let to = printable(&args.to);
                if failures > 0 {
                    eprintln!("mapring: {to}: takes values again, after {failures} failed pushes");
                }
                match &warning {
                    // Once, although the text may be another one for each push.
                    Some(Warning { text, rejected }) if Some(*rejected > 0) > warned => {
                        eprintln!("mapring: {to}: {text}");
                    }
                    None if warned.is_some() => eprintln!("mapring: {to}: takes all values again"),
                    _ => {}
                }
                (failures, pause, warned) = (0, PAUSES[0], warning.map(|warning| warning.rejected > 0));
                last_error.clear();
                args.every
            }
            Err(Failed { why, .. }) if args.once => bail!("{}: {why}", printable(&args.to)),
            Err(Failed { why, after, for_now }) => {
                failures += 1;
                let wait = match for_now {
                    true => after.unwrap_or(pause).clamp(PAUSES[0], ASKED),
                    false => args.every.max(pause),
                };
                pause = (2 * pause).min(PAUSES[1]);
                if last_error != why {
                    eprintln!("mapring: {}: {why}; next push in {wait:.0?}", printable(&args.to));
                    last_error = why;
                }
                wait
            }
        };
        if args.once || interrupted.sleep(wait) {
            return Ok(());
        }
        sampler.reopen();
    }
}

/// Looks hosts up as all of the command does.
#[derive(Debug)]
struct Lookup;

impl Resolver for Lookup {
    fn resolve(
        &self,
        uri: &Uri,
        _: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let of = uri.scheme().zip(uri.authority());
        let of = of.and_then(|(scheme, authority)| DefaultResolver::host_and_port(scheme, authority));
        let of = of.ok_or_else(|| ureq::Error::BadUri(uri.to_string()))?;
        let (answer, answered) = mpsc::sync_channel(1);
        thread::spawn(move || answer.send(lookup::addresses(&of)));
        let found =
            answered.recv_timeout(*timeout.after).map_err(|_| ureq::Error::Timeout(timeout.reason))?;
        let mut addresses = self.empty();
        let found = found.map_err(|error| std::io::Error::other(format!("{error:#}")))?;
        found.into_iter().take(16).for_each(|address| addresses.push(address));
        Ok(addresses)
    }
}

/// Pushes all values. While the server answers, a signal ends the wait.
fn push(
    agent: &ureq::Agent,
    args: &Args,
    sampler: &mut Sampler,
    host: &str,
    interrupted: &Interrupted,
) -> Result<Option<Warning>, Failed> {
    sampler.read();
    let mut otlp = Otlp::new(super::nanoseconds());
    sampler.emit(&mut otlp);
    let request = otlp.finish(host.to_owned()).encode_to_vec();
    let limit = sampler.config.limits.response;
    if request.len() > limit {
        let why = format!("the values have more than {limit} bytes: raise `response` in [limits]");
        return Err(Failed::new(&why, false));
    }
    let (agent, to) = (agent.clone(), args.to.clone());
    super::interruptible(interrupted, move || send(&agent, &to, &request))
        .unwrap_or_else(|e| Err(Failed::new(&e.to_string(), true)))
}

fn send(agent: &ureq::Agent, to: &str, request: &[u8]) -> Result<Option<Warning>, Failed> {
    let failed = |why: String, for_now| Failed::new(&why, for_now);
    let sent = agent.post(to).content_type("application/x-protobuf").send(request);
    let mut response = sent.map_err(|e| failed(e.to_string(), true))?;
    let status = response.status().as_u16();
    let after = response.headers().get("retry-after").and_then(|value| pause_of(value.to_str().ok()?));
    let answer = response.body_mut().with_config().limit(ANSWER).read_to_vec();
    match status {
        200..300 => {
            let answer =
                ExportMetricsServiceResponse::decode(&*answer.unwrap_or_default()).unwrap_or_default();
            Ok(answer.partial_success.and_then(Warning::of))
        }
        // These may take it later, says the specification of OTLP.
        429 | 502 | 503 | 504 => Err(Failed { after, ..failed(format!("HTTP status {status}"), true) }),
        _ => {
            let text: String =
                String::from_utf8_lossy(&answer.unwrap_or_default()).chars().take(200).collect();
            let colon = if text.trim().is_empty() { "" } else { ": " };
            Err(failed(format!("HTTP status {status}{colon}{}", text.trim()), false))
        }
    }
}

/// The pause that `Retry-After` asks for: in seconds, or until a date such as `Sun, 06 Nov 1994 08:49:37 GMT`.
fn pause_of(text: &str) -> Option<Duration> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let [_, day, month, year, time, "GMT"] = text.split_whitespace().collect::<Vec<_>>()[..] else {
        return None;
    };
    let month = 1 + MONTHS.iter().position(|name| *name == month)?;
    let date = humantime::parse_rfc3339(&format!("{year}-{month:02}-{day}T{time}Z")).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_in_seconds_or_until_a_date() {
        assert_eq!(pause_of("120"), Some(Duration::from_secs(120)));
        assert_eq!(pause_of("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert!(pause_of("Fri, 31 Dec 2399 23:59:59 GMT").is_some_and(|pause| pause > ASKED));
        for text in ["", "soon", "-1", "Sun, 06 Now 1994 08:49:37 GMT", "Sun, 99 Nov 1994 08:49:37 GMT"] {
            assert_eq!(pause_of(text), None, "{text}");
        }
    }
}
