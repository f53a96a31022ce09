//! Signatures that count for nothing: H1 to H16 of the list of hostile media.

use std::fs;

use crate::support::carry::{self, text};
use crate::support::stick::{NAMESPACE, Stick};
use ssh_key::{Algorithm, LineEnding, Signature, SshSig};

#[test]
fn several_people_sign_and_any_of_them_is_enough() {
    let stick = Stick::new();
    stick.key("other", &["-t", "ed25519"]);
    stick.sign("other");
    stick.refused("is not among the allowed signers");
    stick.sign("key");
    stick.verify(0);
}

#[test]
fn h01_no_signature() {
    Stick::new().refused("it is not signed");
}

#[test]
fn h01_signatures_required_by_the_configuration() {
    let stick = Stick::new();
    let (medium, config) = (stick.at("medium"), stick.at("config.toml"));
    let settings = |required: &str| {
        let allowed = stick.at("allowed");
        fs::write(&config, format!("[trust]\nallowed-signers = {allowed:?}\n{required}")).unwrap();
    };
    settings("required = true");
    let verify = |status, flags: &[&str]| {
        let arguments = ["verify", text(&medium), "--config", text(&config)].into_iter();
        carry::run(status, arguments.chain(flags.iter().copied())).stderr()
    };
    assert!(verify(4, &[]).contains("it is not signed"));
    let by_environment = carry::pannier(["import", text(&medium), "--address", "/nowhere"])
        .env("PANNIER_CONFIG", &config)
        .output()
        .unwrap();
    assert_eq!(by_environment.status.code(), Some(4));
    let said = verify(0, &["--allow-unsigned"]);
    assert!(said.contains("is taken without signatures that count"), "{said}");
    settings("required = false");
    assert!(verify(0, &[]).contains("warning: it is not signed"));
    settings("");
    verify(4, &[]);
    stick.sign("key");
    assert!(verify(0, &[]).contains("Signed by ana@example.org"));
    settings("requires = true");
    assert!(verify(2, &[]).contains("unknown field"));
    fs::remove_file(&config).unwrap();
    verify(2, &[]);
}

#[test]
fn h02_unknown_key() {
    let stick = Stick::new();
    stick.key("other", &["-t", "ed25519"]);
    stick.sign("other");
    stick.refused("is not among the allowed signers");
}

#[test]
fn h03_signature_of_another_namespace() {
    let stick = Stick::new();
    stick.keygen_signs("key", "git");
    stick.refused("was not made for pannier-commit-v1");
    fs::remove_file(stick.signature()).unwrap();
    stick.sign("key");
    stick.allow("key", "namespaces=\"git,file\"");
    stick.refused("is not allowed in the namespace");
}

#[test]
fn h04_record_altered_by_whitespace() {
    let stick = Stick::new();
    stick.sign("key");
    let mut bytes = fs::read(stick.record()).unwrap();
    bytes.push(b'\n');
    fs::write(stick.record(), bytes).unwrap();
    stick.refused("is over other bytes");
}

#[test]
fn h07_signature_of_1_gib() {
    let stick = Stick::new();
    fs::File::create(stick.signature()).unwrap().set_len(1 << 30).unwrap();
    stick.refused("longer than the 65536 bytes allowed");
}

// fault-matrix: rows 42
#[test]
fn h07_more_signatures_than_are_read() {
    let stick = Stick::new();
    stick.key("other", &["-t", "ed25519"]);
    stick.sign("other");
    let name = |number: usize| match number {
        1 => stick.signature(),
        number => stick.record().with_extension(format!("json.{number}.sig")),
    };
    let strange = fs::read(name(1)).unwrap();
    (2..=40).for_each(|number| fs::write(name(number), &strange).unwrap());
    let (medium, key) = (stick.at("medium"), stick.at("key"));
    let said = carry::run(1, ["sign", text(&medium), "--yes", "--key", text(&key)]).stderr();
    assert!(said.contains("as many signatures as are read"), "{said}");
    // The right one counts among the first sixteen, and not behind them.
    fs::remove_file(name(1)).unwrap();
    stick.sign("key");
    stick.verify(0);
    fs::rename(name(1), name(17)).unwrap();
    stick.refused("is not among the allowed signers");
}

