//! What workloads name and a medium has, against what the node has.

use std::time::SystemTime;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{MediumFacts, OnMedium, Subject, Workload};
use crate::containerd::Client;
use crate::error::{Error, Result};
use crate::image::{Platform, Reference};
use crate::import::{self, Options};
use crate::lists::Named;
use crate::node::Node;
use crate::plan::import::runs_on;
use crate::progress::Run;
use crate::record::{Image, Record};
use crate::trust::Admitted;

/// Compares; an interruption is the only error.
pub(super) fn compare(
    subject: &Subject<'_>,
    node: Option<&Node>,
    client: Option<&Client>,
    run: Run<'_>,
) -> Result<(Vec<Workload>, Option<MediumFacts>)> {
    let platform = node.map_or_else(Platform::host, |node| node.platform.clone());
    let record = subject.medium.and_then(|medium| medium.record());
    let workload = |named: &Named| Workload {
        image: named.image.clone(),
        place: named.place.clone(),
        pull: named.pull,
        on_node: client
            .and_then(|client| client.cri_image(&named.image.to_string()).ok())
            .map(|found| found.is_some()),
        on_medium: record.map(|record| on_medium(record, &named.image, &platform)),
    };
    let workloads = subject.named.iter().map(workload).collect();
    let medium = subject.medium.map(|medium| facts(medium, subject, node, run)).transpose()?;
    Ok((workloads, medium))
}

fn on_medium(record: &Record, name: &Reference, node: &Platform) -> OnMedium {
    let Some(image) = record.images.iter().find(|image| import::is_named(image, name)) else {
        return OnMedium::No;
    };
    let suits = runs_on(node).iter().any(|platform| image.platforms.iter().any(|p| p.platform == *platform));
    if suits { OnMedium::Yes } else { OnMedium::OtherPlatforms(platforms(image)) }
}

fn platforms(image: &Image) -> String {
    image.platforms.iter().map(|platform| platform.platform.to_string()).collect::<Vec<_>>().join(", ")
}

fn facts(medium: &Admitted, subject: &Subject<'_>, node: Option<&Node>, run: Run<'_>) -> Result<MediumFacts> {
    let created = medium.record().and_then(|record| OffsetDateTime::parse(&record.created, &Rfc3339).ok());
    let mut facts = MediumFacts {
        path: medium.path().into(),
        created: created.map(SystemTime::from),
        failure: None,
        spaces: Vec::new(),
        latest: Vec::new(),
    };
    if subject.named.is_empty() {
        let images = medium.record().into_iter().flat_map(|record| &record.images);
        let latest = images.flat_map(|image| &image.names).filter(|name| name.tag() == Some("latest"));
        facts.latest = latest.map(ToString::to_string).collect();
    }
    let Some(node) = node else { return Ok(facts) };
    // With workloads, only what they need of it matters.
    let needed = |record: &Record| {
        let on = |name: &&Reference| record.images.iter().any(|image| import::is_named(image, name));
        subject.named.iter().map(|named| &named.image).filter(on).cloned().collect::<Vec<_>>()
    };
    let images = medium.record().map(needed).unwrap_or_default();
    if images.is_empty() && !subject.named.is_empty() {
        return Ok(facts);
    }
    let options =
        Options { images, unpack: true, pin: true, repair: false, keep_going: false, discard_layers: false };
    match import::prepare(medium, node, &options, |_| {}, run) {
        Ok(prepared) => facts.spaces = prepared.space,
        Err(Error::Interrupted) => return Err(Error::Interrupted),
        Err(error) => facts.failure = Some(error.with_cause()),
    }
    Ok(facts)
}
