//! `mapring export prometheus`: an HTTP endpoint that Prometheus scrapes.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::What;
use super::http::Server;
use super::page::{Format, Page};
use super::prom_proto::Protobuf;
use super::sample::Sampler;
use super::text::Text;
use crate::output;
use crate::regions::Interrupted;

/// Serve values of regions at http://127.0.0.1:9750/metrics, for Prometheus and others that understand its formats
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

pub(super) fn run(args: &Args) -> Result<()> {
    let mut sampler = args.what.sampler()?;
    let limits = sampler.config.limits;
    if args.once {
        sampler.read();
        let mut page = Page::default();
        page.begin(1, Format::Text, usize::MAX);
        write(&mut sampler, &mut page);
        let mut out = io::stdout().lock();
        out.write_all(page.bytes())?;
        return Ok(out.flush()?);
    }
    let interrupted = Interrupted::new()?;
    let listen = || format!("--listen {}", args.listen);
    let mut server = Server::new(args.listen, limits).with_context(listen)?;
    let address = server.address()?;
    output::note(format_args!("mapring: {} regions at http://{address}/metrics", sampler.regions()));
    if !address.ip().is_loopback() {
        output::note(
            "mapring: every host that reaches this address can read the values: there is no password",
        );
    }
    let (mut looked, mut number) = (Instant::now(), 0);
    while !interrupted.is_set() {
        server.serve(LOOK.saturating_sub(looked.elapsed()), &mut |accept, page| {
            sampler.read();
            number += 1;
            let format = chosen(accept);
            page.begin(number, format, limits.response);
            if write(&mut sampler, page) {
                return Ok(format.content_type());
            }
            let why = format!("the values have more than {} bytes", limits.response);
            eprintln!("mapring: {why}: name fewer regions, or raise `response` in [limits]");
            Err(why)
        })?;
        if looked.elapsed() >= LOOK {
            looked = Instant::now();
            sampler.look();
        }
    }
    Ok(())
}

/// Writes a scrape in the format of the page; returns false if it is longer than the limit.
fn write(sampler: &mut Sampler, page: &mut Page) -> bool {
    match page.format() {
        Format::Protobuf => {
            let mut sink = Protobuf::new(page);
            sampler.emit(&mut sink);
            sink.end();
        }
        text => {
            let mut sink = Text::new(page, text == Format::OpenMetrics);
            sampler.emit(&mut sink);
            sink.end();
        }
    }
    page.end()
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
    fn of(media: &str, is: impl Fn(&str, &str) -> bool) -> Option<Self> {
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
        let parameters = parts.filter_map(|part| part.split_once('='));
        let parameter = |name: &str| {
            let mut all =
                parameters.clone().map(|(name, value)| (name.trim(), value.trim().trim_matches('"')));
            all.find(|(known, _)| *known == name).map(|(_, value)| value)
        };
        let q: f64 = parameter("q").map_or(1.0, |q| q.parse().unwrap_or(0.0));
        let format = Format::of(name, |name, value| parameter(name) == Some(value));
        if let Some(format) = format.filter(|_| q > 0.0)
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
