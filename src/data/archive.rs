//! Members of tar archives.

use std::io::{self, Read};
use std::path::Path;

use super::error::{DataError, Fault, Place};
use super::source::Source;

/// Bound on an unpacked archive; those of CIFAR hold 184 MB.
const LIMIT: u64 = 512 << 20;

/// Shows every file in an archive, compressed or not, with its path in there.
///
/// # Errors
/// If the archive cannot be read to its end or is no archive, and what `show` returns.
pub(super) fn members(
    path: &Path,
    mut show: impl FnMut(&Path, Source<'_>) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let broken = |error: io::Error| DataError::malformed(path, Place::File, Fault::Archive(error.to_string()));
    let mut archive = tar::Archive::new(Source::open(path)?.take(LIMIT));
    for entry in archive.entries().map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let member = entry.path().map_err(broken)?.into_owned();
        if entry.header().entry_type().is_file() {
            // Plain, however the archive is packed.
            show(&member, Source { file: path.join(&member), content: Box::new(entry), read: 0 })?;
        }
    }
    // The archive's end mark comes before the end of the compressed stream, where its checksum is.
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink()).map_err(broken)?;
    if rest.limit() == 0 {
        return Err(DataError::malformed(path, Place::Byte(LIMIT), Fault::TooLong { limit: LIMIT }));
    }
    Ok(())
}