#[test]
fn h08_an_older_signed_record_does_not_stand_in_for_a_damaged_one() {
    let stick = Stick::new();
    stick.sign("key");
    stick.verify(0);
    fs::write(stick.record().with_file_name("0000000099.json"), "{").unwrap();
    stick.refused("0000000099.json is not to be trusted: it is not signed");
}

#[test]
fn h10_key_that_is_not_valid_now() {
    let stick = Stick::new();
    stick.sign("key");
    stick.allow("key", "valid-before=\"20200101Z\"");
    stick.refused("is no longer valid");
    stick.allow("key", "valid-after=\"29990101Z\"");
    stick.refused("is not valid yet");
    stick.allow("key", "valid-after=\"99999999999999Z\"");
    assert!(stick.verify(2).contains("valid-after"));
}

#[test]
fn h14_weak_rsa_key() {
    let stick = Stick::new();
    stick.key("weak", &["-t", "rsa", "-b", "1024"]);
    stick.allow("weak", "");
    stick.keygen_signs("weak", NAMESPACE);
    stick.refused("a signature of it does not count");
}

#[test]
fn h14_version_2_and_sha_1() {
    let stick = Stick::new();
    stick.key("rsa", &["-t", "rsa", "-b", "2048"]);
    stick.allow("rsa", "");
    stick.keygen_signs("rsa", NAMESPACE);
    stick.verify(0);
    let good = SshSig::from_pem(fs::read(stick.signature()).unwrap()).unwrap();
    let old = Signature::new(Algorithm::Rsa { hash: None }, good.signature_bytes()).unwrap();
    let old = SshSig::new(good.public_key().clone(), NAMESPACE, good.hash_alg(), old).unwrap();
    fs::write(stick.signature(), old.to_pem(LineEnding::LF).unwrap()).unwrap();
    stick.refused("is made with SHA-1");
    let text = good.to_pem(LineEnding::LF).unwrap();
    // "SSHSIG", version 1 in four bytes, and what begins the next.
    assert!(text.contains("U1NIU0lHAAAAAQ"));
    fs::write(stick.signature(), text.replace("U1NIU0lHAAAAAQ", "U1NIU0lHAAAAAg")).unwrap();
    stick.refused("not a signature");
}

#[test]
fn h15_keys_on_the_medium_count_for_nothing() {
    let stick = Stick::new();
    stick.key("other", &["-t", "ed25519"]);
    stick.sign("other");
    let public = fs::read_to_string(stick.at("other.pub")).unwrap();
    for place in ["medium/allowed_signers", "medium/.pannier/allowed_signers"] {
        fs::write(stick.at(place), format!("ana@example.org {public}")).unwrap();
    }
    for place in ["medium/config.toml", "medium/.pannier/config.toml"] {
        fs::write(stick.at(place), "[trust]\nrequired = false\n").unwrap();
    }
    stick.refused("is not among the allowed signers");
}

#[test]
fn h33_signature_that_is_a_link() {
    let stick = Stick::new();
    stick.sign("key");
    fs::rename(stick.signature(), stick.at("outside")).unwrap();
    std::os::unix::fs::symlink(stick.at("outside"), stick.signature()).unwrap();
    let (medium, allowed) = (stick.at("medium"), stick.at("allowed"));
    carry::run(5, ["verify", text(&medium), "--allowed-signers", text(&allowed)]);
}

#[test]
fn an_authority_does_not_sign_by_itself() {
    let stick = Stick::new();
    stick.sign("key");
    stick.allow("key", "cert-authority");
    stick.refused("as a certificate authority only");
}
