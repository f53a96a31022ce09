//! Certificates: an authority's word for whose a key is (openssh-portable, PROTOCOL.certkeys).

use ssh_key::HashAlg;
use ssh_key::certificate::{CertType, Certificate};
use time::OffsetDateTime;

use super::signature::require_length;
use crate::record::Timestamp;

/// Whether a certificate is in order at `now`, as ssh-keygen checks it: the authority's signature, that
/// it is a user's, that it is valid now, that it names somebody. The authority is the one that it names:
/// whether that one counts is the caller's to know.
///
/// A certificate with critical options is refused: they say how its key may log in, and whoever
/// restricted it that far did not mean it to sign. The error completes "the key ...".
pub(super) fn check(certificate: &Certificate, now: OffsetDateTime) -> Result<(), String> {
    let authority = certificate.signature_key();
    require_length(authority)?;
    // Before 1970 nothing is valid.
    let seconds = u64::try_from(now.unix_timestamp()).unwrap_or(0);
    if certificate.cert_type() != CertType::User {
        return Err("has a certificate that is not a user's".into());
    }
    if seconds < certificate.valid_after() {
        return Err(format!(
            "has a certificate that is not valid yet: the clock says {}",
            Timestamp::from(now)
        ));
    }
    if seconds >= certificate.valid_before() {
        return Err(format!(
            "has a certificate that is no longer valid: the clock says {}",
            Timestamp::from(now)
        ));
    }
    if certificate.critical_options().iter().next().is_some() {
        return Err("has a certificate with critical options".into());
    }
    if certificate.valid_principals().is_empty() {
        return Err("has a certificate for nobody in particular".into());
    }
    let fingerprint = authority.fingerprint(HashAlg::Sha256);
    certificate
        .validate_at(seconds, [&fingerprint])
        .map_err(|_| "has a certificate that its authority did not sign".into())
}
