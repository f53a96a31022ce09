//! Keys that sign: read from a file and used here, or by ssh-keygen where only it can.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use ssh_key::public::KeyData;
use ssh_key::{Certificate, HashAlg, LineEnding, PrivateKey, PublicKey, SshSig};

use super::signature::{self, NAMESPACE};
use crate::error::{Error, Result, Side};

/// Largest key file that is read, in bytes.
const MAX_KEY: u64 = 64 << 10;

/// A key that signs.
///
/// A private key without a passphrase signs in this process. One with a passphrase, one in an agent and
/// one in hardware sign through `ssh-keygen -Y sign`, which asks for what it needs on the terminal.
#[derive(Clone, Debug)]
pub struct SigningKey {
    path: PathBuf,
    /// What signatures say who made them; a certificate, where that was named.
    public: KeyData,
    private: Option<Arc<PrivateKey>>,
}

impl SigningKey {
    /// Reads a private key, a public one, whose private one lies beside it or is in an agent or in
    /// hardware, or a certificate (`-cert.pub`).
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = read(path)?;
        if let Some(public) = public_key(&bytes) {
            let beside = private_beside(path).filter(|beside| beside.exists());
            let private = beside.map(|beside| read(&beside)).transpose()?;
            let private = private.and_then(|bytes| usable(&bytes));
            let fits = |private: &PrivateKey| private.public_key().key_data() == signature::subject(&public);
            let private = private.filter(fits).map(Arc::new);
            return Ok(Self { path: path.to_owned(), public, private });
        }
        let private = match PrivateKey::from_openssh(&bytes) {
            Ok(private) => private,
            // In an older format; its public key lies beside it.
            Err(error) => return Self::by_public_beside(path, &error.to_string()),
        };
        let public = private.public_key().key_data().clone();
        let private = usable(&bytes).map(Arc::new);
        Ok(Self { path: path.to_owned(), public, private })
    }

    fn by_public_beside(path: &Path, reason: &str) -> Result<Self> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".pub");
        match read(Path::new(&beside)).ok().and_then(|bytes| public_key(&bytes)) {
            Some(public) => Ok(Self { path: path.to_owned(), public, private: None }),
            None => Err(Error::Usage(format!(
                "{} is no SSH key that can be read ({reason}), and no public key lies beside it",
                path.display()
            ))),
        }
    }

    /// The key's fingerprint, as ssh-keygen shows it.
    pub fn fingerprint(&self) -> String {
        signature::subject(&self.public).fingerprint(HashAlg::Sha256).to_string()
    }

    /// Whether one of the signatures is this key's over `bytes`.
    pub fn has_signed(&self, bytes: &[u8], signatures: &[Vec<u8>]) -> bool {
        signatures.iter().any(|armoured| self.proven(NAMESPACE, bytes, armoured).is_ok())
    }

    /// An armoured signature over the bytes of a commit record.
    pub fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        self.sign_in(NAMESPACE, bytes)
    }

    /// An armoured signature over `bytes`, for what `namespace` says.
    pub fn sign_in(&self, namespace: &str, bytes: &[u8]) -> Result<Vec<u8>> {
        let armoured = match &self.private {
            Some(private) => self.sign_here(namespace, private, bytes)?,
            None => self.sign_by_ssh_keygen(namespace, bytes)?,
        };
        self.proven(namespace, bytes, &armoured).map_err(|reason| self.refused(reason))?;
        Ok(armoured)
    }

    fn sign_here(&self, namespace: &str, private: &PrivateKey, bytes: &[u8]) -> Result<Vec<u8>> {
        let cannot = |error| self.refused(format!("this key cannot sign: {error}"));
        let signed = private.sign(namespace, HashAlg::Sha512, bytes).map_err(cannot)?;
        // A certificate only tells who the key belongs to: the signature is the key's.
        let named = SshSig::new(self.public.clone(), namespace, HashAlg::Sha512, signed.signature().clone());
        let text = named.and_then(|signature| signature.to_pem(LineEnding::LF)).map_err(cannot)?;
        Ok(text.into_bytes())
    }

    fn sign_by_ssh_keygen(&self, namespace: &str, bytes: &[u8]) -> Result<Vec<u8>> {
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-Y", "sign", "-n", namespace, "-f"]).arg(&self.path);
        // It asks for a passphrase on the terminal and for a touch on standard error.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let failed = |error| self.refused(format!("ssh-keygen could not be run: {error}"));
        let mut child = command.spawn().map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            // If it does not want to read, its exit status tells why.
            let _ = stdin.write_all(bytes);
        }
        let output = child.wait_with_output().map_err(failed)?;
        if output.status.success() {
            Ok(output.stdout)
        } else {
            Err(self.refused(format!("ssh-keygen gave up ({})", output.status)))
        }
    }

    fn proven(&self, namespace: &str, bytes: &[u8], armoured: &[u8]) -> Result<(), String> {
        let signature = signature::parse(armoured)?;
        if signature::subject(signature.public_key()) != signature::subject(&self.public) {
            return Err("the signature is by another key".into());
        }
        signature::verify(namespace, &signature, bytes)
    }

    fn refused(&self, reason: String) -> Error {
        Error::Refused { side: Side::Here, action: format!("signing with {}", self.path.display()), reason }
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let length = std::fs::metadata(path).map_err(Error::io(Side::Here, "examine", path))?.len();
    if length > MAX_KEY {
        return Err(Error::Usage(format!("{}: {length} bytes are too long for a key", path.display())));
    }
    std::fs::read(path).map_err(Error::io(Side::Here, "read", path))
}

/// The public key or certificate that a file holds.
fn public_key(bytes: &[u8]) -> Option<KeyData> {
    let text = std::str::from_utf8(bytes).ok()?.trim();
    let certificate = || Certificate::from_openssh(text).map(|read| KeyData::Certificate(Box::new(read)));
    PublicKey::from_openssh(text).map(|key| key.key_data().clone()).or_else(|_| certificate()).ok()
}

/// The private key of a file, if it can sign in this process.
fn usable(bytes: &[u8]) -> Option<PrivateKey> {
    let private = PrivateKey::from_openssh(bytes).ok()?;
    let hardware = private.public_key().key_data();
    let hardware = hardware.is_sk_ed25519() || hardware.is_sk_ecdsa_p256();
    (!private.is_encrypted() && !hardware).then_some(private)
}

/// Where ssh-keygen looks for the private key of `KEY.pub` and `KEY-cert.pub`.
fn private_beside(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let stem = name.strip_suffix("-cert.pub").or_else(|| name.strip_suffix(".pub"))?;
    Some(path.with_file_name(stem))
}
