//! Interruptions: the first asks the work to stop, and sees to it that it does; a second ends the
//! process at once.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use super::exit::{self, INTERRUPTED};
use super::output::Output;
use crate::error::{Error, Result, Side};
use crate::progress::Stop;

/// How long the work may take to come to a safe point. What does not get there, such as a read from a
/// server that has gone silent, is ended where it is: that is no worse than a kill, which every
/// command is made for.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the last words may take, when nobody takes them.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// Where the last words go.
static OUTPUT: OnceLock<Output> = OnceLock::new();

/// Says where an interruption is told of.
pub(super) fn tell(output: &Output) {
    let _ = OUTPUT.set(output.clone());
}

/// A request to stop that SIGINT, SIGTERM and SIGHUP set.
pub(super) fn stop() -> Result<Stop> {
    stop_within(PATIENCE)
}

/// The same for work that has more to tidy up.
pub(super) fn stop_within(patience: Duration) -> Result<Stop> {
    let stop = Stop::default();
    let failed = |source| Error::from_io(Side::Here, "handle", "signals".into(), source);
    let mut heeded = vec![SIGINT, SIGTERM];
    if !hangup_is_ignored() {
        heeded.push(SIGHUP);
    }
    let came: Vec<Arc<AtomicBool>> = heeded.iter().map(|_| Arc::default()).collect();
    for (signal, own) in heeded.iter().zip(&came) {
        let end = |seen: &Arc<AtomicBool>| {
            flag::register_conditional_shutdown(*signal, i32::from(INTERRUPTED), Arc::clone(seen))
        };
        // They run in this order. The same signal again finds its flag set; of two others that two
        // threads take at the same moment, the later one to set its flag sees that of the other.
        end(own).and_then(|_| flag::register(*signal, Arc::clone(own))).map_err(failed)?;
        for other in came.iter().filter(|other| !Arc::ptr_eq(other, own)) {
            end(other).map_err(failed)?;
        }
        flag::register(*signal, stop.flag()).map_err(failed)?;
    }
    let mut signals = Signals::new(&heeded).map_err(failed)?;
    let waiting = std::thread::Builder::new().name("signals".into()).spawn(move || {
        if signals.forever().next().is_some() {
            std::thread::sleep(patience);
            std::thread::spawn(|| {
                OUTPUT.get().map(|output| exit::failed(&Error::Interrupted.into(), output))
            });
            std::thread::sleep(LAST_WORDS);
            std::process::exit(i32::from(INTERRUPTED));
        }
    });
    waiting.map_err(failed)?;
    Ok(stop)
}

/// Whether the process was started to outlive its terminal, as by `nohup`.
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (SIGHUP - 1)) != 0
}
