//! `pannier trust`.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::super::output::Output;
use super::{LOG, log};
use crate::config::Config;
use crate::error::{Error, Result, Side};
use crate::trust::{Memory, remember};

/// Show what this machine asks of media, and what it remembers of those it took
///
/// After an import whose signature counted, the machine remembers the newest commit of the medium, or
/// of its lane, and refuses older ones. --forget takes one off that list, such as the lane whose
/// exporter's clock was wrong; this is logged.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pannier trust
  pannier trust --forget 'lane plant-a'")]
pub(in crate::cli) struct Args {
    /// Forget this lane or medium, as it is listed
    #[arg(long, value_name = "WHAT")]
    forget: Option<String>,
    /// The configuration [default: /etc/pannier/config.toml, if it is there]
    #[arg(long, value_name = "FILE", env = "PANNIER_CONFIG")]
    config: Option<PathBuf>,
}

pub(in crate::cli) fn run(args: &Args, output: &Output) -> Result<()> {
    let config = Config::read(args.config.as_deref())?;
    match &args.forget {
        Some(what) => forget(&config, what, output),
        None => show(&config, output),
    }
}

fn forget(config: &Config, what: &str, output: &Output) -> Result<()> {
    let known = Memory::read(&config.state_directory)?.0.contains_key(what);
    if !known || !remember(&config.state_directory, |memory| memory.0.remove(what).is_some())? {
        return Err(Error::not_found(
            Side::Node,
            format!("{what} among what was taken; `pannier trust` lists it"),
        ));
    }
    log(Path::new(LOG), &format!("what was taken of {what} is forgotten"));
    output.say(format_args!(
        "What was taken of {what} is forgotten: the next medium of it is taken as the first."
    ));
    Ok(())
}

fn show(config: &Config, output: &Output) -> Result<()> {
    let trust = &config.trust;
    let memory = Memory::read(&config.state_directory)?;
    if output.json() {
        return output.document(&json!({
            "required": trust.is_required(),
            "allowedSigners": trust.allowed_signers,
            "threshold": trust.threshold,
            "lane": trust.lane,
            "stateDirectory": config.state_directory,
            "seen": memory.0,
        }));
    }
    let mut lines = String::new();
    lines.push_str(&match (&trust.allowed_signers, trust.is_required()) {
        (Some(file), true) => format!("signatures  required: {} of {}\n", trust.threshold, file.display()),
        (Some(file), false) => format!("signatures  checked, not required: {}\n", file.display()),
        (None, _) => "signatures  not looked at\n".into(),
    });
    let lane = trust.lane.as_ref().map_or("none".into(), ToString::to_string);
    lines.push_str(&format!("lane        {lane}\n"));
    for rule in &trust.policy {
        let what = [rule.images.join(" "), rule.files.join(" ")].join(" ");
        lines.push_str(&format!("policy      {}: {}\n", rule.signers.join(" "), what.trim()));
    }
    for (line, seen) in &memory.0 {
        let created = seen.created.map_or(String::new(), |created| format!(", of {created}"));
        lines.push_str(&format!("taken       {line}: {}{created}\n", seen.order));
    }
    output.data(&lines)
}
