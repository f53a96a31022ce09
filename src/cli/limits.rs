//! `pannier limits`.

use super::output::Output;
use super::text;
use crate::error::Result;
use crate::limits::ALL;

/// Show the limits on what is read from media, sources and files
///
/// Whatever is beyond one of them is refused before it is read, or as soon as it goes beyond it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  pannier limits")]
pub(super) struct Args {}

pub(super) fn run(_: &Args, output: &Output) -> Result<()> {
    if output.json() {
        return output.document(&ALL);
    }
    let rows: Vec<[String; 3]> = ALL
        .iter()
        .map(|limit| {
            let value = match limit.unit {
                "bytes" => text::binary(limit.value),
                unit => format!("{} {unit}", limit.value),
            };
            [limit.name.to_owned(), value, limit.about.to_owned()]
        })
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let (name, value) = (width(0), width(1));
    let lines = rows.iter().map(|row| format!("{:name$}  {:>value$}  {}\n", row[0], row[1], row[2]));
    output.data(&lines.collect::<String>())
}
