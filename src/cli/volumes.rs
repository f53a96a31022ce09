//! `pannier export` to several media, and `pannier import` from them one after the other.

use std::io::{IsTerminal, Read};
use std::path::Path;

use super::failure::{Ended, Failure};
use super::output::Output;
use super::text;
use crate::export::{Spread, VolumePlan};
use crate::record::Volume;

/// Says which medium gets what.
pub(super) fn announce(spread: &Spread, output: &Output) {
    for plan in &spread.volumes {
        output.say(format_args!(
            "Volume {} of {}: {} to {}.",
            plan.volume.number,
            plan.volume.of,
            text::count(plan.images(), "image"),
            plan.path.display(),
        ));
    }
}

/// Says which medium is next.
pub(super) fn begin(plan: &VolumePlan, output: &Output) {
    output.say(format_args!("Volume {} of {}, {}:", plan.volume.number, plan.volume.of, plan.path.display()));
}

/// Asks for the next medium of a set at `path`; an error that names what is missing where nobody can be asked.
///
/// Returns once somebody pressed Enter.
pub(super) fn ask_for_next(volume: &Volume, missing: Vec<u32>, path: &Path, output: &Output) -> Ended {
    let incomplete = Failure::VolumesMissing { number: volume.number, of: volume.of, missing };
    let mut input = std::io::stdin();
    if !output.talks() || !input.is_terminal() {
        return Err(incomplete);
    }
    output.say(format_args!(
        "{incomplete}. Put the next one in, mount it at {} and press Enter; Ctrl-C ends it here.",
        path.display()
    ));
    let mut byte = [0];
    loop {
        match input.read(&mut byte) {
            Ok(1) if byte[0] == b'\n' => return Ok(()),
            Ok(1) => {}
            _ => return Err(incomplete),
        }
    }
}
