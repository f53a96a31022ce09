//! Signatures as OpenSSH makes them: SSHSIG (openssh-portable, PROTOCOL.sshsig).

use std::path::Path;

use ssh_key::{HashAlg, LineEnding, PrivateKey, SshSig};

use crate::error::{Error, Result, Side};

/// What a signature says it is for. One made for mail or for git counts for nothing here.
pub const NAMESPACE: &str = "pannier-commit-v1";
/// Largest key file that is read, in bytes.
const MAX_KEY: u64 = 64 << 10;

/// A private SSH key that signs.
#[derive(Debug)]
pub struct SigningKey(PrivateKey);

impl SigningKey {
    /// Reads an OpenSSH private key without a passphrase: ed25519, ecdsa with P-256, or rsa.
    ///
    /// A key with a passphrase, in an agent or in hardware is a usage error that says what to do.
    pub fn read(path: &Path) -> Result<Self> {
        let name = path.display();
        let long = |length: u64| Error::Usage(format!("{name}: {length} bytes are too long for a key"));
        let length = std::fs::metadata(path).map_err(Error::io(Side::Source, "examine", path))?.len();
        if length > MAX_KEY {
            return Err(long(length));
        }
        let bytes = std::fs::read(path).map_err(Error::io(Side::Source, "read", path))?;
        let otherwise = format!(
            "sign the newest record in .pannier/commits yourself with `ssh-keygen -Y sign -n {NAMESPACE} -f KEY RECORD`"
        );
        let key = PrivateKey::from_openssh(&bytes).map_err(|error| {
            Error::Usage(format!("{name} is no private key that can sign here ({error}); {otherwise}"))
        })?;
        if key.is_encrypted() {
            return Err(Error::Usage(format!("{name} has a passphrase; {otherwise}")));
        }
        Ok(Self(key))
    }

    /// The key's fingerprint, as ssh-keygen shows it.
    pub fn fingerprint(&self) -> String {
        self.0.public_key().fingerprint(HashAlg::Sha256).to_string()
    }

    /// An armoured signature over `bytes`.
    pub fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        let signed = self.0.sign(NAMESPACE, HashAlg::Sha512, bytes);
        let text = signed.and_then(|signature| signature.to_pem(LineEnding::LF));
        text.map(String::into_bytes)
            .map_err(|error| Error::Usage(format!("this key cannot sign here: {error}")))
    }
}

/// Reads an armoured signature. The error holds none of its bytes.
pub(super) fn parse(armoured: &[u8]) -> Result<SshSig, String> {
    // The library's words hold text of the signature's, such as the name that it gives its key's type.
    let signature = SshSig::from_pem(armoured).map_err(|_| "not a signature in OpenSSH's form".to_owned())?;
    if signature.version() != SshSig::VERSION {
        return Err("is in another version of the format".into());
    }
    if let Some(rsa) = signature.public_key().rsa()
        && rsa.key_size() < 2048
    {
        return Err("is made with an RSA key of less than 2048 bits".into());
    }
    Ok(signature)
}
