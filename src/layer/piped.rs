//! A layer's tar for whoever reads, decoded on a thread of its own.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, sync_channel};

use super::Most;
use super::decode::expand;

/// Pieces that are decoded ahead of the reader.
const AHEAD: usize = 8;

/// Decodes the layer `encoded` and has `read` read its tar, which is not hashed.
///
/// `encoded` is read to its end, so that a reader which proves itself there has done so, also where `read` is
/// content with less. Errors: those of `encoded` and of the decoder, which `read` is shown as well; then its own.
pub(crate) fn with_tar<T>(
    encoded: impl Read + Send,
    most: Most,
    read: impl FnOnce(&mut dyn Read) -> io::Result<T>,
) -> io::Result<T> {
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel::<Vec<u8>>(AHEAD);
        let decoder = scope.spawn(move || {
            let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
            expand(encoded, most, |bytes| sender.send(bytes.to_vec()).map_err(|_| gone()))
        });
        let mut tar = Tar { receiver, piece: Vec::new(), at: 0 };
        let found = read(&mut tar);
        if found.is_ok() {
            // What follows the end of the archive.
            while tar.receiver.recv().is_ok() {}
        }
        drop(tar);
        let decoded = decoder.join().unwrap_or_else(|_| Err(io::Error::other("decoding a layer failed")));
        match (decoded, found) {
            // The reader was not interested in the rest, for a reason of its own.
            (Err(error), Err(own)) if error.kind() == io::ErrorKind::BrokenPipe => Err(own),
            (Err(error), _) => Err(error),
            (Ok(_), found) => found,
        }
    })
}

struct Tar {
    receiver: Receiver<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Tar {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            // At the end, or after an error that the decoder itself is asked for.
            let Ok(piece) = self.receiver.recv() else { return Ok(0) };
            (self.piece, self.at) = (piece, 0);
        }
        let n = buffer.len().min(self.piece.len() - self.at);
        buffer[..n].copy_from_slice(&self.piece[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tar_is_read_and_what_is_wrong_with_the_layer_is_told() {
        let tar: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
        let encoded = zstd::encode_all(tar.as_slice(), 1).unwrap();
        let all = |tar: &mut dyn Read| {
            let mut bytes = Vec::new();
            tar.read_to_end(&mut bytes).map(|_| bytes)
        };
        assert!(with_tar(encoded.as_slice(), Most::Ratio, all).unwrap() == tar);
        let some = |tar: &mut dyn Read| tar.read_exact(&mut [0; 10]);
        with_tar(encoded.as_slice(), Most::Ratio, some).unwrap();
        let cut = &encoded[..encoded.len() - 5];
        assert!(with_tar(cut, Most::Ratio, some).is_err(), "it is read to its end");
        let own = |_: &mut dyn Read| Err::<(), _>(io::Error::other("own"));
        assert_eq!(with_tar(encoded.as_slice(), Most::Ratio, own).unwrap_err().to_string(), "own");
    }
}
