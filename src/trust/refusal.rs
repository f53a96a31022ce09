//! Why a medium is not taken.

use std::fmt;

use crate::record::{LaneName, Timestamp};

/// Why a medium is not taken whose signatures count, or need not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is for another lane than this machine's. `None`: for all of them, or in none.
    Lane {
        /// The medium's.
        medium: Option<LaneName>,
        /// The machine's.
        machine: Option<LaneName>,
    },
    /// Its time is over.
    Expired {
        /// When it was.
        expires: Timestamp,
        /// What time it is.
        now: Timestamp,
        /// Whether that is when the newest medium that was taken was written, since the clock is behind that.
        taken: bool,
    },
    /// Too few of those who signed it may bring this image or file.
    Brings {
        /// The image's or file's name.
        what: String,
        /// How many of the signers may.
        may: usize,
        /// How many have to.
        threshold: usize,
    },
    /// A newer one was taken before.
    Older {
        /// The lane or medium.
        line: String,
        /// When the newer one was written, if that is known.
        newest: Option<Timestamp>,
        /// When this one was written, if that is known.
        this: Option<Timestamp>,
    },
    /// Another one was taken that has the same place in the order.
    Forked(String),
    /// It leaps so far ahead of the last that nothing could follow.
    Leaps(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lane { medium: Some(medium), machine: Some(machine) } => {
                write!(f, "it is for the lane {medium}, this machine is in {machine}")
            }
            Self::Lane { medium: Some(medium), machine: None } => {
                write!(f, "it is for the lane {medium}, this machine is in none")
            }
            Self::Lane { medium: None, machine: Some(machine) } => {
                write!(f, "it is for no lane, this machine is in {machine}")
            }
            Self::Lane { .. } => f.write_str("its lane is wrong"),
            Self::Expired { expires, now, taken: false } => {
                write!(f, "it expired at {expires}, and the clock says {now}")
            }
            Self::Expired { expires, now, taken: true } => {
                write!(f, "it expired at {expires}, and a medium of {now} was taken before")
            }
            Self::Brings { what, may, threshold: 1 } if *may == 0 => {
                write!(f, "nobody who signed it may bring {}", what.escape_debug())
            }
            Self::Brings { what, may, threshold } => {
                write!(
                    f,
                    "{may} of those who signed it may bring {}, {threshold} have to",
                    what.escape_debug()
                )
            }
            Self::Older { line, newest, this } => {
                write!(f, "a newer commit of {line} was taken before")?;
                newest.map_or(Ok(()), |newest| write!(f, ", of {newest}"))?;
                this.map_or(Ok(()), |this| write!(f, "; this one is of {this}"))
            }
            Self::Forked(line) => {
                write!(f, "another commit of {line} was taken before that is as new as this one")
            }
            Self::Leaps(line) => {
                write!(f, "it leaps so far ahead of the last commit of {line} that none could follow")
            }
        }
    }
}
