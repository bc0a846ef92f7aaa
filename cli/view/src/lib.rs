//! Every region and mmapable array of a machine, made visible: what the commands `ls`, `show`, `top`, `tail`, `stat`,
//! `record`, `replay` and `inspect` do, and what others need to read regions of any type.
//!
//! In the order of a view:
//!
//! - [`find`]: where regions are, by path, id or name. [`shortage`]: which are left out for want of descriptors.
//! - [`target`]: a region that is open, with its types and how it is read. [`facts`] has what `ls` and `show` say of it, [`content`]
//!   its values, opened by kind.
//! - [`value`]: records and values decoded by their types. [`filter`] has expressions over them.
//! - [`untyped`]: records and tables as bytes. `ringbuf` has those of the kernel's own ring buffers.
//! - [`stamp`]: the time of a record, which [`find_stamp`] looks for. [`follow`]: new records, over changes of a pin. [`line`](mod@line): a record as JSON.
//! - [`rates`]: what a region counts in a second. `losses` and `unended` have what went wrong.
//! - The commands: `ls`, `show`, [`stat`], [`top`] with its `screen`, `tail`; and in [`recording`] those of files, which it reads for others too.
//!
//! Without the feature `commands` it is what `mapring demo` shows.
#![deny(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))] // they panic if nobody reads them
#![cfg_attr(not(feature = "commands"), allow(dead_code, unreachable_pub, unused_imports))] // the demo shares files with other commands

#[macro_use] // its `eprintln!` never panics
extern crate mapring_kit;

pub mod find;
pub mod shortage;

pub mod content;
pub mod facts;
pub mod target;

#[cfg(feature = "commands")]
pub mod filter;
pub mod value;

mod ringbuf;
pub mod untyped;

pub mod find_stamp;
pub mod follow;
#[cfg(feature = "commands")]
pub mod line;
pub mod stamp;

#[cfg(feature = "commands")]
mod losses;
pub mod rates;
mod unended;

mod histogram;
#[cfg(feature = "commands")]
mod ls;
#[cfg(feature = "commands")]
pub mod recording;
mod screen;
mod show;
pub mod stat;
#[cfg(feature = "commands")]
mod tail;
pub mod top;

use std::io;
use std::process::ExitCode;

use anyhow::Result;
use mapring_kit::exit::Refused;

/// The commands. What each can do is in its module.
#[cfg(feature = "commands")]
#[derive(clap::Subcommand)]
#[allow(missing_docs)] // the help of each command is at its arguments
pub enum Command {
    Ls(ls::Args),
    Show(show::Args),
    Top(top::Args),
    Tail(tail::Args),
    Stat(stat::Args),
    Record(recording::record::Args),
    Replay(recording::replay::Args),
    Inspect(recording::inspect::Args),
}

#[cfg(feature = "commands")]
impl Command {
    /// Runs the command.
    ///
    /// # Errors
    /// What the command says on stderr.
    pub fn run(&self) -> Result<ExitCode> {
        shortage::raise_limit();
        outcome(match self {
            Self::Ls(args) => ls::run(args),
            Self::Show(args) => show::run(args),
            Self::Top(args) => top::run(args),
            Self::Tail(args) => tail::run(args),
            Self::Stat(args) => stat::run(args),
            Self::Record(args) => recording::record::run(args),
            Self::Replay(args) => recording::replay::run(args),
            Self::Inspect(args) => recording::inspect::run(args),
        })
    }
}

/// The end of a command. What only a privilege is missing for is refused.
///
/// # Errors
/// The same error, or [`Refused`].
pub fn outcome(done: Result<()>) -> Result<ExitCode> {
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
