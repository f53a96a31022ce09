//! A tar opened for reading any of its files at any time, several at once.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::oci_layout::Files;
use super::tar_index::{Extent, TarIndex};
use crate::error;
use crate::error::{Error, Result, Side};
use crate::image::Compression;
use crate::layer::{Counted, MAX_WINDOW, Most};
use crate::medium::Place;
use crate::progress::Stop;

const CHUNK: usize = 1 << 20;

/// A tar, plain or compressed.
///
/// A compressed one is decompressed once, into a file without a name in `TMPDIR` that is gone when the
/// process ends. Files are read by position, so any number of threads may read at a time.
#[derive(Clone, Debug)]
pub(super) struct Archive {
    file: Arc<File>,
    path: PathBuf,
    index: Arc<TarIndex>,
}

impl Archive {
    /// Opens the archive `path`; its compression is told by its first bytes.
    pub(super) fn open(path: &Path, stop: &Stop) -> Result<Self> {
        let file = open_regular(path)?;
        let mut start = [0; 18];
        let length = read_up_to(&file, &mut start).map_err(Error::io(Side::Source, "read", path))?;
        let file = match Compression::detect(&start[..length]) {
            Compression::None => file,
            compression => unpack(file, path, compression, stop)?,
        };
        let index = Arc::new(TarIndex::read(&file, path)?);
        Ok(Self { file: Arc::new(file), path: path.to_owned(), index })
    }

    /// Where the content of the file `name` lies.
    pub(super) fn find(&self, name: &str) -> Option<Extent> {
        self.index.find(name)
    }

    /// Where a file's content lies, for whoever reads it without the archive.
    pub(super) fn extent(&self, extent: Extent) -> Result<Place> {
        let file = self.file.try_clone().map_err(|error| self.read_error(error))?;
        Ok(Place { file, offset: extent.offset, size: extent.size })
    }

    /// Reads a file's content from `offset` on.
    pub(super) fn section(&self, extent: Extent, offset: u64) -> Section {
        let end = extent.offset + extent.size;
        Section { file: self.file.clone(), at: end.min(extent.offset.saturating_add(offset)), end }
    }

    /// An error of reading the archive.
    pub(super) fn read_error(&self, source: io::Error) -> Error {
        Error::from_io(Side::Source, "read", self.path.clone(), source)
    }
}

impl Files for Archive {
    fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let Some(extent) = self.find(name) else { return Ok(None) };
        if extent.size > limit {
            let what = format!("{} in {}", name, self.path.display());
            let reason = format!("{} bytes, more than the {limit} allowed", extent.size);
            return Err(Error::invalid(Side::Source, what, reason));
        }
        let mut bytes = Vec::with_capacity(extent.size as usize);
        self.section(extent, 0).read_to_end(&mut bytes).map_err(|error| self.read_error(error))?;
        Ok(Some(bytes))
    }

    fn size(&self, name: &str) -> Result<Option<u64>> {
        Ok(self.find(name).map(|extent| extent.size))
    }

    fn place(&self, name: &str) -> Result<Option<Place>> {
        self.find(name).map(|extent| self.extent(extent)).transpose()
    }

    fn open(&self, name: &str, offset: u64) -> Result<Option<Box<dyn Read + Send>>> {
        Ok(self.find(name).map(|extent| Box::new(self.section(extent, offset)) as _))
    }
}

/// A part of a file, read by position.
#[derive(Debug)]
pub(super) struct Section {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.end - self.at).unwrap_or(usize::MAX));
        let n = self.file.read_at(&mut buffer[..wanted], self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// Opens a file that the person named. A fifo or device would hang or never end, and is refused.
fn open_regular(path: &Path) -> Result<File> {
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = match File::options().read(true).custom_flags(nonblocking).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::not_found(Side::Source, path.display()));
        }
        opened => opened.map_err(Error::io(Side::Source, "open", path))?,
    };
    let kind = file.metadata().map_err(Error::io(Side::Source, "examine", path))?.file_type();
    if kind.is_dir() {
        let path = path.display();
        return Err(Error::Usage(format!(
            "{path} is a directory; a layout directory is given as oci:{path}"
        )));
    }
    if !kind.is_file() {
        return Err(Error::invalid(
            Side::Source,
            path.display(),
            "not a regular file: save the archive first",
        ));
    }
    Ok(file)
}

fn read_up_to(file: &File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], done as u64)? {
            0 => break,
            n => done += n,
        }
    }
    Ok(done)
}

/// Decompresses the archive into a file in `TMPDIR` that has no name.
fn unpack(file: File, path: &Path, compression: Compression, stop: &Stop) -> Result<File> {
    let read_error = || Error::io(Side::Source, "decompress", path);
    let least = least_size(&file, compression).map_err(read_error())?;
    let directory = std::env::temp_dir();
    let place = || Error::io(Side::Source, UNPACK, &directory);
    let mut unpacked = tempfile::tempfile_in(&directory).map_err(place())?;
    let space = rustix::fs::fstatvfs(&unpacked).map_err(|errno| place()(errno.into()))?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    if free < least {
        let reason = format!("it needs at least {}, {} are free", error::size(least), error::size(free));
        return Err(place()(io::Error::new(io::ErrorKind::StorageFull, reason)));
    }
    let read = Cell::new(0);
    let packed = BufReader::with_capacity(CHUNK, Counted { inner: file, read: &read });
    let mut tar: Box<dyn Read> = match compression {
        Compression::None => Box::new(packed),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
        Compression::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(packed).map_err(read_error())?;
            decoder.window_log_max(MAX_WINDOW).map_err(read_error())?;
            Box::new(decoder)
        }
    };
    let mut chunk = vec![0; CHUNK];
    let mut size = 0;
    loop {
        stop.check()?;
        match tar.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) if Most::Ratio.allows(size + n as u64, read.get()).is_err() => {
                let reason = "it decodes to far more bytes than an archive would: a decompression bomb";
                return Err(Error::invalid(Side::Source, path.display(), reason));
            }
            Ok(n) => {
                size += n as u64;
                unpacked.write_all(&chunk[..n]).map_err(place())?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(read_error()(error)),
        }
    }
    Ok(unpacked)
}

const UNPACK: &str = "unpack the archive (TMPDIR names another place for it) in";

/// The fewest bytes that the archive decompresses to, as far as the file says.
///
/// gzip tells the length of its last member modulo 2^32, and cannot shrink what it holds by less
/// than it grew it; zstd may tell that of its first frame.
fn least_size(file: &File, compression: Compression) -> io::Result<u64> {
    let mut handle = file;
    let length = handle.seek(SeekFrom::End(0))?;
    handle.rewind()?;
    let said = match compression {
        Compression::Gzip if length > 18 => {
            let mut last = [0; 4];
            file.read_exact_at(&mut last, length - 4)?;
            u64::from(u32::from_le_bytes(last))
        }
        Compression::Zstd => {
            let mut start = [0; 18];
            let n = read_up_to(file, &mut start)?;
            zstd::zstd_safe::get_frame_content_size(&start[..n]).ok().flatten().unwrap_or(0)
        }
        _ => 0,
    };
    Ok(said.max(length - length / 1000 - length.min(512)))
}
