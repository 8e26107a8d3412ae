//! CIFAR-10 and CIFAR-100 in their "binary version".
//!
//! A batch file is a sequence of records: the label bytes, then 1024 red, 1024 green and 1024 blue bytes of an image of
//! 32 x 32, each plane row by row. CIFAR-100 has two label bytes, the coarse and the fine class.
//! Source: <https://www.cs.toronto.edu/~kriz/cifar.html>.

use std::path::{Path, PathBuf};

use super::catalog::{CIFAR10_CLASSES, CIFAR100_CLASSES};
use super::error::{DataError, Fault, Place};
use super::source::Source;
use super::{Dataset, ImageShape, SearchPath, Split, archive, folders};

const SHAPE: ImageShape = ImageShape { height: 32, width: 32, channels: 3 };
const PLANE: usize = 32 * 32;

/// Bound on a file of class names; the official ones have at most 1 kB.
const NAMES_LIMIT: u64 = 1 << 16;

/// What the files of one of the two sets are called and hold.
pub(super) struct Layout {
    pub(super) name: &'static str,
    pub(super) folder: &'static str,
    pub(super) archive: &'static str,
    /// File names with their numbers of records, in the order of the training set; the last is the test set.
    pub(super) batches: &'static [(&'static str, usize)],
    /// The last of them is the label used.
    pub(super) label_bytes: usize,
    pub(super) names: &'static str,
    /// What other versions are called, and which they are: they hold the same images in formats that are not read here.
    pub(super) others: &'static [(&'static str, &'static str)],
    pub(super) classes: &'static [&'static str],
}

pub(super) const CIFAR10: Layout = Layout {
    name: "cifar10",
    folder: "cifar-10-batches-bin",
    archive: "cifar-10-binary.tar.gz",
    batches: &[
        ("data_batch_1.bin", 10_000),
        ("data_batch_2.bin", 10_000),
        ("data_batch_3.bin", 10_000),
        ("data_batch_4.bin", 10_000),
        ("data_batch_5.bin", 10_000),
        ("test_batch.bin", 10_000),
    ],
    label_bytes: 1,
    names: "batches.meta.txt",
    others: &[
        ("cifar-10-batches-py", "Python"),
        ("cifar-10-python.tar.gz", "Python"),
        ("cifar-10-batches-mat", "Matlab"),
        ("cifar-10-matlab.tar.gz", "Matlab"),
    ],
    classes: &CIFAR10_CLASSES,
};

pub(super) const CIFAR100: Layout = Layout {
    name: "cifar100",
    folder: "cifar-100-binary",
    archive: "cifar-100-binary.tar.gz",
    batches: &[("train.bin", 50_000), ("test.bin", 10_000)],
    label_bytes: 2,
    names: "fine_label_names.txt",
    others: &[
        ("cifar-100-python", "Python"),
        ("cifar-100-python.tar.gz", "Python"),
        ("cifar-100-matlab", "Matlab"),
        ("cifar-100-matlab.tar.gz", "Matlab"),
    ],
    classes: &CIFAR100_CLASSES,
};

/// Loads a set from its folder or archive, directly below a root or below one of the set's folders there; the first found
/// is taken.
pub(super) fn load(layout: &Layout, search: &SearchPath) -> Result<Dataset, DataError> {
    let below = |root: &PathBuf| std::iter::once(root.clone()).chain(folders(root, layout.name));
    let bases: Vec<PathBuf> = search.roots().iter().flat_map(below).collect();
    for base in &bases {
        let (folder, archive) = (base.join(layout.folder), base.join(layout.archive));
        let mut parts = Parts::new(layout);
        if folder.is_dir() {
            parts.read_folder(&folder, search)?;
        } else if archive.is_file() {
            parts.read_archive(&archive)?;
        } else {
            continue;
        }
        return parts.join();
    }
    let own = search.roots().iter().flat_map(|root| [root.clone(), root.join(layout.name)]);
    let looked = own.flat_map(|base| [base.join(layout.folder), base.join(layout.archive)]).collect();
    let hints: Vec<String> = bases.iter().filter_map(|base| other_version(layout, base)).take(1).collect();
    Err(search.not_found(layout.name, looked, &hints))
}

/// What a folder holds, or is, of another version of a set, and what to do about it.
pub(super) fn other_version(layout: &Layout, base: &Path) -> Option<String> {
    layout.others.iter().find_map(|(name, version)| {
        let path = if base.ends_with(name) { base.to_owned() } else { base.join(name) };
        let (folder, archive) = (layout.folder, layout.archive);
        let sentence = || {
            let path = path.display();
            format!("found {path}, the {version} version: this program reads the binary version, {folder} or {archive}")
        };
        path.exists().then(sentence)
    })
}

