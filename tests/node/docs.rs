//! The blocks of the documentation that need a node, run on one.

use crate::support::carry::text;
use crate::support::cluster::available;
use crate::support::node::Node;
use crate::support::pages::{Desk, pages, read, split};

#[test]
fn blocks_that_need_a_node_run_on_one() {
    let version = "2.1";
    if !available(version) {
        return;
    }
    let mut ran = 0;
    for path in pages() {
        let (blocks, _) = split(&read(&path));
        let blocks: Vec<_> = blocks.into_iter().filter(|block| block.info == "sh node").collect();
        if blocks.is_empty() {
            continue;
        }
        let (desk, node) = (Desk::new(), Node::start(version));
        let socket = node.socket();
        for block in blocks {
            eprintln!("{}:{}", path.display(), block.line);
            desk.run_with(&block.code, &[("CONTAINERD_ADDRESS", text(&socket))]);
            ran += 1;
        }
    }
    assert!(ran > 4, "{ran} blocks were run");
}
