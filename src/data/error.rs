//! What can be wrong with a data set, said so that it can be mended.

use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::ImageShape;

/// Everything that can go wrong while a data set is found, read or downloaded.
///
/// The message of each variant says what is wrong, where, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// No data set of that name in any of the places where it could have been.
    #[error("data set `{name}` was not found; looked for{}\n{remedy}", listed(looked))]
    NotFound {
        /// The name asked for.
        name: String,
        /// Every path that was tried, in order.
        looked: Vec<PathBuf>,
        /// How to get it.
        remedy: String,
    },

    /// A name that is not one of the downloadable sets.
    #[error("there is no download for a data set named `{name}`; known: {known}")]
    NoDownload {
        /// The name asked for.
        name: String,
        /// The names that would have worked.
        known: String,
    },

    /// The operating system refused an operation on a file or folder.
    #[error("cannot {action} {}: {source}{}", path.display(), io_remedy(source))]
    Io {
        /// What was attempted, as a verb ("read", "create").
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// A file's content is not what its format requires.
    #[error("{}: {place}{fault}; {}", file.display(), fault.remedy())]
    Malformed {
        /// The file; for a member of an archive, the member's path below the archive's.
        file: PathBuf,
        /// Where in it.
        place: Place,
        /// What is wrong there.
        fault: Fault,
    },

    /// Images of one data set differ in size or channels.
    #[error(
        "images differ in shape: {} is {first_shape}, {} is {second_shape}; resize them to one size first",
        first.display(), second.display()
    )]
    ShapeMismatch {
        /// The file that set the expectation.
        first: PathBuf,
        /// Its image shape.
        first_shape: ImageShape,
        /// The file that breaks it.
        second: PathBuf,
        /// Its image shape.
        second_shape: ImageShape,
    },

    /// A folder of images by class is not laid out as it must be.
    #[error("{}: {fault}", path.display())]
    Layout {
        /// The folder, or the file in it.
        path: PathBuf,
        /// What is wrong with it.
        fault: LayoutFault,
    },

    /// A length that the sequences of a set cannot have.
    #[error("data set `{name}` cannot have sequences of {length}; data.length may be {} to {}", lengths.start(), lengths.end())]
    Length {
        /// The set.
        name: String,
        /// The length asked for.
        length: u32,
        /// Those that it can have.
        lengths: RangeInclusive<u32>,
    },

    /// A length for a set of images.
    #[error(
        "data set `{name}` has images, which cannot be cut to a length of {length}; leave data.length out: it is for \
         adding, arithmetic and text files"
    )]
    NoLength {
        /// The set.
        name: String,
        /// The length asked for.
        length: u32,
    },

    /// A data set put together in memory contradicts itself.
    #[error("data set `{name}`: {problem}")]
    Inconsistent {
        /// Its name.
        name: String,
        /// The contradiction.
        problem: String,
    },

    /// The request for a file, or its transfer, failed; what arrived is kept to be resumed.
    #[error("download of {url} stopped after {done} of {total} bytes: {reason}; run the command again to resume")]
    Download {
        /// The address.
        url: String,
        /// Bytes that are safely in the partial file.
        done: u64,
        /// Bytes of the whole file.
        total: u64,
        /// What stopped it.
        reason: String,
    },

    /// The server answered, but not with the file.
    #[error("{url} answered with status {status}; try again later, or place the file in the data folder by hand")]
    Status {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
    },

    /// A complete download has the wrong content; it was deleted.
    #[error(
        "{url}: the downloaded {} has SHA-256 {found} and {bytes} bytes, expected {expected} and {expected_bytes}; \
         it was deleted: try again, and if this repeats the server's copy is not the original one",
        file.display()
    )]
    Checksum {
        /// The address.
        url: String,
        /// The partial file that was deleted.
        file: PathBuf,
        /// Published SHA-256, hexadecimal.
        expected: String,
        /// SHA-256 of what arrived, hexadecimal.
        found: String,
        /// Published length.
        expected_bytes: u64,
        /// Length of what arrived, as far as it was read.
        bytes: u64,
    },

    /// Another process is downloading the same file.
    #[error("{} is being downloaded by another process; wait for it, or stop it", file.display())]
    Busy {
        /// The partial file that it holds.
        file: PathBuf,
    },
}

