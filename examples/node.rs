//! The tests' node as a program, for scripts: a private containerd that runs pods.
//!
//! ```text
//! node start DIR [VERSION]       starts containerd (1.6, 1.7 or 2.1) with everything of it in DIR
//! node pod DIR IMAGE [ARG]...    runs a pod with one container to its end and prints what it wrote
//! node restart DIR               stops containerd and starts it again
//! node stop DIR                  ends pods and containerd; DIR stays
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::process::ExitCode;

#[allow(missing_docs, missing_debug_implementations, unreachable_pub, dead_code)]
#[path = "../tests/support/node.rs"]
mod node;

use node::Node;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["start", dir, rest @ ..] => {
            let version = rest.first().copied().unwrap_or("2.1");
            if let Some(reason) = node::missing(version) {
                eprintln!("node: {reason}");
                return ExitCode::FAILURE;
            }
            println!("{}", Node::start_in(version, Path::new(dir)).socket().display());
        }
        ["pod", dir, image, args @ ..] => match Node::attach(Path::new(dir)).run_pod(image, args) {
            Ok(ran) => {
                println!("{}", ran.output);
                return ExitCode::from(ran.exit_code.clamp(0, 255) as u8);
            }
            Err(reason) => {
                eprintln!("node: {reason}");
                return ExitCode::FAILURE;
            }
        },
        ["restart", dir] => Node::attach(Path::new(dir)).restart(),
        ["stop", dir] => Node::attach(Path::new(dir)).shut_down(),
        _ => {
            eprintln!("usage: node start DIR [VERSION] | pod DIR IMAGE [ARG]... | restart DIR | stop DIR");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
