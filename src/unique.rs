//! Names that nobody else has made up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::rand::{GetRandomFlags, getrandom};

use crate::image::Digest;

/// 32 hex digits that no other call gives, here or elsewhere. A name, not a secret.
///
/// From the kernel's own call: a statically linked program finds no other way to it where there is no
/// `/dev`. Where the kernel has none, process, time and a counter have to do.
pub(crate) fn id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut seed = [0; 40];
    // Nonblocking: early in the boot the rest is unique enough.
    let _ = getrandom(&mut seed[..16], GetRandomFlags::NONBLOCK);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    seed[16..24].copy_from_slice(&since.to_ne_bytes());
    seed[24..32].copy_from_slice(&COUNT.fetch_add(1, Ordering::Relaxed).to_ne_bytes());
    seed[32..36].copy_from_slice(&std::process::id().to_ne_bytes());
    let mut id = Digest::of(&seed).hex();
    id.truncate(32);
    id
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_are_the_same() {
        let ids: BTreeSet<String> = (0..1000).map(|_| id()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())));
    }
}
