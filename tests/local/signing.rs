//! Signing media: with every kind of key, and so that ssh-keygen and Pannier believe each other.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::support::carry::{self, oci, run, text};
use crate::support::image::{files, image};
use crate::support::layout::layout;
use crate::support::stick::{NAMESPACE, Stick};
use crate::support::strace;
use ssh_key::public::{KeyData, SkEd25519};
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, Signature, SshSig};

const KINDS: [&[&str]; 5] = [
    &["-t", "ed25519"],
    &["-t", "ecdsa", "-b", "256"],
    &["-t", "ecdsa", "-b", "384"],
    &["-t", "ecdsa", "-b", "521"],
    &["-t", "rsa", "-b", "2048"],
];

#[test]
fn pannier_and_ssh_keygen_believe_each_other() {
    for kind in KINDS {
        let stick = Stick::new();
        stick.key("other", kind);
        stick.allow("other", "namespaces=\"git,pannier-*\",valid-after=\"20200101Z\"");
        stick.sign("other");
        assert!(stick.verify(0).contains("Signed by ana@example.org (SHA256:"), "{kind:?}");
        assert!(stick.keygen_verifies(), "{kind:?}");
        assert_eq!(algorithm(&stick), expected(kind));
        fs::remove_file(stick.signature()).unwrap();
        stick.keygen_signs("other", NAMESPACE);
        assert_eq!(algorithm(&stick), expected(kind));
        stick.verify(0);
    }
}

/// How a key of this kind signs.
fn expected(kind: &[&str]) -> String {
    match kind {
        [_, "ed25519"] => "ssh-ed25519".into(),
        [_, "ecdsa", _, bits] => format!("ecdsa-sha2-nistp{bits}"),
        _ => "rsa-sha2-512".into(),
    }
}

fn algorithm(stick: &Stick) -> String {
    let signature = SshSig::from_pem(fs::read(stick.signature()).unwrap()).unwrap();
    signature.signature().algorithm().as_str().to_owned()
}

#[test]
fn certificates_are_believed_both_ways() {
    // The authority's kind differs from the key's.
    for (kind, authority) in KINDS.into_iter().zip(KINDS.into_iter().cycle().skip(2)) {
        let stick = Stick::new();
        stick.key("ca", authority);
        stick.key("other", kind);
        stick.certify("ca", "other", &["-n", "ana@example.org,root", "-V", "-1h:+1h"]);
        stick.allow_as("*@example.org", "ca", "cert-authority,namespaces=\"pannier-*\"");
        stick.sign("other-cert.pub");
        let said = stick.verify(0);
        assert!(said.contains("Signed by ana@example.org (SHA256:"), "{said}");
        assert!(said.contains(", certified by SHA256:"), "{said}");
        assert!(stick.keygen_verifies(), "{kind:?}");
        assert_eq!(algorithm(&stick), expected(kind));
        fs::remove_file(stick.signature()).unwrap();
        stick.keygen_signs("other-cert.pub", NAMESPACE);
        assert_eq!(algorithm(&stick), expected(kind));
        stick.verify(0);
        // The key without its certificate is nobody's.
        fs::remove_file(stick.signature()).unwrap();
        stick.sign("other");
        stick.refused("is not among the allowed signers");
    }
}

#[test]
fn certificates_that_are_not_in_order() {
    let cases: [(&[&str], &str); 6] = [
        (&["-n", "ana@example.org", "-V", "20200101:20200102"], "a certificate that is no longer valid"),
        (&["-n", "ana@example.org", "-V", "+1h:+2h"], "a certificate that is not valid yet"),
        (&["-n", "ana@example.net"], "a certificate for other names"),
        (&[], "a certificate for nobody in particular"),
        (&["-h", "-n", "ana@example.org"], "a certificate that is not a user's"),
        (&["-n", "ana@example.org", "-O", "force-command=true"], "a certificate with critical options"),
    ];
    let stick = Stick::new();
    stick.key("ca", &["-t", "ed25519"]);
    stick.allow_as("*@example.org", "ca", "cert-authority");
    for (options, reason) in cases {
        stick.certify("ca", "key", options);
        stick.sign("key-cert.pub");
        stick.refused(reason);
        // ssh-keygen does not look at critical options.
        assert_eq!(stick.keygen_verifies(), options.contains(&"-O"), "{options:?}");
        fs::remove_file(stick.signature()).unwrap();
    }
    stick.key("stranger", &["-t", "ed25519"]);
    stick.certify("stranger", "key", &["-n", "ana@example.org"]);
    stick.sign("key-cert.pub");
    stick.refused("neither the certificate");
}

