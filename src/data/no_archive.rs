//! In place of `archive.rs` where the crate is built without the feature `cli`, and with it the crate `tar`.

use std::path::Path;

use super::error::{DataError, Fault, Place};
use super::source::Source;

/// No archive can be read.
///
/// # Errors
/// Always.
pub(super) fn members(path: &Path, _: impl FnMut(&Path, Source<'_>) -> Result<(), DataError>) -> Result<(), DataError> {
    let why = "this library was built without the feature `cli` and reads no archives; unpack it there".to_owned();
    Err(DataError::malformed(path, Place::File, Fault::Archive(why)))
}
