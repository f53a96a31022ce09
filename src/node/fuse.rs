//! Keeps decompression bombs from containerd, which unpacks all of what it is sent.

use std::io;

use crate::error::{Error, Result, Side};
use crate::image::Descriptor;
use crate::layer::{self, Meter, Most};
use crate::limits::BLOB;
use crate::medium::Medium;
use crate::progress::Run;

/// Looks at a blob of the medium while it is sent.
#[derive(Debug)]
pub(crate) struct Fuse<'a> {
    medium: &'a Medium,
    blob: &'a Descriptor,
    tar: u64,
    run: Run<'a>,
    meter: Option<Meter>,
}

impl<'a> Fuse<'a> {
    /// For a layer that the medium's record says is a tar of `tar` bytes; `None`: it is no layer, and may be
    /// anything.
    pub(crate) fn new(medium: &'a Medium, blob: &'a Descriptor, tar: Option<u64>, run: Run<'a>) -> Self {
        Self { medium, blob, tar: tar.unwrap_or(0), run, meter: tar.map(Meter::new) }
    }

    /// Lets the next bytes pass. What might be more than the record says is decoded, once, before it goes on:
    /// an error unless it is no longer than that.
    pub(crate) fn pass(&mut self, bytes: &[u8]) -> Result<()> {
        match self.meter.as_mut().map(|meter| meter.take(bytes)) {
            None | Some(true) => Ok(()),
            Some(false) => {
                self.meter = None;
                self.decode()
            }
        }
    }

    fn decode(&self) -> Result<()> {
        let (mut found, expected) = (0, self.tar);
        let what = || format!("the content of layer {}", self.blob.digest);
        let count = |bytes: &[u8]| {
            self.run.check()?;
            found += bytes.len() as u64;
            if found > expected {
                return Err(Error::SizeMismatch { side: Side::Medium, what: what(), expected, found }.into());
            }
            Ok(())
        };
        let decoded = layer::decode(self.medium.open_blob(self.blob)?, Most::Bytes(BLOB), count);
        match decoded.map_err(io::Error::downcast::<Error>) {
            Ok(_) => Ok(()),
            Err(Ok(own)) => Err(own),
            Err(Err(error)) => {
                Err(Error::invalid(Side::Medium, what(), format!("it does not decode: {error}")))
            }
        }
    }
}
