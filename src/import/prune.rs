//! After an import: taking away what earlier imports brought and the medium no longer has.

use std::collections::HashSet;

use super::record_of;
use crate::error::Result;
use crate::medium::Medium;
use crate::node::{self, Node, Pruned};
use crate::plan::import::{ImportPlan, NameVerdict};
use crate::plan::prune::{Kept, PrunePlan, Scope};
use crate::progress::Run;

/// Plans what [`prune`] would remove; nothing is changed.
///
/// It goes by all images of the newest record, also where only some are imported. `import` is the plan
/// of an import that is still to come, which will move names.
pub fn plan_prune(
    medium: &Medium,
    node: &Node,
    import: Option<&ImportPlan>,
    scope: Scope,
) -> Result<PrunePlan> {
    let kept = Kept::of(record_of(medium)?);
    let imported = node::imported(node, |image| kept.lacks(image))?;
    let uses = match imported.is_empty() {
        true => Default::default(),
        false => node::uses(node, &imported)?,
    };
    let names = import.into_iter().flat_map(|plan| &plan.images).flat_map(|image| &image.names);
    let moves = |verdict: &NameVerdict| matches!(verdict, NameVerdict::Move(_));
    let moving: HashSet<&str> =
        names.filter(|(_, verdict)| moves(verdict)).map(|(name, _)| name.as_str()).collect();
    Ok(PrunePlan::new(&kept, &imported, &uses, &moving, scope))
}

/// Removes what the medium no longer has. To be called once an import has succeeded.
///
/// Returns the plan and what was done of it.
pub fn prune(medium: &Medium, node: &Node, scope: Scope, run: Run<'_>) -> Result<(PrunePlan, Pruned)> {
    let plan = plan_prune(medium, node, None, scope)?;
    let done = node::prune(node, &plan, run)?;
    Ok((plan, done))
}
