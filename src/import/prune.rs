//! After an import: taking away what earlier imports brought and the medium no longer has.

use std::collections::HashSet;

use crate::error::Result;
use crate::medium::Medium;
use crate::node::{self, Node, PrunedNames};
use crate::plan::import::prune::{Kept, PrunePlan, Scope};
use crate::progress::Run;

/// Plans what [`prune`] would remove; nothing is changed.
///
/// It goes by all images of the newest record, also where only some are imported. `moving` are the names
/// that an import which is still to come will move.
pub fn plan_prune(medium: &Medium, node: &Node, moving: &HashSet<String>, scope: Scope) -> Result<PrunePlan> {
    let kept = Kept::of(medium.committed()?);
    let imported = node::imported(node, |image| kept.lacks(image))?;
    let uses = match imported.is_empty() {
        true => Default::default(),
        false => node::uses(node, &imported)?,
    };
    let moving: HashSet<&str> = moving.iter().map(String::as_str).collect();
    Ok(PrunePlan::new(&kept, &imported, &uses, &moving, scope))
}

/// Removes what the medium no longer has. To be called once an import has succeeded.
///
/// Returns the plan and what was done of it.
pub fn prune(medium: &Medium, node: &Node, scope: Scope, run: Run<'_>) -> Result<(PrunePlan, PrunedNames)> {
    let plan = plan_prune(medium, node, &HashSet::new(), scope)?;
    let done = node::prune(node, &plan, run)?;
    Ok((plan, done))
}
