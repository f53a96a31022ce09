//! What the facts mean. Pure: one function for each group of checks, all findings of a node in one list.

mod node;
mod registries;
mod system;
mod workloads;

use super::{Diagnosis, NodeFacts};

/// Everything that is worth saying about a node, the worst first.
pub fn examine(facts: &NodeFacts) -> Vec<Diagnosis> {
    let mut findings = node::examine(facts);
    findings.extend(system::examine(facts));
    findings.extend(registries::examine(facts));
    findings.extend(workloads::examine(facts));
    findings.sort_by_key(|finding| finding.severity);
    findings
}

/// For the tests of the groups: on a node on which all is well nothing is found, and after `change`
/// exactly `expected`.
#[cfg(test)]
fn assert_found(expected: &[&str], mut facts: NodeFacts, change: impl FnOnce(&mut NodeFacts)) {
    let ids = |facts: &NodeFacts| examine(facts).iter().map(|finding| finding.id).collect::<Vec<_>>();
    assert_eq!(ids(&facts), Vec::<&str>::new(), "before");
    change(&mut facts);
    assert_eq!(ids(&facts), expected);
}
