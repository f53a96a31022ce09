//! A containerd that goes away in the middle of the work, as in an upgrade, and comes back.

use std::time::{Duration, Instant};

use super::Node;
use crate::containerd::Silent;
use crate::error::{Error, Result};
use crate::progress::{Event, Run};

/// How often a step is begun again.
const ATTEMPTS: usize = 3;
/// The pause between two questions whether it is back.
const PAUSE: Duration = Duration::from_millis(200);

/// Does a step of the work, and does it again when containerd went away meanwhile and came back.
///
/// The step must find out by itself what is there: what it asked for last may have been done. A
/// containerd that runs and does not answer is not waited for a second time.
pub(super) fn across_outages<T>(node: &Node, run: Run<'_>, mut step: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 1..ATTEMPTS {
        match step() {
            Err(gone) if is_gone(&gone) => {
                if !comes_back(node, run)? {
                    return Err(gone);
                }
            }
            other => return other,
        }
    }
    step()
}

fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Unreachable { source, .. } if !source.is::<Silent>())
}

/// Waits until containerd answers again, and CRI with it, for as long as it may be silent.
fn comes_back(node: &Node, run: Run<'_>) -> Result<bool> {
    let begun = Instant::now();
    let ready = || {
        node.client.version()?;
        Ok::<_, Error>(!node.cri || node.client.cri_runtime()?.is_some())
    };
    while begun.elapsed() < node.client.patience() {
        run.check()?;
        match ready() {
            Ok(true) => {
                let text = format!("{} was away and is back; going on", node.client.address().display());
                run.report(Event::Warning(&text));
                return Ok(true);
            }
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) if matches!(&error, Error::Unreachable { source, .. } if source.is::<Silent>()) => {
                return Ok(false);
            }
            _ => std::thread::sleep(PAUSE),
        }
    }
    Ok(false)
}
