//! Whom a commit is for, and until when: what it says about itself beside its images.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The largest `issued` that is read, in seconds since 1970: the year 2286.
const MAX_ISSUED: u64 = 9_999_999_999;

/// The lane that a medium travels in: a name that the nodes it is for share, and when the commit was
/// issued, which puts all media of a lane into an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lane {
    /// The name.
    pub name: LaneName,
    /// Seconds since 1970; on one medium at least one more than in the commit before.
    #[serde(deserialize_with = "issued")]
    pub issued: u64,
}

impl Lane {
    /// Marks a commit as issued at `now`, in seconds since 1970, or right after the one before.
    pub(crate) fn issue(&mut self, now: u64) {
        self.issued = now.max(self.issued.saturating_add(1)).min(MAX_ISSUED);
    }
}

fn issued<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match u64::deserialize(deserializer)? {
        seconds if seconds <= MAX_ISSUED => Ok(seconds),
        _ => Err(serde::de::Error::custom("a lane's time of issue is out of bounds")),
    }
}

/// The name of a lane: 1 to 64 of `a-z`, `0-9`, `.`, `_` and `-`, a letter or digit first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LaneName(String);

impl FromStr for LaneName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let fits = text.len() <= 64
            && text.bytes().next().is_some_and(plain)
            && text.bytes().all(|b| plain(b) || b"._-".contains(&b));
        if fits && text != "none" {
            Ok(Self(text.to_owned()))
        } else {
            Err("a lane's name is up to 64 of a-z, 0-9, '.', '_' and '-', such as plant-a, and not none"
                .into())
        }
    }
}

impl TryFrom<String> for LaneName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<LaneName> for String {
    fn from(name: LaneName) -> Self {
        name.0
    }
}

impl fmt::Display for LaneName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A moment, to the second, in UTC; written as RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp(OffsetDateTime);

impl Timestamp {
    /// As a time.
    pub fn time(self) -> OffsetDateTime {
        self.0
    }
}

impl From<OffsetDateTime> for Timestamp {
    fn from(time: OffsetDateTime) -> Self {
        let time = time.to_offset(time::UtcOffset::UTC);
        Self(time.replace_nanosecond(0).unwrap_or(time))
    }
}

impl FromStr for Timestamp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = OffsetDateTime::parse(text, &Rfc3339);
        time.map(Self::from).map_err(|_| "not a time as in 2027-01-31T00:00:00Z".into())
    }
}

impl TryFrom<String> for Timestamp {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Timestamp> for String {
    fn from(moment: Timestamp) -> Self {
        moment.to_string()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.format(&Rfc3339).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_have_plain_names() {
        for good in ["plant-a", "0", "a.b_c", &"x".repeat(64)] {
            assert!(good.parse::<LaneName>().is_ok(), "{good}");
        }
        for bad in ["", "Plant", "-a", "../a", "a/b", "a b", "none", &"x".repeat(65), "ä"] {
            assert!(bad.parse::<LaneName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn times_are_bounded() {
        let lane =
            |issued: &str| serde_json::from_str::<Lane>(&format!(r#"{{"name":"a","issued":{issued}}}"#));
        assert!(lane("1795558290").is_ok());
        for bad in ["10000000000", "9223372036854775807", "-1", "1.5", "1e400"] {
            assert!(lane(bad).is_err(), "{bad}");
        }
        for bad in ["", "99999-01-01T00:00:00Z", "2027-13-01T00:00:00Z", "tomorrow", "2027-01-31"] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
        let moment: Timestamp = "2027-01-31T01:00:00.5+01:00".parse().unwrap();
        assert_eq!(moment.to_string(), "2027-01-31T00:00:00Z");
    }
}
