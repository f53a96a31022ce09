//! Telling a call that takes long from a containerd that does nothing any more.
//!
//! HTTP/2 pings would not do: containerd's server takes more than two without data in between for an
//! attack and closes the connection (grpc-go, `keepalive.EnforcementPolicy`). A small call is answered
//! as long as the process runs, and counts as data.

use std::future::Future;
use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;
use tonic::Status;

use crate::error::Error;
use crate::progress::Stop;

/// How often the clock and the request to stop are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How long a call that is under way may go on after someone asked to stop.
const GRACE: Duration = Duration::from_millis(500);

/// How long a call that should be short may take, in times of the patience with silence: others may
/// hold the database as long as they hash what is left of a large blob.
const SHORT: u32 = 10;

/// containerd has a call to answer, and does not.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(crate) enum Silent {
    /// It answers nothing at all.
    #[error("it has given no sign of life for {} s", .0.as_secs())]
    Dead(Duration),
    /// It answers others.
    #[error("it lives, but has not answered this call for {} s", .0.as_secs())]
    Stuck(Duration),
}

/// How long a call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    /// It looks something up or notes it.
    Short,
    /// It works on content: nothing but silence ends it.
    Long,
}

/// Whether a call was given up since someone asked to stop.
pub(super) fn is_stop(cause: &(dyn std::error::Error + 'static)) -> bool {
    matches!(cause.downcast_ref::<Error>(), Some(Error::Interrupted))
}

/// Runs `call` to its end, unless `ask` is not answered for as long as `patience`, a short call takes
/// many times that, or someone asks to stop; [`Silent`] and [`Error::Interrupted`] are the sources of the status then.
pub(super) async fn watched<T, A: Future<Output = Result<(), Status>>>(
    call: impl Future<Output = Result<T, Status>>,
    ask: impl Fn() -> A,
    (patience, length): (Duration, Length),
    stop: &Stop,
) -> Result<T, Status> {
    let mut call = pin!(call);
    let begun = Instant::now();
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    let mut asked: Option<Pin<Box<A>>> = None;
    let mut stopped: Option<Instant> = None;
    loop {
        tokio::select! {
            biased;
            answer = &mut call => return answer,
            answer = answer_to(&mut asked) => {
                asked = None;
                // What failed on this side is no sign of life; the call itself will tell.
                if answer.is_ok() {
                    heard = Instant::now();
                }
            }
            _ = looks.tick() => {
                if stop.requested() && stopped.get_or_insert_with(Instant::now).elapsed() >= GRACE {
                    return Err(Status::from_error(Box::new(Error::Interrupted)));
                }
                let silence = heard.elapsed();
                if silence >= patience {
                    return Err(Status::from_error(Box::new(Silent::Dead(patience))));
                }
                if length == Length::Short && begun.elapsed() >= SHORT * patience {
                    return Err(Status::from_error(Box::new(Silent::Stuck(SHORT * patience))));
                }
                if asked.is_none() && silence >= patience / 3 {
                    asked = Some(Box::pin(ask()));
                }
            }
        }
    }
}

async fn answer_to<A: Future>(asked: &mut Option<Pin<Box<A>>>) -> A::Output {
    match asked {
        Some(call) => call.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;
    use std::sync::atomic::Ordering;

    use super::*;

    const PATIENCE: (Duration, Length) = (Duration::from_secs(30), Length::Short);

    fn run<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.unwrap().block_on(test)
    }

    #[test]
    fn a_call_that_is_answered_is_not_disturbed() {
        let call = async { Ok::<_, Status>(7) };
        let answer = run(watched(call, || async { panic!("asked") }, PATIENCE, &Stop::default()));
        assert_eq!(answer.unwrap(), 7);
    }

    #[test]
    fn signs_of_life_keep_a_long_call_going_and_silence_ends_it() {
        let patience = Duration::from_millis(300);
        let long = (patience, Length::Long);
        let slow = async {
            tokio::time::sleep(4 * patience).await;
            Ok::<_, Status>(7)
        };
        assert_eq!(run(watched(slow, || async { Ok(()) }, long, &Stop::default())).unwrap(), 7);
        let silent = std::future::pending::<Result<(), Status>>();
        let ended = run(watched(silent, std::future::pending, long, &Stop::default()));
        assert!(ended.unwrap_err().source().unwrap().is::<Silent>());
        let stuck = std::future::pending::<Result<(), Status>>();
        let short = (patience, Length::Short);
        let ended = run(watched(stuck, || async { Ok(()) }, short, &Stop::default())).unwrap_err();
        assert!(matches!(ended.source().unwrap().downcast_ref(), Some(Silent::Stuck(_))));
    }

    #[test]
    fn a_request_to_stop_ends_a_call_that_does_not_end_by_itself() {
        let stop = Stop::default();
        stop.flag().store(true, Ordering::Relaxed);
        let call = std::future::pending::<Result<(), Status>>();
        let ended = run(watched(call, || async { Ok(()) }, PATIENCE, &stop));
        assert!(is_stop(ended.unwrap_err().source().unwrap()));
    }
}
