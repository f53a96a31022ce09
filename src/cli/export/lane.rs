//! `--lane` and `--expires`.

use std::str::FromStr;

use time::{Duration, OffsetDateTime};

use crate::record::{LaneName, Timestamp};

/// A lane, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LaneSetting(pub(super) Option<LaneName>);

impl FromStr for LaneSetting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" { Ok(Self(None)) } else { text.parse().map(|name| Self(Some(name))) }
    }
}

/// A time from now on, a date, a moment, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expires(pub(super) Option<Timestamp>);

impl FromStr for Expires {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        let moment = moment(text).ok_or_else(wrong)?;
        if moment <= OffsetDateTime::now_utc().into() {
            return Err(
                "that time is over: no node would take the medium. Is this machine's clock right?".into()
            );
        }
        Ok(Self(Some(moment)))
    }
}

/// A time so many days or weeks from now, a date, or a moment.
fn moment(text: &str) -> Option<Timestamp> {
    let days = text.strip_suffix('d').map(|number| (number, 1));
    let Some((number, days)) = days.or_else(|| text.strip_suffix('w').map(|number| (number, 7))) else {
        return text.parse().or_else(|_| format!("{text}T00:00:00Z").parse()).ok();
    };
    let after = Duration::days(i64::from(number.parse::<u16>().ok()?) * days);
    OffsetDateTime::now_utc().checked_add(after).map(Timestamp::from)
}

fn wrong() -> String {
    "say a time from now, such as 90d or 12w, a date such as 2027-01-31, or none".into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_expiry() {
        let read = |text: &str| text.parse::<Expires>().map(|expires| expires.0.map(|m| m.to_string()));
        assert_eq!(read("none"), Ok(None));
        assert_eq!(read("2027-01-31"), Ok(Some("2027-01-31T00:00:00Z".into())));
        assert_eq!(read("2027-01-31T12:00:00+02:00"), Ok(Some("2027-01-31T10:00:00Z".into())));
        let of = |text: &str| text.parse::<Expires>().unwrap().0.unwrap();
        assert_eq!(of("1w"), of("7d"));
        for bad in ["", "d", "-1d", "0d", "99999999d", "2027", "2027-02-30", "soon", "2020-01-01"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