/// Whether a folder holds, or is, what the set is read from.
pub(super) fn holds(layout: &Layout, base: &Path) -> bool {
    let batches = || layout.batches.iter().any(|(batch, _)| base.join(batch).is_file());
    base.join(layout.folder).is_dir() || base.join(layout.archive).is_file() || batches()
}

/// Reads a batch of `records` images, turning planes into interleaved channels.
pub(super) fn batch(mut source: Source<'_>, layout: &Layout, records: usize) -> Result<Split, DataError> {
    let size = layout.label_bytes + 3 * PLANE;
    let bytes = source.rest((records * size) as u64)?;
    let mut split = Split {
        images: Vec::with_capacity(records * 3 * PLANE),
        labels: Vec::with_capacity(records),
        ..Split::default()
    };
    for (number, record) in bytes.chunks_exact(size).enumerate() {
        let (labels, planes) = record.split_at(layout.label_bytes);
        let label = labels.last().copied().map_or(0, u32::from);
        if label as usize >= layout.classes.len() {
            let place = Place::Record { record: number as u64, byte: (number * size) as u64 };
            return Err(source.fault(place, Fault::LabelOutOfRange { label, classes: layout.classes.len() }));
        }
        let (red, rest) = planes.split_at(PLANE);
        let (green, blue) = rest.split_at(PLANE);
        split.labels.push(label);
        split.images.extend(red.iter().zip(green).zip(blue).flat_map(|((&r, &g), &b)| [r, g, b]));
    }
    Ok(split)
}

/// Reads class names, one a line.
pub(super) fn names(mut source: Source<'_>, expected: usize) -> Result<Vec<String>, DataError> {
    let text = String::from_utf8(source.rest_within(NAMES_LIMIT)?).unwrap_or_default();
    let names: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(String::from).collect();
    match names.len() {
        found if found == expected => Ok(names),
        found => Err(source.fault(Place::File, Fault::ClassNames { found, expected })),
    }
}

/// The pieces of a set as they turn up: an archive may hold them in any order.
struct Parts<'a> {
    layout: &'a Layout,
    batches: Vec<Option<Split>>,
    names: Option<Vec<String>>,
}

impl<'a> Parts<'a> {
    fn new(layout: &'a Layout) -> Self {
        Self { layout, batches: layout.batches.iter().map(|_| None).collect(), names: None }
    }

    fn read_folder(&mut self, folder: &Path, search: &SearchPath) -> Result<(), DataError> {
        let mut missing = Vec::new();
        for (slot, &(file, records)) in self.batches.iter_mut().zip(self.layout.batches) {
            let path = folder.join(file);
            if path.is_file() {
                *slot = Some(batch(Source::open(&path)?, self.layout, records)?);
            } else {
                missing.push(path);
            }
        }
        let path = folder.join(self.layout.names);
        if path.is_file() {
            self.names = Some(names(Source::open(&path)?, self.layout.classes.len())?);
        }
        if missing.is_empty() { Ok(()) } else { Err(search.not_found(self.layout.name, missing, &[])) }
    }

    /// Reads the members of a tar archive, compressed or not, without unpacking anything onto the disk.
    fn read_archive(&mut self, path: &Path) -> Result<(), DataError> {
        archive::members(path, |member, source| {
            let is = |file: &str| member.ends_with(Path::new(self.layout.folder).join(file));
            if is(self.layout.names) {
                self.names = Some(names(source, self.layout.classes.len())?);
            } else if let Some(index) = self.layout.batches.iter().position(|&(file, _)| is(file)) {
                let (_, records) = self.layout.batches[index];
                self.batches[index] = Some(batch(source, self.layout, records)?);
            }
            Ok(())
        })?;
        match self.batches.iter().position(Option::is_none) {
            None => Ok(()),
            Some(index) => {
                let member = format!("{}/{}", self.layout.folder, self.layout.batches[index].0);
                Err(DataError::malformed(path, Place::File, Fault::MissingMember(member)))
            }
        }
    }

    fn join(self) -> Result<Dataset, DataError> {
        let mut batches: Vec<Split> = self.batches.into_iter().flatten().collect();
        let test = batches.pop().unwrap_or_default();
        let train = batches.into_iter().reduce(Split::join).unwrap_or_default();
        let official = || self.layout.classes.iter().map(ToString::to_string).collect();
        let classes = self.names.unwrap_or_else(official);
        Dataset::new(self.layout.name, SHAPE, classes, train, test)
    }
}
