//! The checksum that stands in the file which it is of.

use std::io::{self, Write};

use sha2::{Digest, Sha256};

/// What comes directly before the digest in the header. No tensor name can imitate it: its quotes would be escaped.
pub(super) const BEFORE_DIGEST: &[u8] = br#""sha256":""#;

/// Stands in the digest's place while the digest is computed.
pub(super) const NO_DIGEST: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Feeds what is written into a hash.
pub(super) struct HashWriter(pub Sha256);

impl Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Recomputes the digest over every byte of the file; only the digest's own place counts as zeros.
pub(super) fn verify_digest(bytes: &[u8]) -> Result<(), &'static str> {
    let start = find(bytes, BEFORE_DIGEST).ok_or("its checksum is missing")? + BEFORE_DIGEST.len();
    let end = start + NO_DIGEST.len();
    let written = bytes.get(start..end).ok_or("its checksum is cut short")?;
    let mut hash = Sha256::new();
    hash.update(&bytes[..start]);
    hash.update(NO_DIGEST);
    hash.update(&bytes[end..]);
    if hex(hash).as_bytes() == written { Ok(()) } else { Err("its checksum does not match its content") }
}

pub(super) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
