//! `mapring export prometheus`: an HTTP endpoint that Prometheus scrapes.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::What;
use super::http::{self, Body};
use super::prom_proto::Protobuf;
use super::sample::Sampler;
use super::text::Text;
use crate::output;
use crate::regions::Interrupted;

/// Serves values of regions at http://127.0.0.1:9750/metrics, for Prometheus and what understands its formats
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    what: What,
    /// The address and port at which to listen; port 0 is any free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9750")]
    listen: SocketAddr,
    /// Print one scrape as text, and end
    #[arg(long)]
    once: bool,
}

/// The time between two looks at pins.
const LOOK: Duration = Duration::from_secs(2);
/// The longest time until Ctrl-C is noticed.
const STEP: Duration = Duration::from_millis(100);

/// The formats, from the least to the most preferred where a client takes several alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Format {
    Text,
    OpenMetrics,
    Protobuf,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let mut sampler = args.what.sampler()?;
    let limits = sampler.config.limits;
    if args.once {
        sampler.read();
        let body = written(&sampler, Format::Text, 0, usize::MAX).unwrap_or_default();
        let mut out = io::stdout().lock();
        out.write_all(&body)?;
        return Ok(out.flush()?);
    }
    let interrupted = Interrupted::new()?;
    let (ask, asked) = mpsc::sync_channel(limits.clients);
    let address =
        http::serve(args.listen, limits, ask).with_context(|| format!("--listen {}", args.listen))?;
    output::note(format_args!("mapring: {} regions at http://{address}/metrics", sampler.regions()));
    if !address.ip().is_loopback() {
        output::note(
            "mapring: every host that reaches this address can read the values: there is no password",
        );
    }
    let (mut looked, mut size) = (Instant::now(), 0);
    while !interrupted.is_set() {
        match asked.recv_timeout(STEP) {
            Ok(http::Ask { accept, reply }) => {
                sampler.read();
                let format = chosen(&accept);
                let body = written(&sampler, format, size, limits.response);
                size = body.as_ref().map_or(size, Vec::len);
                let body = body.map(|bytes| Body { bytes, content_type: format.content_type() });
                let _ = reply.send(body.ok_or_else(|| {
                    let why = format!("the values have more than {} bytes", limits.response);
                    eprintln!("mapring: {why}: name fewer regions, or raise `response` in [limits]");
                    why
                }));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => anyhow::bail!("the server has ended"),
        }
        if looked.elapsed() > LOOK {
            looked = Instant::now();
            sampler.look();
        }
    }
    Ok(())
}

/// A scrape in this format; `None` if it is longer than the limit, without writing much more. The last one had about `size` bytes.
fn written(sampler: &Sampler, format: Format, size: usize, limit: usize) -> Option<Vec<u8>> {
    let out = Vec::with_capacity(size + size / 8);
    let bytes = match format {
        Format::Protobuf => {
            let mut sink = Protobuf::new(out, limit);
            sampler.emit(&mut sink);
            sink.finish()
        }
        text => {
            let mut sink = Text::new(out, limit, text == Format::OpenMetrics);
            sampler.emit(&mut sink);
            sink.finish()
        }
    };
    (bytes.len() <= limit).then_some(bytes)
}

impl Format {
    fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }

    /// The format of a media type with its parameters.
    fn of(media: &str, parameters: &[(String, String)]) -> Option<Self> {
        let is = |name: &str, value: &str| parameters.iter().any(|(n, v)| n == name && v == value);
        match media {
            "application/vnd.google.protobuf"
                if is("proto", "io.prometheus.client.metricfamily") && is("encoding", "delimited") =>
            {
                Some(Self::Protobuf)
            }
            "application/openmetrics-text" => Some(Self::OpenMetrics),
            "text/plain" | "text/*" | "*/*" => Some(Self::Text),
            _ => None,
        }
    }
}

/// The format that the header `Accept` likes best; text if it likes none.
fn chosen(accept: &str) -> Format {
    let mut best = (0.0, Format::Text);
    for media in accept.to_ascii_lowercase().split(',') {
        let mut parts = media.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let parameters: Vec<_> = parts
            .filter_map(|part| part.split_once('='))
            .map(|(name, value)| (name.trim().to_owned(), value.trim().trim_matches('"').to_owned()))
            .collect();
        let q = parameters.iter().find(|(name, _)| name == "q");
        let q: f64 = q.map_or(1.0, |(_, q)| q.parse().unwrap_or(0.0));
        if let Some(format) = Format::of(name, &parameters).filter(|_| q > 0.0)
            && (q, format) > best
        {
            best = (q, format);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_chooses_the_format() {
        let protobuf =
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        let prometheus =
            format!("{protobuf},application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.5,*/*;q=0.1");
        for (accept, format) in [
            ("", Format::Text),
            ("*/*", Format::Text),
            ("application/json", Format::Text),
            ("text/html, */*;q=0.8", Format::Text),
            ("application/openmetrics-text; version=1.0.0,text/plain;q=0.9", Format::OpenMetrics),
            ("application/openmetrics-text;q=0.2,text/plain;q=0.9", Format::Text),
            ("application/openmetrics-text;q=0", Format::Text),
            ("application/vnd.google.protobuf;proto=other;encoding=delimited", Format::Text),
            ("application/openmetrics-text;q=nan, ;=;,", Format::Text),
            (&prometheus, Format::Protobuf),
        ] {
            assert_eq!(chosen(accept), format, "{accept}");
        }
    }
}
