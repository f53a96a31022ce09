//! Digests that do not drift: what an export writes is the same on every machine, and from one release to the next.
//!
//! When this fails, a crate or a level changed the bytes of a layer: nodes and media that hold the older bytes get
//! every layer of every set anew. That is a reason to look twice, and a line for the change log.

use std::path::Path;

use crate::support::carry::{blobs, run, text};
use pannier::image::Digest;

/// A source below `fixtures/`, and every blob that an export of it writes, by its SHA-256.
const EXPORTS: [(&str, &[&str]); 3] = [
    (
        "oci:layout-all-encodings",
        &[
            "172671e0c9d0e7231632146736cb7db22225d4bc5a8cf61a9ca474e29409daf9",
            "27c6db128a7f4afd4196d6795245ece546a1a45df1b3804f26519692c5f2baa8",
            "43f6b6c1a13b6beb01b0b293efd83d2cc69dec92fdea8602e5fd1dbe8fbca93f",
            "46f86928289fc4c1a15edbc3d1eafe41fa6705b6c0f6d4e0cc97af17dba9f2ea",
            "7352b3062407afa0941faf42a208aac43d7fb04ed3d83c62540ec9ab3b19ee8d",
            "82f581a4bd68e08b7cc829eb9a992e03ceb9befa08faaad8e17feb5166dac704",
            "9bd3787748574f7051f08d1b0557f13e95808aa1df381cb58980596396202366",
            "a37426c7d5e03ce35423816b0771da5e99314da8b82596a92972fbf81c8a8984",
        ],
    ),
    (
        "oci-archive:archive-oci/images.tar",
        &[
            "02b0dfd1307c13058436b592732daa28a32f60798baedb9c29d3a6112f243911",
            "44b7d196094f39dc0dcdea55ef742ae8c582dabe8defc3aad0460aac876102bb",
            "5040eae08470d09f84020075caca7859fafa80edc88c6ce444d127bccc2a8231",
            "86e11dc55450330311eba3e68bec428efd37e4c13a5625c7fb3f3bb16d1fbfcd",
            "929ff39571cfac874add3ed92d9f0380c55c12e9cb794ddec25122580289b382",
            "94eb109ddf59487b713facbc20f0e4f2367cb44c010187c8546cbc7604636126",
            "a09d0cc73b493e0e7a22c13aa9978741bc7d562e5795b2096ae09d62670a6734",
            "cc28707e5631d3513bd5ff10fe4ca789d2a1f9b26e40ad1a9a2680712ac2ab8c",
        ],
    ),
    (
        "docker-archive:docker-26.1-save/images.tar.gz",
        &[
            "353240856f76cece1a9c29bbff31de0814e45f0f8a20ed99ee190d4f16a57778",
            "35812e696ea98853b84e8170689875bbb59e8e1b56bfe82137a40dccd33038d0",
            "36377173afac6fd558dfa8c5266a061528ad143c534a9d5e001714f68fb88dae",
            "5c7d7545eb972a46580a30cbd27aa681c36716a7a120cdc26eb73f0c964d48ee",
            "60410eb660eacd99cfae64c36748b5319c70b184edea652aef349fce4d24ac29",
            "9d35c04c9fc779f787feee4018253c7aa562d286b153c585debb452513ced394",
            "a2f6549814631432e06752ba3e9c3a23583c066ec188727cb9e991bc3462597e",
            "ccd7197119c2e5facea665d45f24827e89b2a39474e03b6e23df75e0f0da3ca4",
            "f6affe8bd57bb9b859bb9294068a95e52787a7e103ae0d4a4bc238b7eb698973",
        ],
    ),
];

#[test]
fn an_export_writes_the_same_bytes_as_ever() {
    let room = tempfile::tempdir().unwrap();
    let mut said = String::new();
    for (number, (source, expected)) in EXPORTS.into_iter().enumerate() {
        let (kind, path) = source.split_once(':').unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(path);
        let (from, medium) = (format!("{kind}:{}", path.display()), room.path().join(number.to_string()));
        run(0, ["export", "--from", &from, "--all", "--to", text(&medium)]);
        let written: Vec<String> = blobs(&medium).into_values().map(|blob| Digest::of(&blob).hex()).collect();
        if written != expected {
            said += &format!("{source}: {written:#?}\n");
        }
    }
    assert!(said.is_empty(), "these are other bytes than before:\n{said}");
}
