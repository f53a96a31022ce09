//! Generates the CRI client from `proto/`.

fn main() {}
