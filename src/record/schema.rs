//! `docs/record.schema.json` has every member that a record can have, and no other.

use serde_json::Value;

use super::commit::FORMAT;
use super::*;
use crate::image::{Descriptor, Digest};

const SCHEMA: &str = include_str!("../../docs/record.schema.json");

/// A record with everything in it that there can be. Whoever adds a member has to give it here.
fn full() -> Record {
    let descriptor = Descriptor::of("application/vnd.oci.image.manifest.v1+json", b"{}");
    let (digest, size) = (Digest::of(b"tar"), 3);
    let mut platform: crate::image::Platform = "linux/arm/v6".parse().unwrap();
    platform.variant = Some("v6".into());
    platform.os_version = Some("10.0".into());
    let bases = vec![
        Basis::Medium { id: "0".repeat(32), sequence: 1 },
        Basis::Inventory {
            digest,
            created: "2026-01-02T03:04:05Z".into(),
            platform: platform.clone(),
            host: Some("node1".into()),
        },
    ];
    let roles = [
        Role::Layer,
        Role::Config,
        Role::Manifest,
        Role::Index,
        Role::OriginalManifest,
        Role::OriginalIndex,
        Role::Referrer,
        Role::File,
    ];
    let blob =
        |(number, role): (usize, &Role)| Blob { digest: Digest::of(&[number as u8]), size, role: *role };
    Record {
        format: FORMAT.into(),
        critical: vec!["deltas".into()],
        medium: "0".repeat(32),
        sequence: 1,
        previous: Some(digest),
        created: "2026-01-02T03:04:05Z".into(),
        tool: "pannier".into(),
        images: vec![Image {
            names: ["nginx:1".parse().unwrap()].into(),
            original: descriptor.clone(),
            carried: descriptor.clone(),
            platforms: vec![ImagePlatform {
                platform,
                original: descriptor.clone(),
                carried: descriptor.clone(),
                config: descriptor.clone(),
                diff_ids: vec![digest],
            }],
            sequence: 1,
            referrers: vec![Referrer {
                subject: digest,
                descriptor: descriptor.clone(),
                artifact_type: Some("application/spdx+json".into()),
                name: Some("nginx:sha256-1.sig".parse().unwrap()),
                blobs: vec![descriptor.clone()],
            }],
        }],
        layers: vec![Layer {
            diff_id: digest,
            size,
            originals: vec![descriptor.clone()],
            encodings: vec![descriptor.clone()],
            elsewhere: vec![descriptor.clone()],
        }],
        blobs: roles.iter().enumerate().map(blob).collect(),
        deltas: vec![Delta {
            diff_id: digest,
            base: digest,
            base_size: size,
            base_blobs: vec![descriptor.clone()],
            digest,
            size,
            window: 10,
        }],
        lane: Some(Lane { name: "plant-a".parse().unwrap(), issued: 1 }),
        expires: Some("2027-01-31T00:00:00Z".parse().unwrap()),
        top_ups: vec![TopUp { sequence: 1, rests_on: bases }],
        encoded: vec![Encoded { digest, level: 9, window: 24 }],
        recovery: Some(Recovery {
            percent: 10,
            covers: digest,
            block: 4096,
            groups: 1,
            parity: 7,
            files: vec![RecoveryFile { name: "0000000001.table.0".into(), digest, size }],
        }),
        files: vec![CarriedFile { name: "a".parse().unwrap(), digest, size, executable: true }],
        files_manifest: Some(descriptor),
        volume: Some(Volume {
            set: "0".repeat(32),
            number: 1,
            of: 2,
            elsewhere: vec![Elsewhere { volume: 2, name: "app:1".parse().unwrap(), ids: vec![digest] }],
        }),
        written: Some(Plugged { boot: digest, disk: Some(1), device: Some(digest) }),
        cloned_from: vec![Origin { medium: "1".repeat(32), sequence: 1 }],
        verified: Some(Level::Device),
        pruned: Some(Pruned { names: ["app:1".into()].into(), blobs: [digest].into() }),
        parts: vec![Parts { digest, size: 1 }],
        root: vec![RootFile { name: RootName::Program, digest, size }],
    }
}

/// Whether the objects of `value` have the members that the schema gives them, all of them and no other.
fn compare(value: &Value, schema: &Value, all: &Value, at: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        return compare(value, all.pointer(&name[1..]).unwrap(), all, at);
    }
    if let Some(options) = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array()) {
        let fits = |option: &&Value| match (value.as_object(), option["properties"].as_object()) {
            (Some(value), Some(option)) => value.keys().eq(option.keys()),
            (value, _) => value.is_none() && option["type"] != "null",
        };
        let option = options.iter().find(fits);
        return compare(value, option.unwrap_or_else(|| panic!("{at} is no option")), all, at);
    }
    match value {
        Value::Object(members) => {
            let known = schema["properties"].as_object().unwrap_or_else(|| panic!("{at} is no object"));
            let (there, known_names): (Vec<_>, Vec<_>) = (members.keys().collect(), known.keys().collect());
            assert_eq!(there, known_names, "{at}: the record, and docs/record.schema.json");
            members.iter().for_each(|(name, value)| {
                compare(value, &known[name], all, &format!("{at}.{name}"));
            });
        }
        Value::Array(values) => {
            assert!(!values.is_empty(), "{at} should have something in it");
            values.iter().for_each(|value| compare(value, &schema["items"], all, at));
        }
        plain => {
            if let Some(values) = schema["enum"].as_array() {
                assert!(values.contains(plain), "{at}: {plain}");
            }
        }
    }
}

#[test]
fn the_schema_has_the_members_that_records_have() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let record: Value = serde_json::from_slice(&full().to_bytes().unwrap()).unwrap();
    compare(&record, &schema, &schema, "record");
    let levels = [Level::Written, Level::Read, Level::Device, Level::Drive, Level::Replugged];
    let levels: Vec<Value> = levels.map(|level| serde_json::to_value(level).unwrap()).into();
    assert_eq!(schema["properties"]["verified"]["enum"], Value::from(levels));
    let names = RootName::ALL.map(|name| Value::from(name.as_str()));
    assert_eq!(schema["$defs"]["rootFile"]["properties"]["name"]["enum"], Value::from(names.to_vec()));
    let limit = &schema["$defs"]["size"]["maximum"];
    assert_eq!(limit, &Value::from(crate::limits::BLOB));
}

#[test]
fn the_page_names_every_member_and_every_critical_feature() {
    let page = include_str!("../../docs/format.md");
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let objects = schema["$defs"].as_object().unwrap().values().chain([&schema]);
    for name in objects.filter_map(|object| object["properties"].as_object()).flat_map(|o| o.keys()) {
        let told = page.contains(&format!("`{name}`")) || page.contains(&format!("\"{name}\""));
        assert!(told, "docs/format.md says nothing of {name}");
    }
    for feature in super::commit::KNOWN {
        assert!(page.contains(&format!("| `{feature}` |")), "docs/format.md has no row for {feature}");
    }
}
