//! A factor that does not learn.

use super::Rule;

pub(super) struct Fixed;

impl Rule for Fixed {}