#[test]
fn an_altered_certificate_is_no_certificate() {
    let stick = Stick::new();
    stick.key("ca", &["-t", "ed25519"]);
    stick.allow_as("*@example.org", "ca", "cert-authority");
    stick.certify("ca", "key", &["-n", "ana@example.net", "-V", "-1h:+1h"]);
    stick.sign("key-cert.pub");
    stick.refused("a certificate for other names");
    let good = SshSig::from_pem(fs::read(stick.signature()).unwrap()).unwrap();
    let certificate = good.public_key().certificate().unwrap().to_bytes().unwrap();
    let at = certificate.windows(11).position(|window| window == b"example.net").unwrap();
    let mut altered = certificate.clone();
    altered[at..at + 11].copy_from_slice(b"example.org");
    let key = KeyData::Certificate(Box::new(ssh_key::Certificate::from_bytes(&altered).unwrap()));
    let forged = SshSig::new(key, NAMESPACE, HashAlg::Sha512, good.signature().clone()).unwrap();
    fs::write(stick.signature(), forged.to_pem(LineEnding::LF).unwrap()).unwrap();
    stick.refused("a certificate that its authority did not sign");
}

/// What a hardware key does, in software (PROTOCOL.u2f).
fn touch<K: ssh_key::SigningKey>(key: &K, message: &[u8], flags: u8) -> Signature {
    let mut signed = HashAlg::Sha256.digest(b"ssh:");
    let trailer = [flags, 0, 0, 0, 7];
    signed.extend(trailer);
    signed.extend(HashAlg::Sha256.digest(message));
    let signature = key.try_sign(&signed).unwrap();
    Signature::new(Algorithm::SkEd25519, [signature.as_bytes(), &trailer].concat()).unwrap()
}

#[test]
fn hardware_keys_count_if_somebody_touched_them() {
    let stick = Stick::new();
    let key = PrivateKey::from_openssh(fs::read(stick.at("key")).unwrap()).unwrap();
    let inner = *key.public_key().key_data().ed25519().unwrap();
    let public = KeyData::SkEd25519(SkEd25519::new(inner, "ssh:"));
    let line = ssh_key::PublicKey::from(public.clone()).to_openssh().unwrap();
    fs::write(stick.at("allowed"), format!("ana@example.org {line}\n")).unwrap();
    let record = fs::read(stick.record()).unwrap();
    let message = SshSig::signed_data(NAMESPACE, HashAlg::Sha512, &record).unwrap();
    for (flags, counts) in [(1, true), (5, true), (0, false), (4, false)] {
        let signature = touch(&key, &message, flags);
        let signature = SshSig::new(public.clone(), NAMESPACE, HashAlg::Sha512, signature).unwrap();
        fs::write(stick.signature(), signature.to_pem(LineEnding::LF).unwrap()).unwrap();
        assert!(stick.keygen_verifies(), "{flags}");
        if counts {
            stick.verify(0);
        } else {
            stick.refused("a hardware key that nobody touched");
        }
    }
}

/// An agent of our own.
struct Agent {
    process: Child,
    socket: PathBuf,
}

