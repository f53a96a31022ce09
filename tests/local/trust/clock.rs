//! Clocks that are wrong: what is newer is decided by sequences, and what a clock decides says so.

use std::fs;

use super::site::Site;
use crate::support::carry::text;
use crate::support::node::Node;
use crate::support::node_state::{State, empty};
use crate::support::{clock, cluster};

// Beyond the seconds that 32 bits count.
const YEAR_2106: &str = "2106-04-05 12:00:00";
const YEAR_1970: &str = "1970-01-01 00:00:10";

// fault-matrix: rows 69
#[test]
fn sequences_decide_which_medium_is_newer_whatever_the_clocks_say() {
    if !clock::available() {
        return;
    }
    let mut site = Site::new();
    for lane in ["none", "plant-a"] {
        // The exporter's clock leaps, and is set back.
        site.clock = Some(YEAR_2106);
        let older = format!("older-{lane}");
        site.export("app:1", &format!("1-{lane}"), &["--lane", lane]);
        assert_eq!(site.record().created, "2106-04-05T12:00:00Z");
        site.copy("medium", &older);
        let sequence = site.record().sequence;
        site.clock = Some(YEAR_1970);
        site.export("app:1", &format!("2-{lane}"), &["--lane", lane]);
        assert!(site.record().created.starts_with("1970-01-01T00:00:"), "{}", site.record().created);
        assert_eq!(site.record().sequence, sequence + 1);
        site.copy("medium", "newest");
        site.settings(if lane == "none" { "" } else { "lane = \"plant-a\"" });
        for node in [Some(YEAR_1970), None, Some(YEAR_2106)] {
            site.clock = node;
            let _ = fs::remove_dir_all(site.stick.at("state"));
            for medium in [older.as_str(), "newest"] {
                site.copy(medium, "medium");
                site.take(0, &["--force"]);
                site.command("verify", 0, &[]);
            }
            site.copy(&older, "medium");
            site.refused("a newer commit of");
            site.copy("newest", "medium");
            site.take(0, &["--force"]);
        }
        site.clock = None;
    }
}

// fault-matrix: rows 69
#[test]
fn what_is_refused_for_a_clock_that_is_wrong_says_what_the_clock_says() {
    if !clock::available() {
        return;
    }
    let mut site = Site::new();
    site.export("app:1", "1", &["--lane", "plant-a", "--expires", "2090-01-01"]);
    site.settings("lane = \"plant-a\"");
    site.clock = Some(YEAR_2106);
    site.refused("it expired at 2090-01-01T00:00:00Z, and the clock says 2106-04-05T12:00:");
    assert!(site.take(4, &[]).contains("if the time of this machine is right"));
    site.clock = Some(YEAR_1970);
    site.take(0, &[]);
    site.stick.allow("key", "valid-after=\"20200101Z\"");
    site.refused("is not valid yet: the clock says 1970-01-01T00:00:");
    site.stick.allow("key", "valid-before=\"21000101Z\"");
    site.take(0, &["--force"]);
    site.clock = Some(YEAR_2106);
    site.refused("is no longer valid: the clock says 2106-04-05T12:00:");
    site.stick.allow("key", "");
    // A medium of a lane whose exporter lives in 2106 would be the last that nodes take.
    site.export("app:1", "2", &["--expires", "none"]);
    site.clock = None;
    site.refused("it leaps so far ahead of the last commit of lane plant-a");
    assert!(site.take(4, &[]).contains("if the exporter's count or clock is right"));
}

// fault-matrix: rows 69
#[test]
fn an_import_in_2106_brings_what_one_today_brings() {
    if !clock::available() || !cluster::available("2.1") {
        return;
    }
    let mut site = Site::new();
    site.export("app:1", "1", &[]);
    let node = Node::start("2.1");
    let (medium, config, socket) = (site.stick.at("medium"), site.stick.at("config.toml"), node.socket());
    let arguments = ["import", text(&medium), "--config", text(&config), "--address", text(&socket)];
    site.clock = Some(YEAR_2106);
    site.run(0, arguments);
    let then = State::of(&node);
    assert_eq!(then.left(), Vec::<String>::new());
    empty(&node);
    site.clock = None;
    site.run(0, arguments);
    then.assert_is(&State::of(&node), "2106");
}
