//! What a policy would not see if it went by the names of images and files alone.

use std::fs;

use super::site::Site;
use crate::files::program;

const RULES: &str = "[[trust.policy]]\nsigners = [\"ana@*\"]\nimages = [\"docker.io/library/app*\"]\n";

#[test]
fn an_image_without_a_name_is_refused() {
    let site = Site::new();
    site.export("app:1", "1", &[]);
    site.settings(RULES);
    site.take(0, &[]);
    site.forge(|record| record.replacen("\"names\":[\"docker.io/library/app:1\"]", "\"names\":[]", 1));
    assert!(!fs::read_to_string(site.stick.record()).unwrap().contains("library/app"));
    site.refused("has no name");
}

#[test]
fn a_name_of_a_referrer_is_asked_about() {
    let site = Site::new();
    site.export("app:1", "1", &[]);
    site.settings(RULES);
    let original = serde_json::to_string(&site.record().images[0].original).unwrap();
    let digest = site.record().images[0].original.digest;
    let refers = |name: &str| {
        let referrer = format!(
            "\"referrers\":[{{\"subject\":\"{digest}\",\"descriptor\":{original},\"name\":\"{name}\",\"blobs\":[]}}]"
        );
        site.forge(|record| match record.find(",\"referrers\":[") {
            Some(at) => {
                let end = at + record[at..].find("]}]").unwrap() + 3;
                format!("{},{referrer}{}", &record[..at], &record[end..])
            }
            None => record.replacen("\"sequence\":1}]", &format!("\"sequence\":1,{referrer}}}]"), 1),
        });
        assert_eq!(site.record().images[0].referrers.len(), 1);
    };
    // As cosign has it, in the image's own repository.
    refers("docker.io/library/app:sha256-0.sig");
    site.take(0, &[]);
    refers("registry.k8s.io/pause:3.10");
    site.refused("nobody who signed it may bring registry.k8s.io/pause:3.10");
}

#[test]
fn a_program_at_the_root_that_is_none_of_the_files_is_asked_about() {
    let site = Site::new();
    fs::write(site.stick.at("built"), program(&[1], "")).unwrap();
    let with = format!("--with-pannier={}", site.stick.at("built").display());
    site.export("app:1", "1", &[&with]);
    // Under another name as a file, so that what is at the root is asked about by itself.
    site.settings(&format!("{RULES}files = [\"tool\"]\n"));
    let renamed =
        |text: String| text.replacen("\"files\":[{\"name\":\"pannier\"", "\"files\":[{\"name\":\"tool\"", 1);
    site.forge(renamed);
    site.take(0, &[]);
    let record = site.record();
    let (program, readme) = (record.root[0], record.root[1]);
    let entry = |digest, size| format!("{{\"name\":\"pannier\",\"digest\":\"{digest}\",\"size\":{size}}}");
    site.forge(|text| {
        let own = entry(program.digest, program.size);
        assert!(text.contains(&own), "{text}");
        text.replacen(&own, &entry(readme.digest, readme.size), 1)
    });
    site.refused("nobody who signed it may bring pannier");
}
