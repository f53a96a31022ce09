//! The program that an export puts at the root of the medium, and the lines beside it.

use std::path::{Path, PathBuf};

use crate::elf::Elf;
use crate::error::{Error, Result, Side};
use crate::image::Platform;
use crate::record::RootName;
use crate::source::{NamedPath, Platforms};

/// How to get a program that a bare node can run.
const HOW: &str = "`make static` builds one; --with-pannier=PATH takes it";

/// A program for the root, and the text of the README.
#[derive(Debug)]
pub(super) struct PannierProgram {
    /// The program, under the name that it is carried by.
    pub(super) file: NamedPath,
    /// The README.
    pub(super) readme: Vec<u8>,
}

/// The program at `path`, or this one: it must be linked statically, and run on one of `platforms`.
pub(super) fn program(path: Option<&Path>, platforms: &Platforms) -> Result<PannierProgram> {
    let path = match path {
        Some(path) => path.to_owned(),
        None => {
            std::env::current_exe().map_err(Error::io(Side::Here, "find", PathBuf::from("this program")))?
        }
    };
    let program = Elf::examine(&path)?;
    let fail = |reason: String| Err(Error::invalid(Side::Source, path.display(), reason));
    if !program.is_static {
        return fail(format!("needs libraries that a bare node may lack; {HOW}"));
    }
    if let Platforms::Only(wanted) = platforms
        && !wanted.iter().any(|platform| runs_on(&program.platform, platform))
    {
        let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        let reason = format!("is for {}, the medium for {}; {HOW}", program.platform, wanted.join(", "));
        return fail(reason);
    }
    let name = RootName::Program.as_str().parse().map_err(|error| Error::Usage(format!("{error}")))?;
    Ok(PannierProgram { file: NamedPath { name, path }, readme: readme(&program.platform).into_bytes() })
}

/// Whether a program for `own` runs on `platform`, whatever its variant.
fn runs_on(own: &Platform, platform: &Platform) -> bool {
    *own == Platform { variant: None, ..platform.clone() }
}

fn readme(platform: &Platform) -> String {
    format!(
        "Container images for a Kubernetes node that has no network, with `pannier` ({platform}) to import them.\n\
         Mount it on the node, as root:  mount -o ro /dev/sdX1 /mnt  and  cd /mnt  (lsblk shows which device it is)\n\
         Then, in this folder:  ./pannier verify .  and  ./pannier import .  and  ./pannier doctor\n\
         What is on it, and since when:  ./pannier list .\n\
         If programs may not be run from here, copy pannier to the node first; `pannier --help` says more.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_runs_on_every_variant_of_its_processor() {
        let platform = |text: &str| text.parse::<Platform>().unwrap();
        assert!(runs_on(&platform("linux/amd64"), &platform("linux/amd64/v3")));
        assert!(runs_on(&platform("linux/arm64"), &platform("linux/arm64/v8")));
        assert!(!runs_on(&platform("linux/amd64"), &platform("linux/arm64")));
        assert!(!runs_on(&platform("linux/amd64"), &platform("windows/amd64")));
    }

    #[test]
    fn the_readme_has_few_lines_that_fit_a_screen() {
        let text = readme(&Platform::host());
        assert_eq!(text.lines().count(), 5);
        assert!(text.lines().all(|line| line.len() <= 110), "{text}");
    }
}
