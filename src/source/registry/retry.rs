//! When to ask again, and how long to wait before that.

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use reqwest::header::{HeaderMap, RETRY_AFTER};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use crate::error::{Error, Result};
use crate::progress::Stop;

/// The first wait; each one after it is twice as long, up to [`LONGEST_BACKOFF`].
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
/// Shorter waits are not worth a person's attention.
const WORTH_TELLING: Duration = Duration::from_secs(2);
/// A registry that asks for more than this is not waited for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(600);

/// Whether the same request may succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// It would fail the same way.
    Never,
    /// After a backoff.
    Soon,
    /// After the time that the server asked for (RFC 9110, section 10.2.3).
    After(Duration),
}

/// A request that failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) again: Again,
}

impl Failure {
    /// A failure that no repetition cures.
    pub(super) fn last(error: Error) -> Self {
        Self { error, again: Again::Never }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::last(error)
    }
}

/// Says a line to a person.
type Say = dyn Fn(&str) + Send + Sync;

/// Whoever is told of every longer wait, if anybody.
#[derive(Clone, Default)]
pub struct Notice(Option<Arc<Say>>);

impl Notice {
    /// Tells `told`, from several threads at a time.
    pub fn to(told: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(told)))
    }
}

impl Notice {
    /// Tells whoever wants to know.
    pub(super) fn tell(&self, text: &str) {
        if let Some(told) = &self.0 {
            told(text);
        }
    }
}

impl fmt::Debug for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notice(..)")
    }
}

/// How often a request is repeated, and who may end the waiting.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub(super) retries: u32,
    pub(super) stop: Stop,
    pub(super) notice: Notice,
}

impl Policy {
    /// Does `request` until it succeeds, cannot succeed, or has failed too often.
    pub(super) fn run<T>(&self, mut request: impl FnMut() -> Result<T, Failure>) -> Result<T> {
        let mut attempts = Attempts::new(self.clone());
        loop {
            match request() {
                Ok(value) => return Ok(value),
                Err(failure) => attempts.wait(failure)?,
            }
        }
    }
}

/// Counts failures that follow one another.
#[derive(Debug)]
pub(super) struct Attempts {
    policy: Policy,
    failed: u32,
}

impl Attempts {
    pub(super) fn new(policy: Policy) -> Self {
        Self { policy, failed: 0 }
    }

    /// Starts counting anew: the last attempt got somewhere.
    pub(super) fn progressed(&mut self) {
        self.failed = 0;
    }

    /// Returns when it is time to try again; gives the error back when it is not to be tried.
    pub(super) fn wait(&mut self, failure: Failure) -> Result<()> {
        self.policy.stop.check()?;
        let pause = match failure.again {
            Again::Never => return Err(failure.error),
            _ if self.failed >= self.policy.retries => return Err(failure.error),
            Again::After(asked) if asked > LONGEST_RETRY_AFTER => return Err(failure.error),
            Again::After(asked) => asked,
            Again::Soon => backoff(self.failed),
        };
        self.failed += 1;
        if let Some(told) = self.policy.notice.0.as_ref().filter(|_| pause >= WORTH_TELLING) {
            let cause = failure.error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            told(&format!("{}{cause}; asking again in {} s", failure.error, pause.as_secs()));
        }
        self.sleep(pause)
    }

    fn sleep(&self, pause: Duration) -> Result<()> {
        let end = Instant::now() + pause;
        loop {
            self.policy.stop.check()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(Duration::from_millis(100)));
        }
    }
}

fn backoff(failed: u32) -> Duration {
    FIRST_BACKOFF.saturating_mul(1 << failed.min(10)).min(LONGEST_BACKOFF)
}

/// What a `Retry-After` header asks for: seconds, or a date.
pub(super) fn retry_after(headers: &HeaderMap, now: OffsetDateTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = OffsetDateTime::parse(text, &Rfc2822).ok()?;
    Some(Duration::try_from(date - now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Side;

    fn failure(again: Again) -> Failure {
        Failure { error: Error::not_found(Side::Source, "x"), again }
    }

    fn policy(retries: u32) -> Policy {
        Policy { retries, stop: Stop::default(), notice: Notice::default() }
    }

    #[test]
    fn only_what_may_pass_is_repeated_and_only_so_often() {
        for (again, retries, expected) in [
            (Again::Never, 3, 1),
            (Again::After(Duration::ZERO), 3, 4),
            (Again::After(Duration::ZERO), 0, 1),
            (Again::After(Duration::from_secs(601)), 3, 1),
        ] {
            let mut asked = 0;
            let result: Result<()> = policy(retries).run(|| {
                asked += 1;
                Err(failure(again))
            });
            assert!(result.is_err());
            assert_eq!(asked, expected, "{again:?} with {retries} retries");
        }
    }

    #[test]
    fn progress_starts_the_count_anew() {
        let mut attempts = Attempts::new(policy(1));
        for _ in 0..10 {
            attempts.wait(failure(Again::After(Duration::ZERO))).unwrap();
            attempts.progressed();
        }
    }

    #[test]
    fn a_request_to_stop_ends_the_waiting() {
        let policy = policy(5);
        policy.stop.flag().store(true, std::sync::atomic::Ordering::Relaxed);
        let result: Result<()> = policy.run(|| Err(failure(Again::After(Duration::from_secs(500)))));
        assert!(matches!(result, Err(Error::Interrupted)));
    }

    #[test]
    fn waits_grow_to_a_limit() {
        assert_eq!(backoff(0), Duration::from_millis(500));
        assert_eq!(backoff(3), Duration::from_secs(4));
        assert_eq!(backoff(60), LONGEST_BACKOFF);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = OffsetDateTime::parse("Wed, 21 Oct 2015 07:28:00 GMT", &Rfc2822).unwrap();
        let asked = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers, now)
        };
        assert_eq!(asked("7"), Some(Duration::from_secs(7)));
        assert_eq!(asked("Wed, 21 Oct 2015 07:28:30 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(asked("Wed, 21 Oct 2015 07:27:30 GMT"), Some(Duration::ZERO));
        assert_eq!(asked("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
