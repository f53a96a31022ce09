//! Examines a medium and reports everything that is wrong with it.

mod deltas;
pub(crate) mod graph;

use std::collections::BTreeSet;
use std::sync::Mutex;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::image::{Descriptor, Digest};
use crate::layer::{self, Most};
use crate::medium::{IndexState, Medium, SignatureFile};
use crate::progress::{Event, Phase, Run};
use crate::readback::{self, Fault};
use crate::record::{Level, Record};
use crate::recovery;
use crate::trust;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something is damaged or missing: an import of what it concerns fails.
    Error,
    /// Carried images are whole, but another tool may trip over it, or a fallback is gone.
    Warning,
    /// Harmless.
    Note,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its name; the same in every version.
    pub id: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// The file, blob or image it is about.
    pub subject: String,
    /// A sentence.
    pub detail: String,
    /// The images that it concerns, and files as `file NAME`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
}

/// What was examined and found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The sequence of the commit record that was examined.
    pub sequence: Option<u64>,
    /// How many images it names.
    pub images: usize,
    /// How many files it names beside them.
    #[serde(skip_serializing_if = "is_zero")]
    pub files: usize,
    /// How many blobs were read.
    pub blobs: usize,
    /// Bytes that were read and hashed.
    pub bytes: u64,
    /// Whether layers were decoded.
    pub deep: bool,
    /// What is proven of the blobs that are whole.
    pub level: Option<Level>,
    /// Why it is not more: a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<&'static str>,
    /// Everything that was found.
    pub findings: Vec<Finding>,
}

impl Report {
    /// How many findings mean damage.
    pub fn errors(&self) -> usize {
        self.findings.iter().filter(|finding| finding.severity == Severity::Error).count()
    }

    fn add(&mut self, id: &'static str, severity: Severity, subject: impl ToString, detail: impl ToString) {
        let (subject, detail) = (subject.to_string(), detail.to_string());
        self.findings.push(Finding { id, severity, subject, detail, images: Vec::new() });
    }
}

/// Examines the medium: its structure, and the size and digest of every blob; with `deep` also that
/// each layer decodes to its diff_id.
///
/// Everything is looked at whatever is found. Only an interruption, or a medium of which not even a
/// directory can be read, is an error.
pub fn verify(medium: &Medium, deep: bool, run: Run<'_>) -> Result<Report> {
    verify_at(medium, deep, None, run)
}

