//! Bytes of a file, plain or gzip-compressed, read only as far as the format needs.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::error::{DataError, Fault, Place};

/// A stream of content that knows its file and how far it has been read, for the sake of its errors.
///
/// Whether it is compressed is told by its first bytes, not by its name: browsers unpack `.gz` downloads and keep
/// the name. No format read here begins with gzip's `1f 8b`.
pub(super) struct Source<'a> {
    pub(super) file: PathBuf,
    pub(super) content: Box<dyn Read + 'a>,
    pub(super) read: u64,
}

impl<'a> Source<'a> {
    pub(super) fn open(file: &Path) -> Result<Self, DataError> {
        let opened = File::open(file).map_err(DataError::io("open", file))?;
        Self::new(file, BufReader::with_capacity(1 << 16, opened))
    }

    /// A stream from memory or elsewhere; `file` is the name that errors give it.
    pub(super) fn new(file: &Path, mut raw: impl BufRead + 'a) -> Result<Self, DataError> {
        let head = raw.fill_buf().map_err(DataError::io("read", file))?;
        let content: Box<dyn Read + 'a> = match head {
            [] => return Err(DataError::malformed(file, Place::File, Fault::Empty)),
            [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(raw)),
            _ => Box::new(raw),
        };
        Ok(Self { file: file.to_owned(), content, read: 0 })
    }

    /// The next `N` bytes, of a header.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], DataError> {
        let bytes = self.up_to(N as u64)?;
        bytes.first_chunk().copied().ok_or_else(|| self.truncated((N - bytes.len()) as u64))
    }

    /// The rest of the content, which must be `count` bytes exactly.
    pub(super) fn rest(&mut self, count: u64) -> Result<Vec<u8>, DataError> {
        let mut bytes = self.up_to(count.saturating_add(1))?;
        let found = bytes.len() as u64;
        if found < count {
            return Err(self.truncated(count - found));
        }
        if found > count {
            return Err(self.fault(Place::Byte(self.read - 1), Fault::Trailing));
        }
        bytes.shrink_to_fit();
        Ok(bytes)
    }

    /// The rest of the content, which must be no longer than `limit`.
    pub(super) fn rest_within(&mut self, limit: u64) -> Result<Vec<u8>, DataError> {
        let bytes = self.up_to(limit.saturating_add(1))?;
        if bytes.len() as u64 > limit {
            return Err(self.fault(Place::Byte(limit), Fault::TooLong { limit }));
        }
        Ok(bytes)
    }

    pub(super) fn fault(&self, place: Place, fault: Fault) -> DataError {
        DataError::malformed(&self.file, place, fault)
    }

    fn truncated(&self, missing: u64) -> DataError {
        self.fault(Place::Byte(self.read), Fault::Truncated { expected: self.read + missing })
    }

    /// The buffer grows with what really arrives, so that a lying header costs nothing.
    fn up_to(&mut self, limit: u64) -> Result<Vec<u8>, DataError> {
        let mut bytes = Vec::new();
        let result = (&mut self.content).take(limit).read_to_end(&mut bytes);
        self.read += bytes.len() as u64;
        match result {
            Ok(_) => Ok(bytes),
            Err(error) if damaged(&error) => {
                Err(self.fault(Place::Byte(self.read), Fault::Compression(error.to_string())))
            }
            Err(source) => Err(DataError::io("read", &self.file)(source)),
        }
    }
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buffer)?;
        self.read += count as u64;
        Ok(count)
    }
}

/// Whether an error is the decompressor's judgement of the bytes rather than the system's refusal to read them.
fn damaged(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof)
}
