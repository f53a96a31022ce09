//! Keys that are replaced while media signed by the old ones are on their way.

use std::fs;

use super::site::Site;

// fault-matrix: rows 70
#[test]
fn a_key_that_was_replaced_counts_as_long_as_the_node_says_so() {
    let site = Site::new();
    let stick = &site.stick;
    let allow = |lines: &[(&str, &str)]| {
        let lines =
            lines.iter().map(|(key, options)| stick.line(&format!("{key}@example.org"), key, options));
        fs::write(stick.at("allowed"), lines.collect::<String>()).unwrap();
    };
    stick.key("next", &["-t", "ed25519"]);
    // On the way while the key is replaced.
    site.export("app:1", "1", &[]);
    let fingerprint = |key: &str| {
        let public = fs::read_to_string(stick.at(key).with_extension("pub")).unwrap();
        let public = ssh_key::PublicKey::from_openssh(&public).unwrap();
        public.fingerprint(ssh_key::HashAlg::Sha256).to_string()
    };
    // The node was told of the new key only.
    allow(&[("next", "")]);
    let refusal = format!("the key {} is not among the allowed signers", fingerprint("key"));
    site.refused(&refusal);
    let said = site.take(4, &[]);
    assert!(said.contains("add the signer's key to the allowed signers"), "{said}");
    assert!(!stick.at("out").exists() && !stick.at("state").exists());
    // Of both, for as long as media by the old one are on their way.
    allow(&[("next", ""), ("key", "")]);
    assert!(site.take(0, &[]).contains("Signed by key@example.org"));
    stick.sign("next");
    let both = site.take(0, &["--force"]);
    assert!(
        both.contains("Signed by key@example.org") && both.contains("Signed by next@example.org"),
        "{both}"
    );
    // One of the two signatures is enough where only the new key is left, or only the old one is yet known.
    for left in ["next", "key"] {
        allow(&[(left, "")]);
        assert!(site.take(0, &["--force"]).contains(&format!("Signed by {left}@example.org")));
    }
    // The time for which each counts is the node's to say.
    site.export("app:1", "2", &[]);
    allow(&[("next", "valid-after=\"20200101Z\""), ("key", "valid-before=\"20200101Z\"")]);
    site.refused(&format!("the key {} is no longer valid", fingerprint("key")));
    stick.sign("next");
    let said = site.take(0, &["--force"]);
    assert!(said.contains("Signed by next@example.org") && !said.contains("key@example.org"), "{said}");
    allow(&[("next", "valid-after=\"29990101Z\""), ("key", "valid-before=\"29990101Z\"")]);
    assert!(site.take(0, &["--force"]).contains("Signed by key@example.org"));
}