/// The same, with more reading where `required` is a level that needs it. That it was reached is for the caller
/// to compare.
pub fn verify_at(medium: &Medium, deep: bool, required: Option<Level>, run: Run<'_>) -> Result<Report> {
    let mut report = Report { deep, ..Report::default() };
    for rejected in medium.rejected() {
        // One of a newer version that is older than the newest record is whole, and never read.
        let severity = if rejected.is_newer_format { Severity::Note } else { Severity::Error };
        report.add("record-damaged", severity, &rejected.name, &rejected.reason);
    }
    signature_findings(medium, &mut report)?;
    if let Some(fault) = medium.layout_fault()? {
        report.add("layout-file", Severity::Error, "oci-layout", fault);
    }
    let foreign = index_findings(medium, &mut report)?;
    let mut known: BTreeSet<Digest> = BTreeSet::new();
    let mut blobs = graph::foreign_blobs(medium, &foreign, &mut report);
    if let Some(record) = medium.record() {
        report.sequence = Some(record.sequence);
        report.images = record.images.len();
        report.files = record.files.len();
        graph::check_record(medium, record, &mut report);
        deltas::check_record(record, &mut report);
        blobs.extend(record.descriptors());
    } else if medium.rejected().is_empty() {
        let detail = "no export has been committed to this medium";
        report.add("record-missing", Severity::Warning, ".pannier/commits", detail);
    }
    blobs.sort_by_key(|blob| blob.digest);
    blobs.dedup_by_key(|blob| blob.digest);
    known.extend(blobs.iter().map(|blob| blob.digest));
    report.blobs = blobs.len();
    report.bytes = blobs.iter().map(|blob| blob.size).sum();
    let whole = read_back(medium, &blobs, required, &mut report, run)?;
    for file in medium.record().iter().flat_map(|record| &record.root) {
        if let Some(fault) = medium.root_fault(file)? {
            let detail = format!("{fault}; `pannier repair` copies it anew from its blob");
            report.add("root-file", Severity::Error, file.name.as_str(), detail);
        }
    }
    if let (true, Some(record)) = (deep, medium.record()) {
        decode_layers(medium, record, &whole, &mut report, run)?;
        deltas::apply(medium, record, &whole, &mut report, run)?;
    }
    recovery_findings(medium, &mut report, run)?;
    strays(medium, &known, &mut report)?;
    deltas::strays(medium, &known, &mut report)?;
    if let Some(record) = medium.record() {
        concern(record, &mut report);
    }
    Ok(report)
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Compares `index.json` with the record; returns the entries of other tools.
fn index_findings(medium: &Medium, report: &mut Report) -> Result<Vec<crate::medium::ForeignEntry>> {
    match medium.index_state()? {
        IndexState::Missing => {
            let detail = "missing; import works without it, the next export makes it anew";
            report.add("index-missing", Severity::Error, "index.json", detail);
            Ok(Vec::new())
        }
        IndexState::Damaged(reason) => {
            report.add("index-damaged", Severity::Error, "index.json", reason);
            Ok(Vec::new())
        }
        IndexState::Present { missing, unexpected, foreign } => {
            for name in missing {
                let detail = format!("has no entry for {name} as the commit record has it");
                report.add("index-entry-missing", Severity::Error, "index.json", detail);
            }
            for name in unexpected {
                let detail = format!("has an entry for {name} that the commit record does not have");
                report.add("index-entry-unexpected", Severity::Error, "index.json", detail);
            }
            Ok(foreign)
        }
    }
}

/// Signatures that are no longer what a key made of the record beside them. Whose key counts is asked elsewhere.
fn signature_findings(medium: &Medium, report: &mut Report) -> Result<()> {
    for SignatureFile { name, record, signature } in medium.signatures()? {
        let fault = match signature {
            Some(signature) => trust::is_intact(&signature, &record).err(),
            None => Some("is no signature".into()),
        };
        if let Some(fault) = fault {
            report.add("signature-damaged", Severity::Error, name, fault);
        }
    }
    Ok(())
}

/// The recovery data: damage to them hurts no image, but they may be needed tomorrow.
fn recovery_findings(medium: &Medium, report: &mut Report, run: Run<'_>) -> Result<()> {
    let Some(record) = medium.record() else { return Ok(()) };
    let Some(recovery) = &record.recovery else { return Ok(()) };
    if !record.recovery_is_current() {
        let detail = "made of other blobs than the newest commit names; the next export renews them";
        report.add("recovery-stale", Severity::Warning, ".pannier/recovery", detail);
    }
    for (name, fault) in recovery::damaged_files(medium, recovery, run)? {
        let id = if fault == "is missing" { "recovery-missing" } else { "recovery-damaged" };
        let detail = format!("{fault}; `pannier repair` makes it again while the blobs are whole");
        report.add(id, Severity::Error, format!(".pannier/recovery/{name}"), detail);
    }
    // Whatever wrote the newest record without renewing them made no copy of it either.
    let uncopied = if record.recovery_is_current() { recovery::uncopied(medium)? } else { Vec::new() };
    for sequence in uncopied {
        let subject = format!(".pannier/recovery/{sequence:010}.record");
        let detail = "the copy of the commit record is damaged or missing; `pannier repair` makes it again";
        report.add("recovery-copy", Severity::Error, subject, detail);
    }
    Ok(())
}

/// Reads every blob; returns the digests of those that are whole.
fn read_back(
    medium: &Medium,
    blobs: &[Descriptor],
    required: Option<Level>,
    report: &mut Report,
    run: Run<'_>,
) -> Result<BTreeSet<Digest>> {
    let damaged = Mutex::new(Vec::new());
    let note = |blob: &Descriptor, fault: Fault| {
        damaged.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((blob.digest, fault));
    };
    let outcome = match required {
        Some(Level::Drive | Level::Replugged) => readback::each_damaged_past_drive(medium, blobs, run, note)?,
        _ => readback::each_damaged(medium, blobs, run, note)?,
    };
    (report.level, report.limit) = (Some(outcome.level), outcome.limit);
    let mut damaged = damaged.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    damaged.sort_by_key(|(digest, _)| *digest);
    damaged.dedup_by_key(|(digest, _)| *digest);
    let mut whole: BTreeSet<Digest> = blobs.iter().map(|blob| blob.digest).collect();
    for (digest, fault) in damaged {
        let error = match fault {
            Fault::Damaged(error) => error,
            Fault::Weak(error) => {
                let detail = format!(
                    "{}; it was read at a further attempt: the medium wears out, copy it to another",
                    error.with_cause()
                );
                report.add("blob-weak", Severity::Warning, digest, detail);
                continue;
            }
        };
        whole.remove(&digest);
        let id = match &error {
            Error::NotFound { .. } | Error::BlobMissing { .. } => "blob-missing",
            Error::SizeMismatch { .. } => "blob-size",
            Error::DigestMismatch { .. } => "blob-digest",
            _ => "blob-unreadable",
        };
        let fsck = if error.is_filesystem_damage() { "; unmount it and run fsck" } else { "" };
        let detail = match &error {
            Error::BlobMissing { .. } => "it is missing".to_owned(),
            error => format!("{}{fsck}", error.with_cause()),
        };
        report.add(id, Severity::Error, digest, detail);
    }
    Ok(whole)
}

/// Decodes every encoding of every layer, as far as its bytes are whole.
fn decode_layers(
    medium: &Medium,
    record: &Record,
    whole: &BTreeSet<Digest>,
    report: &mut Report,
    run: Run<'_>,
) -> Result<()> {
    let bytes = record.layers.iter().flat_map(|layer| &layer.encodings).map(|encoding| encoding.size).sum();
    run.report(Event::Phase { phase: Phase::Decoding, bytes, items: record.layers.len() });
    for layer in &record.layers {
        for encoding in layer.encodings.iter().filter(|encoding| whole.contains(&encoding.digest)) {
            run.check()?;
            let decoded = medium.open_blob(encoding).map(|blob| layer::check(blob, Most::Bytes(layer.size)));
            let fault = match decoded {
                Ok(Ok(decoded)) if decoded.diff_id != layer.diff_id => {
                    Some(format!("decodes to {}, not to its diff_id {}", decoded.diff_id, layer.diff_id))
                }
                Ok(Ok(decoded)) if decoded.size != layer.size => {
                    Some(format!("decodes to {} bytes, not to {}", decoded.size, layer.size))
                }
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(format!("does not decode: {error}")),
                Err(error) => Some(error.to_string()),
            };
            if let Some(fault) = fault {
                report.add("layer-diff-id", Severity::Error, encoding.digest, fault);
            }
            run.report(Event::Advanced { item: &encoding.digest.short(), bytes: encoding.size });
        }
    }
    run.report(Event::PhaseEnded { phase: Phase::Decoding });
    Ok(())
}

/// Files that nothing refers to.
fn strays(medium: &Medium, known: &BTreeSet<Digest>, report: &mut Report) -> Result<()> {
    let mut unused = 0;
    let names = match medium.blob_names() {
        Err(Error::Invalid { what, reason, .. }) => {
            report.add("blob-names", Severity::Warning, what, reason);
            return Ok(());
        }
        other => other?,
    };
    for name in names {
        match Digest::from_hex(&name) {
            Ok(digest) if known.contains(&digest) => {}
            Ok(_) => unused += 1,
            Err(_) => {
                let subject = format!("blobs/sha256/{}", name.escape_debug());
                report.add(
                    "blob-name",
                    Severity::Note,
                    subject,
                    "its name is not a digest; it is never read",
                );
            }
        }
    }
    let parts = medium.stray_parts(|digest| known.contains(digest))?;
    if parts > 0 {
        let files = if parts == 1 { "1 file".to_owned() } else { format!("{parts} files") };
        report.add(
            "part-unused",
            Severity::Note,
            ".pannier/parts",
            format!("{files} that belong to no blob"),
        );
    }
    if unused > 0 {
        let files = if unused == 1 { "1 file".to_owned() } else { format!("{unused} files") };
        let detail = format!("{files} that neither the commit record nor index.json refers to");
        report.add("blob-unused", Severity::Note, "blobs/sha256", detail);
    }
    Ok(())
}

/// Notes with each finding about a blob the images that need it.
fn concern(record: &Record, report: &mut Report) {
    for finding in report.findings.iter_mut().filter(|finding| finding.images.is_empty()) {
        let Ok(digest) = finding.subject.parse::<Digest>() else { continue };
        finding.images = graph::needed_by(record, &digest);
    }
}
