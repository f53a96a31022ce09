//! Programs that a bare node can run: what the head of an ELF file says (elf(5)).

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use crate::error::{Error, Result, Side};
use crate::image::Platform;

/// A Linux program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elf {
    /// What it runs on.
    pub platform: Platform,
    /// Whether it runs without a dynamic linker and libraries.
    pub is_static: bool,
}

/// The program header that names a dynamic linker.
const PT_INTERP: u32 = 3;

impl Elf {
    /// Reads the head of the program at `path`.
    ///
    /// An error if it is no ELF program for 64 bits, or one for a processor that is not known.
    pub fn examine(path: &Path) -> Result<Self> {
        let mut file = File::open(path).map_err(Error::io(Side::Here, "open", path))?;
        let fail = |reason: &str| Error::invalid(Side::Here, path.display(), reason);
        match head(&mut file) {
            Ok(Ok(program)) => Ok(program),
            Ok(Err(reason)) => Err(fail(reason)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(fail("not a Linux program: it ends within its head"))
            }
            Err(error) => Err(Error::from_io(Side::Here, "read", path.to_owned(), error)),
        }
    }
}

fn head(file: &mut (impl Read + Seek)) -> io::Result<Result<Elf, &'static str>> {
    let mut header = [0; 64];
    file.read_exact(&mut header)?;
    if !header.starts_with(b"\x7fELF") {
        return Ok(Err("not a Linux program (ELF)"));
    }
    if header[4] != 2 {
        return Ok(Err("not a program for 64 bits"));
    }
    let little = header[5] == 1;
    let architecture = match (half(&header[18..], little), little) {
        (62, true) => "amd64",
        (183, true) => "arm64",
        (243, true) => "riscv64",
        (21, true) => "ppc64le",
        (22, false) => "s390x",
        _ => return Ok(Err("a program for a processor that is not known here")),
    };
    let (start, size, count) =
        (word(&header[32..], little), half(&header[54..], little), half(&header[56..], little));
    if count > 0 && size < 56 {
        return Ok(Err("not a Linux program: its program headers are too short"));
    }
    let mut is_static = true;
    for number in 0..u64::from(count) {
        let at = start.checked_add(number * u64::from(size)).ok_or(io::ErrorKind::UnexpectedEof)?;
        file.seek(SeekFrom::Start(at))?;
        let mut kind = [0; 4];
        file.read_exact(&mut kind)?;
        let kind = if little { u32::from_le_bytes(kind) } else { u32::from_be_bytes(kind) };
        is_static &= kind != PT_INTERP;
    }
    let platform = Platform::linux(architecture);
    Ok(Ok(Elf { platform, is_static }))
}

fn half(bytes: &[u8], little: bool) -> u16 {
    let bytes = [bytes[0], bytes[1]];
    if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) }
}

fn word(bytes: &[u8], little: bool) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[..8]);
    if little { u64::from_le_bytes(word) } else { u64::from_be_bytes(word) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// A head with these program headers.
    fn elf(machine: u16, little: bool, kinds: &[u32]) -> Vec<u8> {
        let half = |n: u16| if little { n.to_le_bytes() } else { n.to_be_bytes() };
        let word = |n: u64| if little { n.to_le_bytes() } else { n.to_be_bytes() };
        let mut elf = vec![0; 64 + kinds.len() * 56];
        elf[..4].copy_from_slice(b"\x7fELF");
        elf[4] = 2;
        elf[5] = if little { 1 } else { 2 };
        elf[18..20].copy_from_slice(&half(machine));
        elf[32..40].copy_from_slice(&word(64));
        elf[54..56].copy_from_slice(&half(56));
        elf[56..58].copy_from_slice(&half(kinds.len() as u16));
        for (number, kind) in kinds.iter().enumerate() {
            let kind = if little { kind.to_le_bytes() } else { kind.to_be_bytes() };
            elf[64 + number * 56..][..4].copy_from_slice(&kind);
        }
        elf
    }

    fn examined(bytes: Vec<u8>) -> Option<(String, bool)> {
        let program = head(&mut Cursor::new(bytes)).ok()?.ok()?;
        Some((program.platform.to_string(), program.is_static))
    }

    #[test]
    fn an_interpreter_makes_a_program_dynamic() {
        assert_eq!(examined(elf(62, true, &[1, 2, 1])), Some(("linux/amd64".into(), true)));
        assert_eq!(examined(elf(62, true, &[6, 3, 1])), Some(("linux/amd64".into(), false)));
        assert_eq!(examined(elf(183, true, &[1])), Some(("linux/arm64".into(), true)));
        assert_eq!(examined(elf(22, false, &[3])), Some(("linux/s390x".into(), false)));
    }

    #[test]
    fn what_is_no_program_is_refused_wherever_it_ends() {
        let whole = elf(62, true, &[1, 3]);
        for at in 0..64 + 56 + 4 {
            assert_eq!(examined(whole[..at].to_vec()), None, "cut at {at}");
        }
        assert_eq!(examined(elf(8, true, &[1])), None);
        let mut narrow = whole.clone();
        narrow[4] = 1;
        assert_eq!(examined(narrow), None);
        let mut far = whole;
        far[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(examined(far), None);
        assert_eq!(examined(b"#!/bin/sh\n".repeat(20)), None);
    }

    #[test]
    fn this_test_is_a_program_of_this_machine() {
        let program = Elf::examine(&std::env::current_exe().unwrap()).unwrap();
        assert_eq!(program.platform, Platform::host());
    }
}
