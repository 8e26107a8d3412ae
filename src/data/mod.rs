//! Data sets: found, read, checked, and held in memory as bytes.
//!
//! [`open`] takes a name: that of a [`known`] set, of a folder of images by class, or of a text file. Whatever the source, the
//! result is one [`Dataset`]. With the feature `cli`, `fetch` downloads the known ones. Wrong input of any kind is a [`DataError`].

mod adding;
#[cfg_attr(not(feature = "cli"), path = "no_archive.rs")]
mod archive;
mod arithmetic;
mod catalog;
mod cifar;
mod decode;
mod digits;
mod error;
#[cfg(feature = "cli")]
mod fetch;
mod folder;
mod idx;
mod sequences;
mod source;
mod split;
#[cfg(all(test, feature = "cli"))]
mod tests;
mod text;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

pub use catalog::{KnownSet, MADE, RemoteFile, known};
pub use error::{DataError, Fault, LayoutFault, Place};
#[cfg(feature = "cli")]
pub use fetch::{Progress, fetch, fetch_files};

use split::representative;

/// Size of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ImageShape {
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
    /// Bytes of a pixel: 1 for grey, 3 for red, green and blue.
    pub channels: u32,
}

impl ImageShape {
    /// Bytes of an image, `height * width * channels`; saturates where that is more than any memory holds.
    pub fn pixels(self) -> usize {
        [self.height, self.width, self.channels].iter().fold(1, |size: usize, &n| size.saturating_mul(n as usize))
    }
}

impl fmt::Display for ImageShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {} x {}", self.height, self.width, self.channels)
    }
}

/// What the bytes of a sample are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Contents {
    /// Values of pixels, or of the steps of a sequence.
    #[default]
    Values,
    /// Indices of symbols, of so many.
    Tokens(u32),
}

impl Contents {
    /// The first byte that is no symbol's index.
    fn stranger(self, bytes: &[u8]) -> Option<u8> {
        match self {
            Contents::Values => None,
            Contents::Tokens(symbols) => bytes.iter().copied().find(|&byte| u32::from(byte) >= symbols),
        }
    }
}

/// Labels that are numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// The label of the number 1.
    pub one: u32,
    /// Largest distance of a correct answer, in units of the labels.
    pub tolerance: u32,
}

/// Samples and their labels, in a fixed order. A sample is an image, or a sequence: an image of one column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// `len x height x width x channels` bytes, channels last.
    pub images: Vec<u8>,
    /// `len x targets` class numbers, or numbers.
    pub labels: Vec<u32>,
    /// Labels of a sample.
    pub targets: u32,
}

impl Default for Split {
    /// No samples, of one label each.
    fn default() -> Split {
        Split { images: Vec::new(), labels: Vec::new(), targets: 1 }
    }
}

impl Split {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.labels.len() / self.targets.max(1) as usize
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    fn join(mut self, next: Self) -> Self {
        self.images.extend(next.images);
        self.labels.extend(next.labels);
        self
    }

    /// Splits off the samples marked in `chosen`, keeping the order in both: (the others, the chosen).
    fn divide(&self, pixels: usize, chosen: &[bool]) -> (Self, Self) {
        let none = || Self { targets: self.targets, ..Self::default() };
        let mut parts = (none(), none());
        let labels = self.labels.chunks_exact(self.targets.max(1) as usize);
        for ((image, labels), &chosen) in self.images.chunks_exact(pixels).zip(labels).zip(chosen) {
            let part = if chosen { &mut parts.1 } else { &mut parts.0 };
            part.images.extend_from_slice(image);
            part.labels.extend_from_slice(labels);
        }
        parts
    }
}

/// A data set, whole and in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// Its name: that of a known set, or of its folder.
    pub name: String,
    /// The size that all its images share.
    pub shape: ImageShape,
    /// What bytes are.
    pub contents: Contents,
    /// Names of the classes, by label; where labels are numbers, names of the numbers.
    pub classes: Vec<String>,
    /// What labels stand for where they are numbers; none where they are classes.
    pub numbers: Option<Numbers>,
    /// What is learned from.
    pub train: Split,
    /// What is only ever measured on.
    pub test: Split,
    /// SHA-256, hexadecimal, over shape, number of classes, labels and bytes of both splits; the names do not enter.
    pub checksum: String,
    /// What reading its files has passed over or changed, in words; nothing where the set is as its files are.
    pub notes: Vec<String>,
}

