//! How a command ends that does not end well: an error of the library, or what the command itself found.

use std::sync::Arc;

use crate::error::Error;

/// How a command ends: a [`Failure`] unless it ends well.
pub(super) type Ended<T = ()> = Result<T, Failure>;

/// Why a command did not end well.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Something failed.
    #[error(transparent)]
    Error(#[from] Error),
    /// Some of the images could not be carried; the others were.
    #[error("{} of {total} images were not carried", failed.len())]
    Partial {
        /// How many were asked for.
        total: usize,
        /// The names of those that failed, and why.
        failed: Vec<(String, Arc<Error>)>,
    },
    /// `verify` found damage.
    #[error("medium: {errors} {} of damage", if *errors == 1 { "finding" } else { "findings" })]
    Findings {
        /// How many findings mean damage.
        errors: usize,
    },
    /// `repair` could not get everything back.
    #[error("medium: {lost} of {} damaged files could not be repaired", repaired + lost)]
    Unrepaired {
        /// How many files are whole again.
        repaired: usize,
        /// How many are not.
        lost: usize,
    },
    /// What containerd holds is damaged.
    #[error("node: {errors} damaged blobs")]
    Damaged {
        /// How many blobs are damaged or gone.
        errors: usize,
    },
    /// A set of several media of which some were not imported yet.
    #[error("volume {number} of {of} is on the node; {} {} not", volumes(missing), if missing.len() == 1 { "is" } else { "are" })]
    VolumesMissing {
        /// The medium that was imported.
        number: u32,
        /// How many there are.
        of: u32,
        /// Those that are missing.
        missing: Vec<u32>,
    },
    /// Something keeps pods from starting on the node.
    #[error("node: {errors} {} pods from starting", if *errors == 1 { "finding keeps" } else { "findings keep" })]
    NotReady {
        /// How many findings.
        errors: usize,
    },
}

fn volumes(numbers: &[u32]) -> String {
    let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    format!("{} {}", if numbers.len() == 1 { "volume" } else { "volumes" }, numbers.join(", "))
}
