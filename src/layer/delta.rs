//! Deltas: a layer's tar as a zstd patch against the tar of another layer.
//!
//! A patch is one zstd frame whose prefix is the base (`zstd --patch-from`). Base and tar are files of
//! ours that are mapped, and let go of as they are used. Making a patch takes about 80 MiB of memory, 1/16
//! of the window and the patch itself; applying one about 20 MiB, whatever the tars' size.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use zstd_safe::{CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer};

use super::growing::Growing;
use super::scratch::Mapped;
use super::{CHUNK, Scratch};
use crate::limits::{DELTA as MAX_PATCH, DELTA_TAR as MAX_TAR};

/// Measured on 14 layers of Debian packages with their security updates, 326 MB gzip: level 3 gives
/// 24.9 MB in 2.8 s, level 9 23.4 MB in 5.4 s.
const LEVEL: i32 = 3;
const MIN_WINDOW: u32 = 10;
/// zstd looks at about 1 GB of a base in a second.
const FORGET_EVERY: Duration = Duration::from_millis(30);
/// That of the largest tar.
const MAX_WINDOW: u32 = MAX_TAR.ilog2();

/// A patch that was made.
#[derive(Debug)]
pub struct Patch {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The base-2 logarithm of the window that it was made with.
    pub window: u32,
}

/// Makes the patch that leads from `base` to `tar`; `None` when it takes more than `limit` bytes.
///
/// The bytes depend on base, tar and libzstd alone. Errors: either tar is larger than [`MAX_TAR`], or
/// cannot be mapped.
pub fn make(base: &Scratch, tar: &Scratch, limit: u64) -> io::Result<Option<Patch>> {
    let longest = base.len().max(tar.len());
    if longest > MAX_TAR {
        return Err(invalid("a tar of more than 2 GiB has no delta"));
    }
    // The base can be referred to only as long as the window reaches over all of the tar, too.
    let window = longest.next_power_of_two().ilog2().max(MIN_WINDOW);
    let (base, tar) = (base.map()?, tar.map()?);
    let mut context = CCtx::create();
    for parameter in [
        CParameter::CompressionLevel(LEVEL),
        CParameter::WindowLog(window),
        CParameter::EnableLongDistanceMatching(true),
        CParameter::ChecksumFlag(true),
    ] {
        context.set_parameter(parameter).map_err(zstd_error)?;
    }
    context.ref_prefix(&base).map_err(zstd_error)?;
    let mut bytes = Vec::with_capacity(limit.min(MAX_PATCH) as usize);
    match forgetting([&base, &tar], || context.compress2(&mut bytes, &tar)) {
        Ok(_) => {
            bytes.shrink_to_fit();
            Ok(Some(Patch { bytes, window }))
        }
        // The one way to fail: what was set is legal, and no memory comes from outside.
        Err(code) if zstd_safe::get_error_name(code).contains("too small") => Ok(None),
        Err(code) => Err(zstd_error(code)),
    }
}

/// Does work that looks at the whole of files in one call, and lets go of their memory meanwhile.
fn forgetting<T>(files: [&Mapped; 2], work: impl FnOnce() -> T) -> T {
    let (working, ended) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let forget = move || {
            while ended.recv_timeout(FORGET_EVERY) == Err(RecvTimeoutError::Timeout) {
                // Best effort, as is the thread itself: without it, the page cache counts as ours.
                let _ = files.map(Mapped::forget);
            }
        };
        let _ = thread::Builder::new().spawn_scoped(scope, forget);
        let done = work();
        drop(working);
        done
    })
}

/// Applies `patch` to `base` in a new file in `directory`, which has `size` bytes.
///
/// Whatever the patch says, no more than `size` bytes are written. `patch` is read to its end in any
/// case, so that a reader which proves itself there is heard first. [`io::ErrorKind::InvalidData`] when
/// it does not lead from this base to a tar of that size, as far as the patch's own checksum of 32 bits
/// tells: only the tar's digest proves it ([`Scratch::digest`], or whoever takes the tar and hashes it).
pub fn apply(directory: &Path, base: &Scratch, patch: impl Read, size: u64) -> io::Result<Scratch> {
    if base.len().max(size) > MAX_TAR {
        return Err(invalid("a tar of more than 2 GiB has no delta"));
    }
    let mut patch = BufReader::with_capacity(CHUNK, patch.take(MAX_PATCH));
    let base = base.map()?;
    let applied = Applying::new(directory, &base, size)?.run(&mut patch);
    // A damaged patch does not decode, either; that it is damaged is what has to be known.
    io::copy(&mut patch, &mut io::sink())?;
    applied
}

/// A tar that comes about.
struct Applying<'a> {
    context: DCtx<'a>,
    base: &'a Mapped,
    tar: Growing,
    /// Bytes of the tar so far.
    done: usize,
}

impl<'a> Applying<'a> {
    fn new(directory: &Path, base: &'a Mapped, size: u64) -> io::Result<Self> {
        let mut context = DCtx::create();
        for parameter in [DParameter::WindowLogMax(MAX_WINDOW), DParameter::StableOutBuffer(true)] {
            context.set_parameter(parameter).map_err(zstd_error)?;
        }
        context.ref_prefix(base).map_err(zstd_error)?;
        let tar = Growing::new(directory, size as usize)?;
        Ok(Self { context, base, tar, done: 0 })
    }

