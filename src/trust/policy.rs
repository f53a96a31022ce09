//! What is asked of a medium before any of it is believed. Decides only; reads no file and no clock.

use time::OffsetDateTime;

use super::{AllowedSigners, Signer};

/// What a machine asks of a medium.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The signers that count; `None` where signatures are not looked at.
    pub allowed: Option<AllowedSigners>,
    /// Whether a medium is refused that none of them signed.
    pub required: bool,
    /// The time that counts.
    pub now: OffsetDateTime,
}

/// What the signatures of a record are worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Signatures were not looked at.
    Unchecked,
    /// These signed it, each key once.
    Signed(Vec<Signer>),
    /// Nobody did whose signature counts, and that is allowed: a sentence, free of the medium's bytes.
    Unsigned(String),
}

impl Policy {
    /// Judges the signatures of a record by its bytes; nothing is parsed.
    ///
    /// The error says why the medium is refused; it holds no byte of it.
    pub fn signatures(&self, record: &[u8], signatures: &[Vec<u8>]) -> Result<Standing, String> {
        match &self.allowed {
            None if self.required => Err("nobody's signature counts on this machine".into()),
            None => Ok(Standing::Unchecked),
            Some(allowed) => match allowed.check(record, signatures, self.now) {
                Ok(signers) => Ok(Standing::Signed(signers)),
                Err(reason) if self.required => Err(reason),
                Err(reason) => Ok(Standing::Unsigned(reason)),
            },
        }
    }
}