/// Mean and standard deviation of each channel, in units of the raw bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelStatistics {
    /// Mean over all pixels, `channels` values.
    pub mean: Vec<f64>,
    /// Population standard deviation over all pixels, `channels` values.
    pub std: Vec<f64>,
}

impl Dataset {
    /// Puts a set of values with classes together, and computes its checksum. [`Dataset::of_tokens`] takes tokens,
    /// [`Dataset::of_numbers`] numbers for classes.
    ///
    /// # Errors
    ///
    /// [`DataError::Inconsistent`] where the shape is empty, a split is empty, the number of bytes is not that of its
    /// labels' images, or a label is not below the number of classes.
    pub fn new(
        name: &str,
        shape: ImageShape,
        classes: Vec<String>,
        train: Split,
        test: Split,
    ) -> Result<Self, DataError> {
        Self::put_together(name, shape, Contents::Values, (classes, None), [train, test])
    }

    /// A set of sequences of tokens: bytes and labels are indices into `symbols`.
    ///
    /// # Errors
    ///
    /// As [`Dataset::new`]; or where a byte is no symbol's.
    pub fn of_tokens(
        name: &str,
        shape: ImageShape,
        symbols: Vec<String>,
        train: Split,
        test: Split,
    ) -> Result<Self, DataError> {
        Self::put_together(name, shape, Contents::Tokens(symbols.len() as u32), (symbols, None), [train, test])
    }

    /// A set whose labels are numbers, in the order of their `names`.
    ///
    /// # Errors
    ///
    /// As [`Dataset::new`]; or where a sample's labels are not as many as the names, or a multiple of it.
    pub fn of_numbers(
        name: &str,
        shape: ImageShape,
        names: Vec<String>,
        numbers: Numbers,
        train: Split,
        test: Split,
    ) -> Result<Self, DataError> {
        Self::put_together(name, shape, Contents::Values, (names, Some(numbers)), [train, test])
    }

    fn put_together(
        name: &str,
        shape: ImageShape,
        contents: Contents,
        (classes, numbers): (Vec<String>, Option<Numbers>),
        splits: [Split; 2],
    ) -> Result<Self, DataError> {
        let targets = splits[0].targets;
        for (which, split) in ["training", "test"].into_iter().zip(&splits) {
            let problem = if shape.pixels() == 0 || split.is_empty() {
                format!("the {which} split has no pixels ({} images of {shape})", split.len())
            } else if split.targets != targets || !split.labels.len().is_multiple_of(targets.max(1) as usize) {
                format!("{} {which} labels are not {targets} a sample", split.labels.len())
            } else if split.len().checked_mul(shape.pixels()) != Some(split.images.len()) {
                format!("{} bytes of {which} images are not {} images of {shape}", split.images.len(), split.len())
            } else if let Some(symbol) = contents.stranger(&split.images) {
                format!("a {which} byte is {symbol}, and no symbol has that number")
            } else if numbers
                .is_some_and(|n| n.one == 0 || n.tolerance == 0 || !(targets as usize).is_multiple_of(classes.len()))
            {
                format!(
                    "{targets} labels a sample are not numbers of {} kinds, with a unit and a tolerance",
                    classes.len()
                )
            } else if let Some(label) =
                split.labels.iter().find(|&&label| numbers.is_none() && label as usize >= classes.len())
            {
                format!("a {which} label is {label}, with {} classes", classes.len())
            } else {
                continue;
            };
            return Err(DataError::Inconsistent { name: name.to_owned(), problem });
        }
        let [train, test] = splits;
        let checksum = checksum(shape, classes.len(), [&train, &test]);
        let name = name.to_owned();
        Ok(Self { name, shape, contents, classes, numbers, train, test, checksum, notes: Vec::new() })
    }