    fn run(mut self, patch: &mut impl BufRead) -> io::Result<Scratch> {
        // What zstd asks for leads to one block, so that the tar is taken away piece by piece.
        let mut wanted = 1;
        while wanted > 0 {
            let input = match patch.fill_buf() {
                Ok([]) => return Err(invalid("the patch is cut off")),
                Ok(input) => &input[..wanted.min(input.len())],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let mut input = InBuffer::around(input);
            let mut output = OutBuffer::around_pos(self.tar.bytes(), self.done);
            wanted = self.context.decompress_stream(&mut output, &mut input).map_err(zstd_error)?;
            let (done, read) = (output.pos(), input.pos());
            if read == 0 && done == self.done {
                return Err(invalid("the patch gives more than it should"));
            }
            self.done = done;
            patch.consume(read);
            if self.tar.is_due(done) {
                self.tar.keep(done)?;
                self.base.forget()?;
            }
        }
        let size = self.tar.bytes().len();
        if self.done != size {
            return Err(invalid(&format!("the patch gives {} bytes, not {size}", self.done)));
        }
        if !patch.fill_buf()?.is_empty() {
            return Err(invalid("something follows the patch"));
        }
        self.tar.finish()
    }
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.to_owned())
}

fn zstd_error(code: usize) -> io::Error {
    invalid(&format!("zstd: {}", zstd_safe::get_error_name(code)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Digest;

    fn noise(length: usize, seed: u32) -> Vec<u8> {
        let mut state = seed;
        let next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        std::iter::repeat_with(next).take(length).collect()
    }

    /// Two tars, the second with a hole, something new and something moved.
    fn pair() -> (Vec<u8>, Vec<u8>) {
        let old = noise(3 << 20, 1);
        let new = [&old[1 << 20..], &noise(4096, 2), &old[..900_000]].concat();
        (old, new)
    }

    fn scratch(bytes: &[u8]) -> Scratch {
        Scratch::unproven_tar(&std::env::temp_dir(), bytes, MAX_TAR).unwrap()
    }

    fn rebuild(base: &[u8], patch: &[u8], diff_id: Digest, size: u64) -> io::Result<Vec<u8>> {
        let tar = apply(&std::env::temp_dir(), &scratch(base), patch, size)?;
        if tar.digest()? != diff_id {
            return Err(invalid("another tar"));
        }
        let mut bytes = Vec::new();
        tar.reader()?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    #[test]
    fn a_patch_holds_what_is_new_and_leads_back() {
        let (old, new) = pair();
        let made = make(&scratch(&old), &scratch(&new), 1 << 20).unwrap().unwrap();
        assert!(made.bytes.len() < 3 * 4096, "{}", made.bytes.len());
        assert_eq!(made.window, 22);
        assert_eq!(rebuild(&old, &made.bytes, Digest::of(&new), new.len() as u64).unwrap(), new);
        let again = make(&scratch(&old), &scratch(&new), 5 << 20).unwrap().unwrap();
        assert_eq!(again.bytes, made.bytes, "the limit does not change the bytes");
    }

    #[test]
    fn no_patch_is_larger_than_the_limit() {
        let (old, new) = pair();
        assert!(make(&scratch(&noise(1000, 3)), &scratch(&new), new.len() as u64 / 2).unwrap().is_none());
        let made = make(&scratch(&old), &scratch(&new), 1 << 20).unwrap().unwrap();
        let exactly = made.bytes.len() as u64;
        assert!(make(&scratch(&old), &scratch(&new), exactly - 1).unwrap().is_none());
    }

    #[test]
    fn nothing_and_little_have_patches_too() {
        for (old, new) in [(&b""[..], &b""[..]), (b"", b"new"), (b"old", b""), (b"old", b"older")] {
            let made = make(&scratch(old), &scratch(new), 1000).unwrap().unwrap();
            assert_eq!(rebuild(old, &made.bytes, Digest::of(new), new.len() as u64).unwrap(), new);
        }
    }

    #[test]
    fn another_base_another_size_and_another_result_are_errors() {
        let (old, new) = pair();
        let (diff_id, size) = (Digest::of(&new), new.len() as u64);
        let patch = make(&scratch(&old), &scratch(&new), 1 << 20).unwrap().unwrap().bytes;
        let mut other = old.clone();
        other[2 << 20] ^= 1;
        for wrong in [other.as_slice(), &old[..old.len() - 1], &old[1..], b""] {
            assert!(rebuild(wrong, &patch, diff_id, size).is_err());
        }
        for wrong in [0, size - 1, size + 1, MAX_TAR + 1] {
            assert!(rebuild(&old, &patch, diff_id, wrong).is_err(), "{wrong}");
        }
        assert!(rebuild(&old, &patch, Digest::of(b"x"), size).is_err());
    }

    #[test]
    fn no_damage_to_a_patch_goes_unnoticed() {
        let (old, new) = pair();
        let (diff_id, size) = (Digest::of(&new), new.len() as u64);
        let patch = make(&scratch(&old), &scratch(&new), 1 << 20).unwrap().unwrap().bytes;
        for at in (0..patch.len()).step_by(97).chain(0..24) {
            let mut damaged = patch.clone();
            damaged[at] ^= 0x41;
            // A bit that means nothing may be changed; the result may not.
            if let Ok(bytes) = rebuild(&old, &damaged, diff_id, size) {
                assert_eq!(bytes, new, "byte {at}");
            }
        }
        for end in [0, 1, 5, patch.len() / 2, patch.len() - 1] {
            assert!(rebuild(&old, &patch[..end], diff_id, size).is_err(), "cut at {end}");
        }
        let more = [patch.as_slice(), &patch].concat();
        assert!(rebuild(&old, &more, diff_id, size).is_err(), "it would write more than the size");
        // A frame that says it holds an exabyte, in a window of as much.
        let huge = [&0xFD2F_B528_u32.to_le_bytes()[..], &[0xE0], &[0xFF; 8], &[1, 0, 0]].concat();
        assert!(rebuild(&old, &huge, diff_id, size).is_err());
    }
}
