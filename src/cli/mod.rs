//! The command line: all parsing, drawing and printing. One file for each command.

mod bake;
mod build_on;
mod completions;
mod diff;
mod digests;
mod doctor;
mod eject;
mod exit;
mod export;
mod extract;
mod facts;
mod failure;
mod files;
mod foreign;
mod habits;
mod hint;
mod hosts;
mod images;
mod import;
mod install_units;
mod inventory;
mod json;
mod limits;
mod lines;
mod list;
mod node;
mod output;
mod planned;
mod progress;
mod prune;
mod pruned;
mod push;
mod registry;
mod repair;
mod serve;
mod sign;
mod signals;
mod size;
mod source;
mod text;
mod trust;
mod verify;
mod version;
mod volumes;
mod wanted;
mod watch;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use failure::Ended;
use habits::Reading;
use output::{Globals, Output};

/// Help as it is read: what the command does, examples, then its options.
const HELP: &str = "{about}{after-help}\n\n{usage-heading} {usage}\n\n{all-args}";

/// Carry sets of container images across an air gap and put them straight into containerd.
///
/// `export` writes images to a medium, such as a USB stick, as one deduplicated, compressed OCI
/// layout; `import` puts them into containerd. Both go on where they were cut off when they are run
/// again.
#[derive(Debug, Parser)]
#[command(name = "pannier", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// What every command understands.
#[derive(Debug, Subcommand)]
enum Command {
    Export(Box<export::Args>),
    Import(Box<import::Args>),
    Bake(Box<bake::Args>),
    Doctor(doctor::Args),
    Verify(verify::Args),
    Sign(sign::Args),
    Trust(trust::command::Args),
    #[command(visible_alias = "ls")]
    List(list::Args),
    Repair(Box<repair::Args>),
    Files(files::Args),
    Extract(extract::Args),
    Prune(prune::Args),
    Eject(eject::Args),
    Images(images::Args),
    Inventory(inventory::Args),
    Diff(diff::Args),
    Serve(Box<serve::Args>),
    Push(Box<push::Args>),
    Hosts(hosts::Args),
    Digests(digests::Args),
    Limits(limits::Args),
    Watch(watch::Args),
    InstallUnits(install_units::Args),
    Completions(completions::Args),
    Version(version::Args),
    #[command(hide = true)]
    Man(completions::ManArgs),
}

/// Parses the command line, runs the command, and turns its result into an exit status.
pub fn main() -> ExitCode {
    let cli = match parse(std::env::args_os().collect()) {
        Ok(cli) => cli,
        Err(status) => return status,
    };
    let output = Output::new(cli.globals);
    signals::tell(&output);
    match run(&cli.command, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::failed(&error, &output),
    }
}

/// Parses the command line, also as other tools would have it; else what is to be typed was said.
fn parse(words: Vec<OsString>) -> Result<Cli, ExitCode> {
    use clap::error::ErrorKind::{ArgumentConflict, InvalidSubcommand, UnknownArgument};
    let error = match Cli::try_parse_from(&words) {
        Ok(cli) => return Ok(cli),
        Err(error) => error,
    };
    if matches!(error.kind(), ArgumentConflict | InvalidSubcommand | UnknownArgument) {
        match habits::read(&words) {
            Reading::Words(words) => {
                return Cli::try_parse_from(words).map_err(exit::usage);
            }
            Reading::Type(word, line) => return Err(exit::typed(&word, line)),
            Reading::Unknown => {}
        }
    }
    Err(exit::usage(error))
}

/// Whether the program understands these words as its command line, its own name first; the error is what it would
/// print. For the test of the commands that the documentation shows.
#[doc(hidden)]
pub fn parses<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<(), String> {
    match Cli::try_parse_from(words) {
        Err(error) if error.use_stderr() => Err(error.to_string()),
        _ => Ok(()),
    }
}

fn run(command: &Command, output: &Output) -> Ended {
    match command {
        Command::Export(args) => export::run(args, output)?,
        Command::Import(args) => import::run(args, output)?,
        Command::Doctor(args) => doctor::run(args, output)?,
        Command::Bake(args) => bake::run(args, output)?,
        Command::Verify(args) => verify::run(args, output)?,
        Command::Sign(args) => sign::run(args, output)?,
        Command::Trust(args) => trust::command::run(args, output)?,
        Command::List(args) => list::run(args, output)?,
        Command::Repair(args) => repair::run(args, output)?,
        Command::Files(args) => files::run(args, output)?,
        Command::Extract(args) => extract::run(args, output)?,
        Command::Prune(args) => prune::run(args, output)?,
        Command::Eject(args) => eject::run(args, output)?,
        Command::Images(args) => images::run(args, output)?,
        Command::Inventory(args) => inventory::run(args, output)?,
        Command::Diff(args) => diff::run(args, output)?,
        Command::Serve(args) => serve::run(args, output)?,
        Command::Push(args) => push::run(args, output)?,
        Command::Hosts(args) => hosts::run(args, output)?,
        Command::Digests(args) => digests::run(args, output)?,
        Command::Limits(args) => limits::run(args, output)?,
        Command::Watch(args) => watch::run(args, output)?,
        Command::InstallUnits(args) => install_units::run(args, output)?,
        Command::Version(args) => version::run(args, output)?,
        Command::Completions(args) => completions::run(args, Cli::command(), output)?,
        Command::Man(args) => completions::man(args, Cli::command())?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound_and_every_command_shows_an_example() {
        Cli::command().debug_assert();
        for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let help = command.clone().render_long_help().to_string();
            assert!(help.contains("Example"), "{} has no example", command.get_name());
        }
    }
}