    /// What a sample is called.
    pub fn sample(&self) -> &'static str {
        if self.is_of_images() { "image" } else { "sequence" }
    }

    /// Whether samples are images of one class each, which can be mirrored, shrunk, or chosen by their classes.
    pub fn is_of_images(&self) -> bool {
        self.contents == Contents::Values && self.numbers.is_none() && self.train.targets == 1
    }

    /// The set with only `images` of its training split, or all where there are no more: from each class in proportion to its
    /// size where samples have one, the same ones every time.
    pub fn limited(mut self, images: usize) -> Self {
        if images < self.train.len() {
            let chosen = if self.is_of_images() {
                representative(&self.train.labels, self.classes.len(), images)
            } else {
                representative(&vec![0; self.train.len()], 1, images)
            };
            self.train = self.train.divide(self.shape.pixels(), &chosen).1;
            self.checksum = checksum(self.shape, self.classes.len(), [&self.train, &self.test]);
        }
        self
    }

    /// The set with only the first `images` of its training split, or all where there are no more. Files that are sorted by class
    /// have those of the first classes only.
    pub fn first(mut self, images: usize) -> Self {
        if images < self.train.len() {
            self.train.images.truncate(images * self.shape.pixels());
            self.train.labels.truncate(images * self.train.targets as usize);
            self.checksum = checksum(self.shape, self.classes.len(), [&self.train, &self.test]);
        }
        self
    }

    /// One line of everything in the set that is not as a user may think: its [notes](Self::notes), and channels without
    /// any variation in training. `None` if there is nothing.
    pub fn remark(&self) -> Option<String> {
        let mut notes = self.notes.clone();
        for (channel, std) in (1..).zip(self.channel_statistics().std) {
            if std == 0.0 && self.contents == Contents::Values {
                let of = self.shape.channels;
                notes.push(format!(
                    "channel {channel} of {of} has one value in all training images: its input is 0, in the test, too"
                ));
            }
        }
        (!notes.is_empty()).then(|| format!("data set {}: {}", self.name, notes.join("; ")))
    }

    /// The set with only the first `count` classes, or all where there are no more. A split may be left without images.
    pub fn of_classes(mut self, count: usize) -> Self {
        if count < self.classes.len() {
            for split in [&mut self.train, &mut self.test] {
                let chosen: Vec<bool> = split.labels.iter().map(|&label| (label as usize) < count).collect();
                *split = split.divide(self.shape.pixels(), &chosen).1;
            }
            self.classes.truncate(count);
            self.checksum = checksum(self.shape, count, [&self.train, &self.test]);
        }
        self
    }

    /// The set in grey, by the luma of ITU-R BT.601: 0.299 red + 0.587 green + 0.114 blue, rounded. A set that is grey stays as
    /// it is, and so does one of neither one nor three channels, which has no such colours.
    pub fn grey(mut self) -> Self {
        if self.shape.channels == 3 {
            let luma = |pixel: &[u8]| {
                let sum: u32 =
                    pixel.iter().zip([299, 587, 114]).map(|(&value, weight)| u32::from(value) * weight).sum();
                ((sum + 500) / 1000) as u8
            };
            for split in [&mut self.train, &mut self.test] {
                split.images = split.images.chunks_exact(3).map(luma).collect();
            }
            self.shape.channels = 1;
            self.checksum = checksum(self.shape, self.classes.len(), [&self.train, &self.test]);
        }
        self
    }

    /// The set with images a `factor` smaller either way: every pixel the mean of `factor` x `factor`, rounded. As it is where their
    /// sides are no multiples of it.
    pub fn shrunk(mut self, factor: u32) -> Self {
        let ImageShape { height, width, channels } = self.shape;
        if factor > 1 && height.is_multiple_of(factor) && width.is_multiple_of(factor) {
            let (factor, width, channels) = (factor as usize, width as usize, channels as usize);
            let small = ImageShape { height: height / factor as u32, width: (width / factor) as u32, ..self.shape };
            let (rows, columns) = (small.height as usize, small.width as usize);
            let mean = |image: &[u8], row: usize, column: usize, channel: usize| {
                let within = |at: usize| (row * factor + at / factor) * width + column * factor + at % factor;
                let sum =
                    (0..factor * factor).map(|at| usize::from(image[within(at) * channels + channel])).sum::<usize>();
                ((sum + factor * factor / 2) / (factor * factor)) as u8
            };
            for split in [&mut self.train, &mut self.test] {
                let images = split.images.chunks_exact(self.shape.pixels()).flat_map(|image| {
                    (0..rows * columns * channels)
                        .map(move |at| mean(image, at / channels / columns, at / channels % columns, at % channels))
                });
                split.images = images.collect();
            }
            self.shape = small;
            self.checksum = checksum(self.shape, self.classes.len(), [&self.train, &self.test]);
        }
        self
    }

    /// Mean and standard deviation of the training pixels, each channel by itself.
    ///
    /// The sums are whole numbers, so that the result depends on no order of summation.
    pub fn channel_statistics(&self) -> ChannelStatistics {
        let channels = self.shape.channels as usize;
        let mut counts = vec![[0u64; 256]; channels];
        for pixel in self.train.images.chunks_exact(channels.max(1)) {
            for (counts, &value) in counts.iter_mut().zip(pixel) {
                counts[usize::from(value)] += 1;
            }
        }
        let moments = counts.iter().map(|counts| {
            let moment = |power: u32| -> u128 {
                (0u128..).zip(counts).map(|(value, &count)| value.pow(power) * u128::from(count)).sum()
            };
            let (n, sum, squares) = (moment(0).max(1), moment(1), moment(2));
            let n_squared_variance = n * squares - sum * sum;
            (sum as f64 / n as f64, (n_squared_variance as f64).sqrt() / n as f64)
        });
        let (mean, std) = moments.unzip();
        ChannelStatistics { mean, std }
    }

    /// How many labels of a split each class has, `classes` values.
    pub fn class_histogram(&self, split: &Split) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        for &label in &split.labels {
            if let Some(count) = counts.get_mut(label as usize) {
                *count += 1;
            }
        }
        counts
    }
}

