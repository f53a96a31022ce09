//! When and where a medium was plugged in.

use serde::{Deserialize, Serialize};

use crate::image::Digest;

/// By which plugging-in, in which run of which machine, a disk is known. Nothing in it tells of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plugged {
    /// A digest of the machine's boot id.
    pub boot: Digest,
    /// The number that the kernel gave the disk when it appeared (`diskseq`), where it tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<u64>,
    /// A digest of what tells the device, and the place on it, from others; where the system knows something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Digest>,
}

impl Plugged {
    /// Whether the same disk was plugged in anew between `self` and `now`: another machine or boot, or the same
    /// and another number. Of a copy on another disk nothing is known.
    pub fn is_before(&self, now: &Self) -> bool {
        let same = self.device.is_some() && self.device == now.device;
        same && (self.boot != now.boot
            || matches!((self.disk, now.disk), (Some(then), Some(now)) if then != now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugged_in_anew_is_another_boot_or_another_number() {
        let on = |boot: &str, disk, device: Option<&str>| Plugged {
            boot: Digest::of(boot.as_bytes()),
            disk,
            device: device.map(|device| Digest::of(device.as_bytes())),
        };
        let at = |boot: &str, disk| on(boot, disk, Some("stick"));
        assert!(at("a", Some(1)).is_before(&at("b", Some(1))));
        assert!(at("a", Some(1)).is_before(&at("a", Some(2))));
        assert!(!at("a", Some(1)).is_before(&at("a", Some(1))));
        // A copy on another stick was not written when it says.
        assert!(!at("a", Some(1)).is_before(&on("b", Some(2), Some("another"))));
        assert!(!on("a", Some(1), None).is_before(&on("b", Some(2), None)));
        // A kernel that does not tell proves nothing.
        assert!(!at("a", None).is_before(&at("a", Some(2))));
    }
}