impl DataError {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    pub(super) fn layout(path: &Path, fault: LayoutFault) -> Self {
        Self::Layout { path: path.to_owned(), fault }
    }

    pub(super) fn malformed(file: &Path, place: Place, fault: Fault) -> Self {
        Self::Malformed { file: file.to_owned(), place, fault }
    }
}

/// A place in a file. Bytes and records count from 0, lines from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// The file as a whole.
    File,
    /// A byte of the content, after decompression where the file is compressed.
    Byte(u64),
    /// A fixed-size record, and the byte at which it begins.
    Record {
        /// Number of the record.
        record: u64,
        /// Where it begins.
        byte: u64,
    },
    /// A line of text.
    Line(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => Ok(()),
            Self::Byte(byte) => write!(f, "at byte {byte}: "),
            Self::Record { record, byte } => write!(f, "record {record} (at byte {byte}): "),
            Self::Line(line) => write!(f, "line {line}: "),
        }
    }
}

/// What is wrong with a file's content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing in it.
    #[error("the file is empty")]
    Empty,
    /// It ends early.
    #[error("the content ends here, but {expected} bytes are needed in all")]
    Truncated {
        /// Bytes that the header or the format requires.
        expected: u64,
    },
    /// It goes on after its end.
    #[error("the content should end here, but more bytes follow")]
    Trailing,
    /// Another format, or another kind of the same one.
    #[error("the magic number is {found:#010x}, expected {expected:#010x}{hint}")]
    WrongMagic {
        /// The number that the format requires.
        expected: u32,
        /// The number that is there.
        found: u32,
        /// What such a number means, where that is known.
        hint: &'static str,
    },
    /// Sizes in a header that no real file has.
    #[error("the header claims {claim}; accepted are 1 to {limit} bytes of content")]
    AbsurdSize {
        /// The dimensions as the header gives them.
        claim: String,
        /// The largest accepted size of the content.
        limit: u64,
    },
    /// Images and labels do not pair up.
    #[error("it holds {labels} labels, but {} holds {images} images", images_file.display())]
    CountMismatch {
        /// Labels in this file.
        labels: u64,
        /// Images in the other.
        images: u64,
        /// The other file.
        images_file: PathBuf,
    },
    /// A label without a class.
    #[error("label {label} is not below the number of classes, {classes}")]
    LabelOutOfRange {
        /// The label.
        label: u32,
        /// How many classes there are.
        classes: usize,
    },
    /// The compressed stream is damaged.
    #[error("the compressed data cannot be unpacked ({0})")]
    Compression(String),
    /// The archive is damaged.
    #[error("the archive cannot be read ({0})")]
    Archive(String),
    /// A member that the data set needs is not in the archive.
    #[error("the archive has no member `{0}`")]
    MissingMember(String),
    /// More content than any accepted file has.
    #[error("the content is longer than the {limit} bytes accepted")]
    TooLong {
        /// The bound.
        limit: u64,
    },
    /// A field of a line of text is not the number it should be.
    #[error("field {field} is `{text}`, expected a whole number from 0 to {max}")]
    Field {
        /// Number of the field, from 1.
        field: usize,
        /// The field, shortened.
        text: String,
        /// The largest value it may have.
        max: u8,
    },
    /// A line of text with too few or too many fields.
    #[error("{found} comma-separated fields, expected {expected}")]
    FieldCount {
        /// Fields there.
        found: usize,
        /// Fields needed.
        expected: usize,
    },
    /// A list of class names of the wrong length or in an unreadable encoding.
    #[error("{found} class names, expected {expected} lines of UTF-8")]
    ClassNames {
        /// Names there.
        found: usize,
        /// Names needed.
        expected: usize,
    },
    /// Bytes that are no text.
    #[error("not UTF-8, as a text must be")]
    Encoding,
    /// More kinds of characters than a byte can number.
    #[error("{found} different characters, of which a text may have {most}")]
    ManySymbols {
        /// How many there are.
        found: usize,
        /// How many there may be.
        most: usize,
    },
    /// A text with no room for a window in its part for testing.
    #[error("{found} characters are too few for windows of {length}; at least {needed} are needed")]
    ShortText {
        /// How many there are.
        found: usize,
        /// How many are needed.
        needed: usize,
        /// Of a window.
        length: u32,
    },
    /// The image decoder refused the file.
    #[error("not a readable image ({0})")]
    Image(String),
    /// An image that is the same everywhere once it lies on white.
    #[error("what it shows is in its transparency alone, and nothing of it is left on white")]
    Vanishes,
}

