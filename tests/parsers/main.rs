//! Every parser against valid files that were changed: no panic, no abort, an error that names the file, memory in proportion to
//! it, and no damage that passes for something else.

mod configs;
mod images;
mod mutate;
mod runs;
mod watch;

/// What a parser may hold whatever the size of its file.
const MOST: usize = 64 << 20;
