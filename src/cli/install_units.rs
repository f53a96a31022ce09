//! `pannier install-units`.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::output::Output;
use crate::error::{Error, Result, Side};

/// What is written where, beneath the root.
const UNITS: [(&str, &str); 3] = [
    ("etc/systemd/system/pannier-watch.service", include_str!("units/pannier-watch.service")),
    ("etc/systemd/system/pannier-load@.service", include_str!("units/pannier-load@.service")),
    ("etc/udev/rules.d/90-pannier.rules", include_str!("units/90-pannier.rules")),
];

/// What stands in the units for the program's path.
const PROGRAM: &str = "@PROGRAM@";

/// Write the systemd units and the udev rule that import a medium when it is plugged in
///
/// pannier-watch.service imports whatever signed medium is mounted, before kubelet starts and later;
/// pannier-load@.service mounts a stick itself, started by the udev rule for USB filesystems whose label
/// begins with PANNIER. They do nothing without a configuration that requires signatures. Nothing is
/// enabled or started.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pannier install-units
  pannier install-units --root /mnt/image --program /usr/local/bin/pannier")]
pub(super) struct Args {
    /// The root of the system, for an image that is mounted
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Where the program is on that system [default: this one's path]
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// Replace units that were changed
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &Args, output: &Output) -> Result<()> {
    let units = units(args.program.as_deref())?;
    for (name, text) in &units {
        let path = args.root.join(name);
        // Of a link the target would be replaced, which may be anybody's.
        let there = path.symlink_metadata().is_ok();
        if there && !args.force && std::fs::read_to_string(&path).ok().as_ref() != Some(text) {
            let reason = "is there and says something else; --force replaces it, and a drop-in (`systemctl edit`) would have kept it";
            return Err(Error::invalid(Side::Node, path.display(), reason));
        }
    }
    for (name, text) in &units {
        let path = args.root.join(name);
        let directory = path.parent().unwrap_or(&args.root);
        std::fs::create_dir_all(directory).map_err(Error::io(Side::Node, "create", directory))?;
        if path.is_symlink() {
            std::fs::remove_file(&path).map_err(Error::io(Side::Node, "remove", &path))?;
        }
        std::fs::write(&path, text).map_err(Error::io(Side::Node, "write", &path))?;
        output.say(path.display());
    }
    if output.json() {
        let paths: Vec<String> =
            units.iter().map(|(name, _)| args.root.join(name).display().to_string()).collect();
        return output.document(&json!({ "written": paths }));
    }
    output.say(
        "Next: allowed-signers in the section [trust] of /etc/pannier/config.toml, then \
         `systemctl daemon-reload && udevadm control --reload && systemctl enable --now pannier-watch.service`.",
    );
    Ok(())
}

/// The units with the path of the program in them.
fn units(program: Option<&Path>) -> Result<Vec<(&'static str, String)>> {
    let program = match program {
        Some(path) => path.to_owned(),
        None => {
            std::env::current_exe().map_err(Error::io(Side::Node, "find", PathBuf::from("this program")))?
        }
    };
    // systemd gives a meaning to quotes, $, % and backslashes, and splits at spaces.
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._+-".contains(c);
    let text = program.to_str().filter(|text| program.is_absolute() && text.chars().all(plain));
    let text = text.ok_or_else(|| {
        Error::Usage(format!(
            "{} cannot be named in a unit: an absolute path of letters, digits and ._+- is needed; say --program PATH",
            program.display()
        ))
    })?;
    Ok(UNITS.iter().map(|(name, unit)| (*name, unit.replace(PROGRAM, text))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_names_the_program_that_was_asked_for() {
        let units = units(Some(Path::new("/opt/pannier-1.0/pannier"))).unwrap();
        for (name, text) in &units {
            assert!(!text.contains('@') || !text.contains(PROGRAM), "{name}");
            let starts = text.lines().filter(|line| line.starts_with("ExecStart=")).count();
            assert_eq!(starts, usize::from(name.ends_with(".service")), "{name}");
            assert_eq!(text.contains("ExecStart=/opt/pannier-1.0/pannier watch"), starts == 1, "{name}");
        }
        for bad in ["pannier", "/a b", "/a%b", "/$HOME/x", "/a\nExecStart=/bin/sh"] {
            assert!(super::units(Some(Path::new(bad))).is_err(), "{bad:?}");
        }
    }

    /// What udev(7) knows of keys and operators, as far as the rule uses them.
    #[test]
    fn the_rule_is_one_that_udev_reads() {
        let (_, rule) = UNITS[2];
        let lines: Vec<&str> = rule.lines().filter(|line| !line.starts_with('#')).collect();
        let mut labels = Vec::new();
        let mut jumps = Vec::new();
        for line in &lines {
            for term in line.split(", ") {
                let at = term.find(['=', '!', '+']).unwrap_or_else(|| panic!("no operator: {term}"));
                let (key, rest) = term.split_at(at);
                let (operator, value) = rest.split_at(rest.find('"').unwrap());
                assert!(
                    value.len() >= 2 && value.ends_with('"') && value.matches('"').count() == 2,
                    "{term}"
                );
                let value = value.trim_matches('"');
                let matches = ["==", "!="].contains(&operator);
                let known = match key {
                    "ACTION" | "SUBSYSTEM" => matches,
                    "LABEL" => {
                        labels.push(value);
                        operator == "="
                    }
                    "GOTO" => {
                        jumps.push(value);
                        operator == "="
                    }
                    "TAG" => operator == "+=",
                    "ENV{SYSTEMD_WANTS}" => operator == "+=" && value == "pannier-load@%k.service",
                    key => key.starts_with("ENV{ID_") && key.ends_with('}') && matches,
                };
                assert!(known, "{term}");
            }
        }
        assert!(jumps.iter().all(|jump| labels.contains(jump)) && labels.len() == 1, "{jumps:?}");
        // A rule that only matches does nothing.
        assert!(lines.iter().any(|line| line.contains("TAG+=\"systemd\"")));
    }
}
