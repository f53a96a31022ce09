//! What is asked of a medium before any of it is believed. Decides only; reads no file and no clock.

use time::OffsetDateTime;

use super::memory::{Memory, Position};
use super::refusal::Refusal;
use super::{AllowedSigners, Signer};
use crate::config::Rule;
use crate::patterns::matches;
use crate::record::{LaneName, Record, RootName, Timestamp};

/// The largest step of a medium's sequence that is taken: who counts further does not count exports.
const MAX_STEP: u64 = 1_000_000;
/// The largest step of a lane's time of issue that is taken, in seconds: ten years.
const MAX_LANE_STEP: u64 = 10 * 365 * 24 * 3600;

/// What a machine asks of a medium.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The signers that count; `None` where signatures are not looked at.
    pub allowed: Option<AllowedSigners>,
    /// Whether a medium is refused that too few of them signed.
    pub required: bool,
    /// How many of them have to sign.
    pub threshold: usize,
    /// Which of them may bring what; all of them everything where there is no rule.
    pub rules: Vec<Rule>,
    /// The lane that this machine is in.
    pub lane: Option<LaneName>,
    /// Whether a medium that is for a lane is refused where this machine is in none.
    pub needs_lane: bool,
    /// The time that counts.
    pub now: OffsetDateTime,
}

/// What the signatures of a record are worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignatureVerdict {
    /// Signatures were not looked at.
    Unchecked,
    /// These signed it, each key once; as many as have to.
    Signed(Vec<Signer>),
    /// Too few did whose signature counts, and that is allowed: a sentence, free of the medium's bytes.
    Unsigned(String),
}

impl Policy {
    /// Judges the signatures of a record by its bytes; nothing is parsed.
    ///
    /// The error says why the medium is refused; it holds no byte of it.
    pub fn signatures(&self, record: &[u8], signatures: &[Vec<u8>]) -> Result<SignatureVerdict, String> {
        let Some(allowed) = &self.allowed else {
            let refused = || Err("nobody's signature counts on this machine".into());
            return if self.required { refused() } else { Ok(SignatureVerdict::Unchecked) };
        };
        let signers = allowed.check(record, signatures, self.now).and_then(|signers| {
            if signers.len() >= self.threshold {
                return Ok(signers);
            }
            Err(format!("{} signed it who may, {} have to", signers.len(), self.threshold))
        });
        match signers {
            Ok(signers) => Ok(SignatureVerdict::Signed(signers)),
            Err(reason) if self.required => Err(reason),
            Err(reason) => Ok(SignatureVerdict::Unsigned(reason)),
        }
    }

    /// Whether a record is for this machine at all: its lane. With signatures or without.
    pub fn lane(&self, record: &Record) -> Result<(), Refusal> {
        let medium = record.lane.as_ref().map(|lane| lane.name.clone());
        match (&medium, &self.lane) {
            (Some(medium), Some(machine)) if medium == machine => Ok(()),
            (None, None) => Ok(()),
            (Some(_), None) if !self.needs_lane => Ok(()),
            _ => Err(Refusal::Lane { medium, machine: self.lane.clone() }),
        }
    }

    /// Whether a record's time is over. The clock is believed as far as nothing that was taken is newer.
    pub fn expiry(&self, record: &Record, memory: &Memory) -> Result<(), Refusal> {
        let clock = Timestamp::from(self.now);
        let now = memory.newest().map_or(clock, |newest| newest.max(clock));
        match record.expires {
            Some(expires) if now >= expires => Err(Refusal::Expired { expires, now, taken: now > clock }),
            _ => Ok(()),
        }
    }

    /// Whether enough of the signers may bring each image and file of a record.
    pub fn brings(&self, record: &Record, signers: &[Signer]) -> Result<(), Refusal> {
        if self.rules.is_empty() {
            return Ok(());
        }
        for image in &record.images {
            // What has no name cannot be allowed: no pattern would ever be asked about it.
            if image.names.is_empty() {
                return Err(self.nobody(format!("the image {}, which has no name", image.original.digest)));
            }
            for name in &image.names {
                self.enough(signers, name.to_string(), |rule| &rule.images)?;
            }
            // Other tools find a referrer by its name; under the image's own repository it comes with the image.
            for name in image.referrers.iter().filter_map(|referrer| referrer.name.as_ref()) {
                if !image.names.iter().any(|own| own.repository() == name.repository()) {
                    self.enough(signers, name.to_string(), |rule| &rule.images)?;
                }
            }
        }
        for file in &record.files {
            self.enough(signers, file.name.to_string(), |rule| &rule.files)?;
        }
        // The program that people start from the medium is one of the files, or is asked about as one.
        for program in record.root.iter().filter(|file| file.name == RootName::Program) {
            if !record.files.iter().any(|file| file.digest == program.digest) {
                self.enough(signers, program.name.as_str().into(), |rule| &rule.files)?;
            }
        }
        Ok(())
    }

    fn nobody(&self, what: String) -> Refusal {
        Refusal::Brings { what, may: 0, threshold: self.threshold }
    }

    fn enough(
        &self,
        signers: &[Signer],
        what: String,
        patterns: impl Fn(&Rule) -> &[String],
    ) -> Result<(), Refusal> {
        let fits = |patterns: &[String], text: &str| patterns.iter().any(|pattern| matches(pattern, text));
        let may = |signer: &&Signer| {
            self.rules.iter().any(|rule| {
                signer.names.iter().any(|name| fits(&rule.signers, name)) && fits(patterns(rule), &what)
            })
        };
        let may = signers.iter().filter(may).count();
        let threshold = self.threshold;
        if may >= threshold { Ok(()) } else { Err(Refusal::Brings { what, may, threshold }) }
    }

    /// Whether a commit comes after the one that was taken last, or is that one.
    pub fn order(&self, position: &Position, memory: &Memory) -> Result<(), Refusal> {
        let Some(seen) = memory.0.get(&position.line) else { return Ok(()) };
        let step = if position.line.starts_with("lane ") { MAX_LANE_STEP } else { MAX_STEP };
        let line = position.line.clone();
        if position.order < seen.order {
            Err(Refusal::Older { line, newest: seen.created, this: position.created })
        } else if position.order - seen.order > step {
            Err(Refusal::Leaps(line))
        } else if position.order == seen.order && position.record != seen.record {
            Err(Refusal::Forked(line))
        } else {
            Ok(())
        }
    }
}