/// The folders below which data sets are looked for, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchPath {
    roots: Vec<PathBuf>,
}

impl SearchPath {
    /// Exactly these folders.
    pub fn new(roots: Vec<PathBuf>) -> Self {
        Self { roots }
    }

    /// `data_dir` where given, then the folder named by the environment variable `LDFA_DATA`, then `./datasets`.
    pub fn from_env(data_dir: Option<PathBuf>) -> Self {
        let named = std::env::var_os("LDFA_DATA").filter(|value| !value.is_empty()).map(PathBuf::from);
        Self::new(data_dir.into_iter().chain(named).chain([PathBuf::from("datasets")]).collect())
    }

    /// The folders, in the order in which they are searched; the first is the natural place for a download.
    pub fn roots(&self) -> &[PathBuf] {
        &self.roots
    }

    /// `hints` are what there is instead, a sentence each.
    fn not_found(&self, name: &str, looked: Vec<PathBuf>, hints: &[String]) -> DataError {
        let mut remedy: String = hints.iter().map(|hint| format!("{hint}\n")).collect();
        if is_known(name) {
            remedy += &format!(
                "download it with `ldfa-gpu data fetch {name}`, \
                 or name the folder that holds it with --data-dir or LDFA_DATA"
            );
        } else {
            let names: Vec<_> = known().iter().map(|set| set.name).collect();
            let distance = |known: &str| strsim::damerau_levenshtein(&plain(known), &plain(name));
            let nearest = names.iter().map(|known| (distance(known), known)).min();
            if let Some((0..=1, near)) = nearest.filter(|_| !name.is_empty()) {
                remedy += &format!("did you mean {near}?\n");
            }
            remedy += &format!(
                "known sets are {}; any other name is that of a folder of images by class, or of a text file, \
                 itself or below --data-dir or LDFA_DATA",
                names.join(", ")
            );
        }
        DataError::NotFound { name: name.to_owned(), looked, remedy }
    }
}

/// Folders below a root where the files of a known set may be: that of its name, then those whose names differ from it in
/// case and signs only, as `MNIST` and `FashionMNIST` do.
fn folders(root: &Path, name: &str) -> Vec<PathBuf> {
    let exact = root.join(name);
    let entries = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut others: Vec<PathBuf> =
        entries.filter(|path| *path != exact && path.is_dir() && is_namesake(path, name)).collect();
    others.sort();
    std::iter::once(exact).chain(others).collect()
}

/// Letters and digits of a name, in lower case.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

fn is_namesake(path: &Path, name: &str) -> bool {
    path.file_name().is_some_and(|own| plain(&own.to_string_lossy()) == plain(name))
}