impl Agent {
    fn start(stick: &Stick) -> Self {
        let socket = stick.at("agent");
        let mut command = Command::new("ssh-agent");
        command.arg("-D").arg("-a").arg(&socket).stdout(Stdio::null());
        let process = command.spawn().unwrap();
        while !socket.exists() {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Self { process, socket }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_key_in_an_agent_signs() {
    let stick = Stick::new();
    let agent = Agent::start(&stick);
    let mut add = Command::new("ssh-add");
    add.arg("-q").arg(stick.at("key")).env("SSH_AUTH_SOCK", &agent.socket);
    assert!(add.status().unwrap().success());
    fs::remove_file(stick.at("key")).unwrap();
    let (medium, key) = (stick.at("medium"), stick.at("key.pub"));
    let sign = || carry::pannier(["sign", text(&medium), "--yes", "--key", text(&key)]);
    let without = sign().env_remove("SSH_AUTH_SOCK").output().unwrap();
    assert_eq!(without.status.code(), Some(1));
    assert!(!stick.signature().exists());
    assert!(sign().env("SSH_AUTH_SOCK", &agent.socket).status().unwrap().success());
    stick.verify(0);
}

#[test]
fn keys_with_a_passphrase_and_in_old_formats_sign() {
    let stick = Stick::new();
    let askpass = stick.at("askpass");
    fs::write(&askpass, "#!/bin/sh\necho secret\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(&askpass, mode).unwrap();
    let kinds: [&[&str]; 2] =
        [&["-t", "ed25519", "-N", "secret"], &["-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "secret"]];
    for (number, kind) in kinds.into_iter().enumerate() {
        let key = stick.at(&format!("secret{number}"));
        let mut make = Command::new("ssh-keygen");
        assert!(make.args(["-q", "-C", "", "-f"]).arg(&key).args(kind).status().unwrap().success());
        stick.allow(&format!("secret{number}"), "");
        let medium = stick.at("medium");
        let mut sign = carry::pannier(["sign", text(&medium), "--yes", "--key", text(&key)]);
        sign.env("SSH_ASKPASS", &askpass).env("SSH_ASKPASS_REQUIRE", "force").env_remove("SSH_AUTH_SOCK");
        assert!(sign.status().unwrap().success(), "{kind:?}");
        stick.verify(0);
    }
}

#[test]
fn an_export_signs_what_it_commits() {
    let stick = Stick::new();
    fs::remove_dir_all(stick.at("medium")).unwrap();
    let (medium, key) = (stick.at("medium"), stick.at("key"));
    let set = |tag: &str| {
        let source = stick.at(tag);
        layout().with(image(&format!("app:{tag}")).layer(files([("app", tag)]))).write_dir(&source);
        oci(&source)
    };
    let export = |status: i32, tag: &str, more: &[&str]| {
        let source = set(tag);
        let arguments = ["export", "--all", "--to", text(&medium), "--from", &source];
        run(status, arguments.into_iter().chain(more.iter().copied())).stderr()
    };
    let signed = ["--sign-key", text(&key)];
    assert!(export(0, "1", &signed).contains("Commit 1 is signed with SHA256:"));
    assert!(stick.verify(0).contains("Signed by ana@example.org"));
    // Once is enough.
    let before = carry::files(&medium);
    assert!(!export(0, "1", &signed).contains("is signed with"));
    assert_eq!(carry::files(&medium), before);
    // A record that was not signed when it was made is signed by the export that changes nothing.
    assert!(export(0, "2", &[]).contains("warning: the commit before was signed, commit 2 is not"));
    stick.refused("it is not signed");
    // What was committed without a signature is signed by whoever says so.
    assert!(export(4, "2", &signed).contains("+ image docker.io/library/app:2"));
    let accepted = ["--sign-key", text(&key), "--accept-unsigned"];
    assert!(export(0, "2", &accepted).contains("Commit 2 is signed with SHA256:"));
    stick.verify(0);
    // A key that cannot sign leaves the medium as it was, and signed; its signature comes before a record.
    fs::rename(&key, stick.at("away")).unwrap();
    let public = stick.at("key.pub");
    let said = export(1, "3", &["--sign-key", text(&public)]);
    assert!(said.contains("signing with"), "{said}");
    stick.verify(0);
    assert!(stick.record().ends_with("0000000002.json"));
    fs::rename(stick.at("away"), &key).unwrap();
    export(0, "3", &signed);
    stick.verify(0);
}

#[test]
fn what_a_cut_off_export_signed_does_not_stay() {
    let stick = Stick::new();
    let (medium, key) = (stick.at("medium"), stick.at("key"));
    let next = |number: u32| stick.record().with_file_name(format!("{number:010}.json.sig"));
    let newest = stick.record().file_stem().unwrap().to_str().unwrap().parse::<u32>().unwrap();
    fs::write(next(newest + 1), "of a record that was never written").unwrap();
    let source = stick.at("source");
    layout().with(image("app:1").layer(files([("app", "1")]))).write_dir(&source);
    let source = oci(&source);
    run(0, ["export", "--all", "--to", text(&medium), "--from", &source]);
    assert!(!next(newest + 1).exists());
    stick.refused("it is not signed");
    run(
        0,
        [
            "export",
            "--all",
            "--to",
            text(&medium),
            "--from",
            &source,
            "--accept-unsigned",
            "--sign-key",
            text(&key),
        ],
    );
    stick.verify(0);
}

#[test]
fn killed_at_any_call_the_newest_record_is_signed() {
    if !strace::available() {
        return;
    }
    let stick = Stick::new();
    let (medium, key, allowed) = (stick.at("medium"), stick.at("key"), stick.at("allowed"));
    stick.sign("key");
    let before = carry::files(&medium);
    let source = stick.at("source");
    layout().with(image("app:1").layer(files([("app", "1")]))).write_dir(&source);
    let source = oci(&source);
    let arguments = ["export", "--all", "--to", text(&medium), "--from", &source, "--sign-key", text(&key)];
    let mut kills = 0;
    for calls in ["fsync,fdatasync,syncfs", "openat2", "unlinkat,renameat"] {
        let mut number = 1;
        loop {
            fs::remove_dir_all(&medium).unwrap();
            for (name, bytes) in &before {
                let to = medium.join(name);
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                fs::write(to, bytes).unwrap();
            }
            // Not in a layout's files, since it is empty.
            fs::create_dir_all(medium.join(".pannier/ingest")).unwrap();
            let killed = strace::killed(&arguments, calls, number);
            // An index.json that is behind the record is no matter of signatures; no node is there.
            let import =
                ["import", text(&medium), "--allowed-signers", text(&allowed), "--address", "/nowhere"];
            assert!(run(6, import).stderr().contains("Signed by ana@example.org"), "{calls} {number}");
            if !killed {
                break;
            }
            kills += 1;
            number += 1 + number / 4;
        }
    }
    assert!(kills >= 20, "only {kills} moments were tried");
}
