//! Who wrote a medium: signatures over its commit record, and the people whose signatures count.
//!
//! The record names the digest of everything else, so a signature over its bytes covers the medium.
//! Whose keys count is said by the machine that reads, never by the medium.

mod admit;
mod allowed_signers;
mod build_on;
mod certificate;
mod memory;
mod policy;
mod refusal;
mod signature;
mod signing;

pub use admit::{Admission, Admitted, Allowances, Notice};
pub use allowed_signers::{AllowedSigners, Signer};
pub use build_on::{Builder, Distrust, Foundation};
pub use memory::{LastTaken, Memory, Position, remember};
pub use policy::{Policy, SignatureVerdict};
pub use refusal::Refusal;
pub use signature::{INVENTORY_NAMESPACE, NAMESPACE};
pub(crate) use signature::{is_intact, key_of};
pub use signing::SigningKey;