/// What the set opened by `name` is called: a known one as it is known, a folder as it is really called, whichever way leads
/// to it. Never empty, and fit for the name of a file.
pub fn short_name(name: &str) -> String {
    let path = Path::new(name);
    let real = if is_known(name) { None } else { path.canonicalize().ok() };
    let last = real.as_deref().unwrap_or(path).file_name().unwrap_or_default().to_string_lossy();
    let clean: String = last
        .chars()
        .map(|c| if c.is_control() || c.is_whitespace() || "/\\:*?\"<>|".contains(c) { '-' } else { c })
        .collect();
    match clean.trim_matches(['-', '.']) {
        "" => "images".into(),
        clean => clean.into(),
    }
}

/// Loads a data set by name: a [`known`] one, or else a folder of images or a text file, by its path or below a root of `search`.
/// Sequences that are made, and texts, are cut to so many steps, or to a default.
///
/// Below a root, `mnist` and `fashion-mnist` are folders of that name with the four IDX files, each plain or
/// compressed; `cifar10` and `cifar100` are the authors' folder or `.tar.gz`, there or in a folder of the set's name;
/// `digits` is part of the program, which also makes `adding` and `arithmetic`. Case and signs in the folder's name do not count, and
/// IDX files may be in a folder `raw` in it.
///
/// A folder of images holds `train/<class>/<image>` and `test/<class>/<image>`, or just `<class>/<image>`, of which a fixed
/// fifth of each class is then taken for testing; classes are numbered in the order of their names, and all images must
/// have one size. They are grey if every pixel of every image is, else RGB. What was passed over or changed is in
/// [`Dataset::notes`].
///
/// A text is UTF-8, of at most 256 different characters. Its windows do not overlap; the last tenth of it is for testing.
///
/// # Errors
///
/// [`DataError::NotFound`] with everything that was looked for; [`DataError::Length`] where the set has no sequences of that
/// length; otherwise what is wrong with the files, and where.
pub fn open_cut(name: &str, length: Option<u32>, search: &SearchPath) -> Result<Dataset, DataError> {
    match name {
        "adding" => return adding::make(length),
        "arithmetic" => return arithmetic::make(length),
        _ => {}
    }
    let there = candidates(name, search).into_iter().find(|path| path.is_dir() || path.is_file());
    if let Some(file) = there.filter(|path| path.is_file() && !is_known(name)) {
        return text::load(&file, length);
    }
    let images = open_images(name, search)?;
    match length {
        Some(length) => Err(DataError::NoLength { name: images.name, length }),
        None => Ok(images),
    }
}

/// [`open_cut`] to the default length.
///
/// # Errors
///
/// As [`open_cut`].
pub fn open(name: &str, search: &SearchPath) -> Result<Dataset, DataError> {
    open_cut(name, None, search)
}

fn is_known(name: &str) -> bool {
    known().iter().any(|set| set.name == name)
}

/// Where a folder or file of a name may be.
fn candidates(name: &str, search: &SearchPath) -> Vec<PathBuf> {
    let below = search.roots().iter().map(|root| root.join(name));
    std::iter::once(PathBuf::from(name)).chain(below).collect()
}

fn open_images(name: &str, search: &SearchPath) -> Result<Dataset, DataError> {
    match name {
        "digits" => digits::load(),
        "mnist" => idx::load(name, &catalog::MNIST_CLASSES, search),
        "fashion-mnist" => idx::load(name, &catalog::FASHION_MNIST_CLASSES, search),
        "cifar10" => cifar::load(&cifar::CIFAR10, search),
        "cifar100" => cifar::load(&cifar::CIFAR100, search),
        // An empty name would make every root a data set.
        "" => Err(search.not_found(name, Vec::new(), &[])),
        _ => {
            let candidates = candidates(name, search);
            match candidates.iter().find(|path| path.is_dir()) {
                Some(path) => folder::load(path),
                None => Err(search.not_found(name, candidates, &[])),
            }
        }
    }
}

/// Every length goes in before what it measures, so that no two data sets feed the hash the same bytes.
fn checksum(shape: ImageShape, classes: usize, splits: [&Split; 2]) -> String {
    let mut hash = Sha256::new();
    for size in [shape.height, shape.width, shape.channels] {
        hash.update(size.to_le_bytes());
    }
    hash.update((classes as u64).to_le_bytes());
    for split in splits {
        hash.update((split.len() as u64).to_le_bytes());
        let labels: Vec<u8> = split.labels.iter().flat_map(|label| label.to_le_bytes()).collect();
        hash.update(labels);
        hash.update(&split.images);
    }
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
