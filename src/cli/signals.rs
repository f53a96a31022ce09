//! Interruptions: the first asks the work to stop, a second ends the process.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::{Error, Result, Side};
use crate::progress::Stop;

/// The exit status of a process that was interrupted.
pub(super) const INTERRUPTED: u8 = 130;

/// A request to stop that SIGINT, SIGTERM and SIGHUP set.
pub(super) fn stop() -> Result<Stop> {
    let stop = Stop::default();
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // The order matters: at the first signal the flag is not set yet when the first looks at it.
        flag::register_conditional_shutdown(signal, i32::from(INTERRUPTED), stop.flag())
            .and_then(|_| flag::register(signal, stop.flag()))
            .map_err(|source| Error::from_io(Side::Source, "handle", "signals".into(), source))?;
    }
    Ok(stop)
}
