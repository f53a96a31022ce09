//! What a commit record says besides its images, and who signs it.

use super::Options;
use super::carry::Carried;
use crate::error::Result;
use crate::layer::Zstd;
use crate::medium::{Medium, Sign};
use crate::plan::{ExportPlan, Verdict};
use crate::progress::Run;
use crate::record::{Encoded, Lane, Record};
use crate::trust::SigningKey;

/// Whether the lane or the time of expiry that is asked for is another than the medium has.
pub(super) fn differs(record: Option<&Record>, options: &Options) -> bool {
    let name = record.and_then(|record| record.lane.as_ref()).map(|lane| &lane.name);
    let expires = record.and_then(|record| record.expires);
    options.lane.as_ref().is_some_and(|wanted| wanted.as_ref() != name)
        || options.expires.is_some_and(|wanted| wanted != expires)
}

/// Puts the lane and the time of expiry that are asked for into the next record.
pub(super) fn apply(record: &mut Record, options: &Options) {
    if let Some(name) = &options.lane {
        // A medium that comes into another lane goes on with the time of its own.
        let issued = record.lane.as_ref().map_or(0, |lane| lane.issued);
        record.lane = name.clone().map(|name| Lane { name, issued });
    }
    if let Some(expires) = options.expires {
        record.expires = expires;
    }
    record.name_features();
}

/// Commits `record`, with the signature that is asked for on the device before it; whether it is signed.
pub(super) fn commit(medium: &mut Medium, record: Record, options: &Options, run: Run<'_>) -> Result<bool> {
    let sign = options.sign_key.as_ref().map(|key| move |bytes: &[u8]| sign(key, bytes, run));
    medium.commit_signed(record, sign.as_ref().map(|sign| sign as Sign<'_>))?;
    Ok(sign.is_some())
}

/// Signs the newest record, which stays as it is, unless the key has signed it before.
pub(super) fn sign_as_it_is(medium: &Medium, options: &Options, run: Run<'_>) -> Result<bool> {
    let Some(key) = options.sign_key.as_ref().filter(|_| medium.record().is_some()) else {
        return Ok(false);
    };
    let (_, signed) = medium.sign(|bytes, signatures| {
        if key.has_signed(bytes, signatures) { Ok(None) } else { sign(key, bytes, run).map(Some) }
    })?;
    Ok(signed)
}

/// A key that gives up because somebody interrupted it has not failed.
fn sign(key: &SigningKey, bytes: &[u8], run: Run<'_>) -> Result<Vec<u8>> {
    key.sign(bytes).or_else(|error| run.check().and(Err(error)))
}

/// Notes unusual settings of layers that were recompressed: a repair makes the same bytes again.
pub(super) fn note_settings(
    record: &mut Record,
    plan: &ExportPlan,
    carried: &Carried,
    compression: Option<Zstd>,
) {
    let Some(zstd) = compression.filter(|zstd| *zstd != Zstd::default()) else { return };
    let made = plan.layers.iter().filter(|step| !matches!(step.verdict, Verdict::Present(..)));
    for layer in made.filter_map(|step| carried.step(step)) {
        let digest = layer.encoding.digest;
        let as_it_was = layer.originals.iter().any(|original| original.digest == digest);
        if !as_it_was && record.encoded.iter().all(|known| known.digest != digest) {
            record.encoded.push(Encoded { digest, level: zstd.level, window: zstd.window });
        }
    }
    record.encoded.sort();
}
