//! How sure a verification is: where the bytes that were hashed came from.

use serde::{Deserialize, Serialize};

/// What is proven of a medium's bytes, from little to much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Level {
    /// They were written, and the system says that they are on the device.
    #[serde(rename = "V0")]
    Written,
    /// They were read back, perhaps from the system's memory.
    #[serde(rename = "V0+")]
    Read,
    /// They were read back from the device, after everything was written.
    #[serde(rename = "V1")]
    Device,
    /// The same, with 1 GiB of other bytes between the writing and the reading of each.
    #[serde(rename = "V2")]
    Drive,
    /// They were read back from the device after it was plugged in again.
    #[serde(rename = "V3")]
    Replugged,
}

impl Level {
    /// All of them, with their names.
    const NAMES: [(Self, &'static str); 5] = [
        (Self::Written, "V0"),
        (Self::Read, "V0+"),
        (Self::Device, "V1"),
        (Self::Drive, "V2"),
        (Self::Replugged, "V3"),
    ];
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = Self::NAMES.iter().find(|(level, _)| level == self);
        f.write_str(name.map_or("", |(_, name)| name))
    }
}

impl std::str::FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::NAMES.iter().find(|(_, name)| name.eq_ignore_ascii_case(text));
        found.map(|(level, _)| *level).ok_or_else(|| "say V0, V0+, V1, V2 or V3".into())
    }
}
