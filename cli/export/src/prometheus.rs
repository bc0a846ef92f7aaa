//! `mapring export prometheus`: an HTTP endpoint that Prometheus scrapes.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mapring_kit::output;
use mapring_kit::signals::Interrupted;

use crate::What;
use crate::format::Format;
use crate::http::Server;
use crate::page::Page;
use crate::prom_proto::Protobuf;
use crate::sample::Sampler;
use crate::text::Text;

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

/// The time between two checks of pins.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

pub(crate) fn run(args: &Args) -> Result<()> {
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
    let (mut checked, mut number) = (Instant::now(), 0);
    while !interrupted.is_set() {
        server.serve(CHECK_INTERVAL.saturating_sub(checked.elapsed()), &mut |format, page| {
            sampler.read();
            number += 1;
            page.begin(number, format, limits.response);
            if write(&mut sampler, page) {
                return Ok(());
            }
            let why = format!("the values have more than {} bytes", limits.response);
            eprintln!("mapring: {why}: name fewer regions, or raise `response` in [limits]");
            Err(why)
        })?;
        if checked.elapsed() >= CHECK_INTERVAL {
            checked = Instant::now();
            sampler.reopen();
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