/// What is wrong with a folder of images by class.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutFault {
    /// No sub folders.
    #[error("no class folders; put the images of each class into a sub folder named after the class")]
    NoClasses,
    /// A single class.
    #[error(
        "only one class, `{class}`: there is nothing to tell apart; put the images of each class into a sub folder of \
         its own"
    )]
    OneClass {
        /// Its name.
        class: String,
    },
    /// A class that cannot be named.
    #[error("the folder's name is not UTF-8; rename it")]
    ClassName,
    /// Two folders of one class, whose names differ only in how their letters are composed.
    #[error("another folder beside it has the same name, written with other code points; merge them")]
    SameClass,
    /// A class without images.
    #[error("no images (png, jpg, bmp, gif) of this class; add some or remove the folder")]
    EmptyClass,
    /// Folders of a divided set that do not make one.
    #[error("has {found} but not one folder `train` and one folder `test`; {remedy}")]
    Division {
        /// The folders there whose names say that they are parts of a set.
        found: String,
        /// What to do about it.
        remedy: String,
    },
    /// A class of one split that the other lacks.
    #[error("no folder for class `{class}`, which the other split has; both need the same classes")]
    MissingClass {
        /// Name of the class.
        class: String,
    },
    /// A link whose target is not there.
    #[error("a link to nothing; bring back what it points to, or remove it")]
    Dangling,
    /// A link to a folder that it is in.
    #[error("a link to a folder that it lies in; remove it")]
    Loop,
    /// The files of a known set, which are not read as a folder of images.
    #[error("{0}")]
    KnownSet(String),
    /// An image in a format that is not read.
    #[error("this image format is not read; convert it to png, jpg, bmp or gif")]
    UnsupportedFormat,
    /// Too few images to keep some aside for testing.
    #[error(
        "{images} images are too few to divide into training and test images; at least 3, 2 of a class, are needed"
    )]
    TooFew {
        /// How many there are.
        images: usize,
    },
    /// More pixels than memory.
    #[error("{images} images of {shape} do not fit into memory; make them smaller or fewer")]
    TooLarge {
        /// How many there are.
        images: usize,
        /// Their shape.
        shape: ImageShape,
    },
}

impl Fault {
    fn remedy(&self) -> &'static str {
        match self {
            Self::Image(_) => "replace or remove it",
            Self::Vanishes => "put it on a background of another colour, or remove it",
            Self::Encoding => "save a text as UTF-8; images are read from a folder of images by class",
            Self::ManySymbols { .. } => "replace rare characters by a common one",
            Self::ShortText { .. } => "take a longer text, or a smaller data.length",
            Self::CountMismatch { .. } => "the two files must be of the same split of the same set",
            _ => "replace the file with an intact one (`ldfa-gpu data fetch` downloads the known sets)",
        }
    }
}

fn listed(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| format!("\n  {}", path.display())).collect()
}

fn io_remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free some space and run the command again, it goes on from where it stopped"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; change its permissions or choose another folder with --data-dir or LDFA_DATA"
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "; a file is in the way of a folder: choose another with --data-dir or LDFA_DATA"
        }
        _ => "",
    }
}
