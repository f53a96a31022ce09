//! Signatures as OpenSSH makes them: SSHSIG (openssh-portable, PROTOCOL.sshsig).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ssh_key::encoding::Decode as _;
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, PublicKey, SshSig};

/// What a signature says it is for. One made for mail or for git counts for nothing here.
pub const NAMESPACE: &str = "pannier-commit-v1";
/// The same for inventories: a signature of one says nothing of a medium.
pub const INVENTORY_NAMESPACE: &str = "pannier-inventory-v1";
/// Set in a hardware key's signature if somebody touched it.
const USER_PRESENT: u8 = 1;
/// In the name of every type of certificate.
const CERTIFICATE: &[u8] = b"-cert-v01";
const BEGIN: &[u8] = b"-----BEGIN SSH SIGNATURE-----";
const END: &[u8] = b"-----END SSH SIGNATURE-----";
const NO_SIGNATURE: &str = "not a signature in OpenSSH's form";
/// Shortest RSA key that counts, in bits.
const MIN_RSA: u32 = 2048;

/// Reads an armoured signature. The error holds none of its bytes.
pub(super) fn parse(armoured: &[u8]) -> Result<SshSig, String> {
    let bytes = unarmour(armoured).ok_or(NO_SIGNATURE)?;
    // The decoder follows a certificate into its authority's key, which could be another certificate, as
    // deep as there are bytes. ssh-keygen makes none of these.
    if bytes.windows(CERTIFICATE.len()).filter(|name| *name == CERTIFICATE).count() > 1 {
        return Err("is made with a certificate of a certificate".into());
    }
    // The library's words hold text of the signature's, such as the name that it gives its key's type.
    let mut rest = bytes.as_slice();
    let signature = SshSig::decode(&mut rest).map_err(|_| NO_SIGNATURE.to_owned())?;
    if !rest.is_empty() {
        return Err(NO_SIGNATURE.into());
    }
    if signature.version() != SshSig::VERSION {
        return Err("is in another version of the format".into());
    }
    if signature.algorithm() == (Algorithm::Rsa { hash: None }) {
        return Err("is made with SHA-1".into());
    }
    require_length(signature.public_key())?;
    if matches!(signature.algorithm(), Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256) {
        // A flag byte and a counter of four end it (PROTOCOL.u2f).
        let flags = signature.signature_bytes().iter().rev().nth(4);
        if flags.is_none_or(|flags| flags & USER_PRESENT == 0) {
            return Err("is made with a hardware key that nobody touched".into());
        }
    }
    Ok(signature)
}

/// The bytes in an armour.
fn unarmour(armoured: &[u8]) -> Option<Vec<u8>> {
    let body = armoured.trim_ascii().strip_prefix(BEGIN)?.strip_suffix(END)?;
    let body: Vec<u8> = body.iter().filter(|byte| !byte.is_ascii_whitespace()).copied().collect();
    STANDARD.decode(body).ok()
}

/// Whether a signature is over these bytes, and for what `namespace` says.
pub(super) fn verify(namespace: &str, signature: &SshSig, bytes: &[u8]) -> Result<(), String> {
    let key = PublicKey::from(subject(signature.public_key()).clone());
    // A certificate says whose the key is; what is verified is the key's signature.
    let hash = signature.hash_alg();
    SshSig::new(key.key_data().clone(), signature.namespace(), hash, signature.signature().clone())
        .and_then(|bare| key.verify(namespace, bytes, &bare))
        .map_err(|_| format!("is over other bytes, or was not made for {namespace}"))
}

/// Whether a signature is one that some key made of these bytes, for media; whose key it is does not matter.
///
/// The error says what it is instead, and holds none of its bytes.
pub(crate) fn is_intact(armoured: &[u8], bytes: &[u8]) -> Result<(), String> {
    verify(NAMESPACE, &parse(armoured)?, bytes)
}

/// The fingerprint of the key that made a signature of these bytes, whoever has it; `None` if it is none.
pub(crate) fn key_of(armoured: &[u8], bytes: &[u8]) -> Option<String> {
    let signature = parse(armoured).ok()?;
    verify(NAMESPACE, &signature, bytes).ok()?;
    Some(subject(signature.public_key()).fingerprint(ssh_key::HashAlg::Sha256).to_string())
}

/// The key itself, of a key or a certificate.
pub(super) fn subject(key: &KeyData) -> &KeyData {
    key.certificate().map_or(key, |certificate| certificate.public_key())
}

/// An error for an RSA key that is too short to mean anything.
pub(super) fn require_length(key: &KeyData) -> Result<(), String> {
    match subject(key).rsa() {
        Some(rsa) if rsa.key_size() < MIN_RSA => {
            Err(format!("is made with an RSA key of less than {MIN_RSA} bits"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(bytes: &[u8]) -> Vec<u8> {
        [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
    }

    /// A certificate whose authority is a certificate, and so on.
    fn nested(depth: usize) -> Vec<u8> {
        let mut key = string(b"ssh-ed25519");
        key.extend(string(&[7; 32]));
        let mut rest = string(&key);
        for _ in 0..depth {
            let mut certificate = string(b"ssh-ed25519-cert-v01@openssh.com");
            certificate.extend(string(b""));
            certificate.extend(string(&[7; 32]));
            certificate.extend([0; 8]);
            certificate.extend([0, 0, 0, 1]);
            certificate.extend([0; 8]);
            certificate.extend([0; 16]);
            certificate.extend([0; 12]);
            certificate.extend(&rest);
            certificate.extend(string(b""));
            rest = string(&certificate);
        }
        rest[4..].to_vec()
    }

    fn armoured(key: &[u8]) -> String {
        let mut signature = b"SSHSIG".to_vec();
        signature.extend(1u32.to_be_bytes());
        signature.extend(string(key));
        let body = STANDARD.encode(&signature);
        format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", body)
    }

    #[test]
    fn certificates_of_certificates_are_refused_without_being_followed() {
        for depth in [2, 350] {
            let text = armoured(&nested(depth));
            assert!(text.len() <= 64 << 10, "{}", text.len());
            assert_eq!(parse(text.as_bytes()), Err("is made with a certificate of a certificate".into()));
        }
    }

    #[test]
    fn what_is_no_signature_says_so() {
        for bad in ["", "-----BEGIN SSH SIGNATURE-----", "x", &armoured(b"")] {
            assert!(parse(bad.as_bytes()).unwrap_err().starts_with("not a signature"), "{bad}");
        }
    }
}
