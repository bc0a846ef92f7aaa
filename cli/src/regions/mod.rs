//! `mapring ls`, `show`, `stat`, `tail` and `top`: every region and mmapable array of this machine, made visible.

pub(crate) mod facts;
#[cfg(feature = "commands")]
pub(crate) mod filter;
pub(crate) mod find;
pub(crate) mod follow;
pub(crate) mod histogram;
#[cfg(feature = "commands")]
pub(crate) mod line;
#[cfg(feature = "commands")]
pub(crate) mod losses;
#[cfg(feature = "commands")]
pub(crate) mod ls;
pub(crate) mod rates;
pub(crate) mod ringbuf;
mod screen;
pub(crate) mod shortage;
pub(crate) mod show;
pub(crate) mod stamp;
pub(crate) mod stat;
#[cfg(feature = "commands")]
pub(crate) mod tail;
pub(crate) mod target;
pub(crate) mod top;
pub(crate) mod unended;
pub(crate) mod untyped;
pub(crate) mod value;

use std::io;
use std::process::ExitCode;

use anyhow::Result;

use mapring_kit::exit::Refused;

/// `mapring ls`, `show`, `stat`, `tail` or `top`.
#[cfg(feature = "commands")]
pub(crate) enum Command<'a> {
    Ls(&'a ls::Args),
    Show(&'a show::Args),
    Stat(&'a stat::Args),
    Tail(&'a tail::Args),
    Top(&'a top::Args),
}

/// Runs a command.
#[cfg(feature = "commands")]
pub(crate) fn run(command: &Command<'_>) -> Result<ExitCode> {
    shortage::raise_limit();
    let done = match command {
        Command::Ls(args) => ls::run(args),
        Command::Show(args) => show::run(args),
        Command::Stat(args) => stat::run(args),
        Command::Tail(args) => tail::run(args),
        Command::Top(args) => top::run(args),
    };
    outcome(done)
}

/// The end of a command. What only a privilege is missing for is refused.
pub(crate) fn outcome(done: Result<()>) -> Result<ExitCode> {
    done.map(|()| ExitCode::SUCCESS)
        .map_err(|e| if is_denied(&e) { Refused(format!("{e:#}")).into() } else { e })
}

/// Whether the kernel denied something to this user.
fn is_denied(error: &anyhow::Error) -> bool {
    error.chain().any(|e| {
        let of_library = e.downcast_ref::<mapring::Error>().and_then(mapring::Error::io_error);
        let e = of_library.or_else(|| e.downcast_ref());
        e.is_some_and(|e| e.kind() == io::ErrorKind::PermissionDenied)
    })
}
