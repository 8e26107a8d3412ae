//! A user's own images, in one folder for each class.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use unicode_normalization::UnicodeNormalization;
use walkdir::{DirEntry, WalkDir};

use super::decode::{Header, Picture, Pixels, decode, header};
use super::error::{DataError, Fault, LayoutFault, Place};
use super::split::{selection_key, stratified};
use super::{Dataset, ImageShape, Split, cifar, idx, short_name};

/// Files that systems and authors leave beside images, and that nobody takes for one.
const COMPANIONS: [&str; 5] = ["thumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir"];

/// Loads `train/<class>/<image>` and `test/<class>/<image>`, or `<class>/<image>` with a fifth set aside for testing.
///
/// Classes are numbered in the order of their folders' names; the images in folders below a class's belong to it. A file is
/// an image if its content is. Everything that is passed over or changed is noted. The set is grey if every pixel of every image
/// is, else RGB. Of an animation the first frame is taken.
pub(super) fn load(folder: &Path) -> Result<Dataset, DataError> {
    read(folder).map_err(|error| match (&error, known_set(folder)) {
        (DataError::Layout { .. }, Some(hint)) => DataError::layout(folder, LayoutFault::KnownSet(hint)),
        _ => error,
    })
}

fn read(folder: &Path) -> Result<Dataset, DataError> {
    let mut passed = PassedOver::new(folder);
    let (classes, files) = list(folder, &mut passed)?;
    let samples = images(files, &mut passed)?;
    let chosen = match samples.iter().map(|sample| sample.file.is_test).collect::<Option<Vec<bool>>>() {
        Some(chosen) => chosen,
        None => fifth(folder, &samples, classes.len())?,
    };
    let mut notes: Vec<String> = passed.note().into_iter().collect();
    let (shape, all) = pixels(folder, &samples, &mut notes)?;
    let (train, test) = all.divide(shape.pixels(), &chosen);
    let name = short_name(&folder.to_string_lossy());
    Ok(Dataset { notes, ..Dataset::new(&name, shape, classes, train, test)? })
}

/// A file that may be an image.
struct Candidate {
    path: PathBuf,
    label: u32,
    /// Which split it belongs to; none in a set that its authors did not divide.
    is_test: Option<bool>,
    class_folder: PathBuf,
}

struct Sample {
    file: Candidate,
    header: Header,
}

/// Names of the classes, and the files in their folders: those to train on, then those to test on, each in the order of
/// class and file name.
fn list(folder: &Path, passed: &mut PassedOver) -> Result<(Vec<String>, Vec<Candidate>), DataError> {
    let mut files = Vec::new();
    let Some([train, test]) = division(folder, passed)? else {
        let classes = class_folders(folder, passed)?;
        for (label, (_, path)) in (0..).zip(&classes) {
            candidates(path, label, None, &mut files, passed)?;
        }
        return Ok((classes.into_iter().map(|(name, _)| name).collect(), files));
    };
    let (classes, test_classes) = (class_folders(&train, passed)?, class_folders(&test, passed)?);
    same_classes(&classes, &test, &test_classes)?;
    same_classes(&test_classes, &train, &classes)?;
    for (is_test, folders) in [(false, &classes), (true, &test_classes)] {
        // Labels follow the order of the training folders.
        for (label, (name, _)) in (0..).zip(&classes) {
            for (_, path) in folders.iter().filter(|(own, _)| own == name) {
                candidates(path, label, Some(is_test), &mut files, passed)?;
            }
        }
    }
    Ok((classes.into_iter().map(|(name, _)| name).collect(), files))
}

/// What the name of a folder says that it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Train,
    Test,
    Validation,
}

fn part(folder: &Path) -> Option<Part> {
    match folder.file_name()?.to_str()?.to_lowercase().as_str() {
        "train" | "training" => Some(Part::Train),
        "test" | "testing" => Some(Part::Test),
        "val" | "validation" => Some(Part::Validation),
        _ => None,
    }
}

/// The folders to train on and to test on, if the set is divided. A folder named like a part of a set is never a class.
fn division(folder: &Path, passed: &mut PassedOver) -> Result<Option<[PathBuf; 2]>, DataError> {
    let folders = folders(folder)?;
    let of = |part_: Part| folders.iter().filter(|path| part(path) == Some(part_)).collect::<Vec<_>>();
    match (&of(Part::Train)[..], &of(Part::Test)[..], &of(Part::Validation)[..]) {
        ([], [], []) => Ok(None),
        ([train], [test], _) => {
            for other in folders.iter().filter(|path| path != train && path != test) {
                passed.over(Reason::BesideSplits, other);
            }
            Ok(Some([train.to_path_buf(), test.to_path_buf()]))
        }
        (train, test, validation) => {
            let name = |path: &&PathBuf| format!("`{}`", path.file_name().unwrap_or_default().to_string_lossy());
            let found: Vec<String> = [train, test, validation].into_iter().flatten().map(name).collect();
            let remedy = match (train, test, validation) {
                ([_], [], [other]) => format!("did you mean {} to be tested on? rename it to `test`", name(other)),
                _ => "add what is missing, or put the class folders directly here and rename a class of such a name"
                    .into(),
            };
            let found = found.join(", ");
            Err(DataError::layout(folder, LayoutFault::Division { found, remedy }))
        }
    }
}

/// Names and folders of the classes of a split, in the order of the folders' names. Names are composed (NFC), since some
/// systems store "é" as one character and others as two.
fn class_folders(folder: &Path, passed: &mut PassedOver) -> Result<Vec<(String, PathBuf)>, DataError> {
    let mut classes: Vec<(String, PathBuf)> = Vec::new();
    for path in folders(folder)? {
        let name = path.file_name().and_then(OsStr::to_str);
        let name: String = name.ok_or_else(|| DataError::layout(&path, LayoutFault::ClassName))?.nfc().collect();
        if classes.iter().any(|(other, _)| *other == name) {
            return Err(DataError::layout(&path, LayoutFault::SameClass));
        }
        classes.push((name, path));
    }
    for entry in entries(folder, 1, &mut |_| {})? {
        let (kind, path) = (entry.file_type(), entry.path());
        if !kind.is_file() && !kind.is_dir() {
            passed.over(Reason::NoRegularFile, path);
        } else if kind.is_file() && !matches!(header(path), Ok(None)) {
            // Lists and descriptions are at home here; an image is not.
            passed.over(Reason::OutsideClasses, path);
        }
    }
    match &classes[..] {
        [] => Err(DataError::layout(folder, LayoutFault::NoClasses)),
        [(class, _)] => Err(DataError::layout(folder, LayoutFault::OneClass { class: class.clone() })),
        _ => Ok(classes),
    }
}

fn same_classes(wanted: &[(String, PathBuf)], folder: &Path, present: &[(String, PathBuf)]) -> Result<(), DataError> {
    match wanted.iter().find(|(class, _)| !present.iter().any(|(own, _)| own == class)) {
        None => Ok(()),
        Some((class, _)) => Err(DataError::layout(folder, LayoutFault::MissingClass { class: class.clone() })),
    }
}

/// The files of a class, in the order of their names.
fn candidates(
    class_folder: &Path,
    label: u32,
    is_test: Option<bool>,
    files: &mut Vec<Candidate>,
    passed: &mut PassedOver,
) -> Result<(), DataError> {
    let before = files.len();
    for entry in entries(class_folder, usize::MAX, &mut |hidden| passed.over(Reason::Hidden, hidden))? {
        let (kind, path) = (entry.file_type(), entry.path().to_owned());
        if kind.is_file() {
            files.push(Candidate { path, label, is_test, class_folder: class_folder.to_owned() });
        } else if !kind.is_dir() {
            passed.over(Reason::NoRegularFile, &path);
        }
    }
    match files.len() > before {
        true => Ok(()),
        false => Err(DataError::layout(class_folder, LayoutFault::EmptyClass)),
    }
}

/// Folders in a folder, by name.
fn folders(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let entries = entries(folder, 1, &mut |_| {})?;
    Ok(entries.into_iter().filter(|entry| entry.file_type().is_dir()).map(DirEntry::into_path).collect())
}

/// What a folder holds, down to a depth, sorted by name: file systems list in any order. Links are followed. What is hidden is told
/// to `hidden`, unless it is what systems leave everywhere; so are companions.
fn entries(folder: &Path, depth: usize, hidden: &mut dyn FnMut(&Path)) -> Result<Vec<DirEntry>, DataError> {
    let mut shown = |entry: &DirEntry| {
        let name = entry.file_name().to_string_lossy().to_lowercase();
        let is_hidden = entry.depth() > 0 && name.starts_with('.');
        if is_hidden && !name.starts_with("._") && !name.starts_with(".git") && name != ".ds_store" {
            hidden(entry.path());
        }
        let is_about = ["readme", "license", "licence"].contains(&name.split('.').next().unwrap_or_default());
        entry.depth() == 0
            || !(is_hidden || COMPANIONS.contains(&name.as_str()) || is_about && entry.file_type().is_file())
    };
    let walk = WalkDir::new(folder).min_depth(1).max_depth(depth).follow_links(true).sort_by_file_name();
    let mut found = Vec::new();
    for entry in walk.into_iter().filter_entry(|entry| shown(entry)) {
        match entry {
            Ok(entry) => found.push(entry),
            Err(error) => {
                let path = error.path().unwrap_or(folder).to_owned();
                let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
                if path != folder && is_hidden {
                    // Editors leave links to nothing as locks.
                } else if error.loop_ancestor().is_some() {
                    return Err(DataError::layout(&path, LayoutFault::Loop));
                } else if path.is_symlink() && !path.exists() {
                    return Err(DataError::layout(&path, LayoutFault::Dangling));
                } else {
                    return Err(DataError::io("list", &path)(error.into()));
                }
            }
        }
    }
    Ok(found)
}

/// The images among some files, every class with at least one in every split.
fn images(files: Vec<Candidate>, passed: &mut PassedOver) -> Result<Vec<Sample>, DataError> {
    let folders: BTreeSet<PathBuf> = files.iter().map(|file| file.class_folder.clone()).collect();
    let headers: Vec<_> = files.par_iter().map(|file| header(&file.path)).collect();
    let mut samples: Vec<Sample> = Vec::new();
    for (file, header) in files.into_iter().zip(headers) {
        match header? {
            Some(header) => samples.push(Sample { file, header }),
            None => passed.over(Reason::NoImage, &file.path),
        }
    }
    let filled: BTreeSet<&PathBuf> = samples.iter().map(|sample| &sample.file.class_folder).collect();
    match folders.iter().find(|folder| !filled.contains(folder)) {
        Some(folder) => Err(DataError::layout(folder, LayoutFault::EmptyClass)),
        None => Ok(samples),
    }
}

/// A fifth of the images is for testing; `class/file` decides which, so that a copied folder is divided alike.
fn fifth(folder: &Path, samples: &[Sample], classes: usize) -> Result<Vec<bool>, DataError> {
    let key = |sample: &Sample| {
        let path = &sample.file.path;
        let inside: Vec<_> = path.strip_prefix(folder).unwrap_or(path).iter().collect();
        selection_key(inside.join(OsStr::new("/")).as_encoded_bytes())
    };
    let keys: Vec<u64> = samples.iter().map(key).collect();
    let labels: Vec<u32> = samples.iter().map(|sample| sample.file.label).collect();
    let chosen = stratified(&labels, &keys, classes, (samples.len() + 2) / 5);
    match chosen.contains(&true) {
        true => Ok(chosen),
        false => Err(DataError::layout(folder, LayoutFault::TooFew { images: samples.len() })),
    }
}

/// Decodes all images into one buffer, after the headers have shown that they fit together and into memory.
fn pixels(folder: &Path, samples: &[Sample], notes: &mut Vec<String>) -> Result<(ImageShape, Split), DataError> {
    let Some(first) = samples.first() else { return Err(DataError::layout(folder, LayoutFault::NoClasses)) };
    let size = |sample: &Sample| (sample.header.height, sample.header.width);
    if let Some(other) = samples.iter().find(|sample| size(sample) != size(first)) {
        let shape = |&Sample { header: Header { height, width, has_colour }, .. }: &Sample| ImageShape {
            height,
            width,
            channels: if has_colour { 3 } else { 1 },
        };
        return Err(DataError::ShapeMismatch {
            first: first.file.path.clone(),
            first_shape: shape(first),
            second: other.file.path.clone(),
            second_shape: shape(other),
        });
    }
    let (height, width) = size(first);
    let reserved = |shape: ImageShape| {
        let too_large = || DataError::layout(folder, LayoutFault::TooLarge { images: samples.len(), shape });
        let mut images = Vec::new();
        let bytes = samples.len().checked_mul(shape.pixels()).ok_or_else(too_large)?;
        images.try_reserve_exact(bytes).map_err(|_| too_large())?;
        Ok(images)
    };
    // Headers are only claims: the memory is asked for here, and taken when all images have been read.
    reserved(ImageShape { height, width, channels: 1 })?;

    let pictures: Vec<_> = samples.par_iter().map(|sample| decode(&sample.file.path)).collect();
    let pictures = pictures.into_iter().collect::<Result<Vec<Picture>, _>>()?;
    let turned = pictures.iter().filter(|picture| picture.turned).count();
    let deep: Vec<u16> = pictures.iter().filter_map(Picture::largest_deep_sample).collect();
    let largest = deep.iter().copied().max().unwrap_or(u16::MAX);
    let bits = (u16::BITS - largest.leading_zeros()).max(8);
    let decoded: Vec<_> = pictures
        .into_par_iter()
        .zip(samples)
        .map(|(picture, sample)| picture.into_pixels(bits, &sample.file.path))
        .collect();
    let decoded = decoded.into_iter().collect::<Result<Vec<Pixels>, _>>()?;
    let on_white = decoded.iter().filter(|pixels| pixels.on_white).count();
    let notes_of = [
        (turned, "turned upright, as EXIF orientation says".to_owned()),
        (on_white, "put on white, being transparent in parts".to_owned()),
        (deep.len(), format!("of 16-bit samples, at most {largest}, taken as {bits} bits and rounded to 8")),
    ];
    notes.extend(
        notes_of.into_iter().filter(|(count, _)| *count > 0).map(|(n, what)| format!("{} {what}", counted(n, "image"))),
    );

    let channels = decoded.iter().map(|pixels| pixels.channels).max().unwrap_or(1);
    let expected = ImageShape { height, width, channels };
    let mut images = reserved(expected)?;
    for (pixels, sample) in decoded.into_iter().zip(samples) {
        let own = ImageShape { channels: pixels.channels, ..expected };
        if pixels.bytes.len() != own.pixels() {
            let fault = Fault::Image("it changed while it was being read".into());
            return Err(DataError::malformed(&sample.file.path, Place::File, fault));
        }
        match (pixels.channels, channels) {
            (1, 3) => images.extend(pixels.bytes.iter().flat_map(|&grey| [grey; 3])),
            _ => images.extend(pixels.bytes),
        }
    }
    Ok((
        expected,
        Split { images, labels: samples.iter().map(|sample| sample.file.label).collect(), ..Split::default() },
    ))
}

/// Why something in a folder is no part of the set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    NoImage,
    NoRegularFile,
    Hidden,
    OutsideClasses,
    BesideSplits,
}

/// What was passed over: for every reason how many, and the first of them.
struct PassedOver {
    folder: PathBuf,
    found: BTreeMap<Reason, (usize, PathBuf)>,
}

impl PassedOver {
    fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), found: BTreeMap::new() }
    }

    fn over(&mut self, reason: Reason, path: &Path) {
        let inside = path.strip_prefix(&self.folder).unwrap_or(path).to_owned();
        self.found.entry(reason).or_insert((0, inside)).0 += 1;
    }

    /// All of it in a sentence.
    fn note(&self) -> Option<String> {
        let part = |(reason, (count, first)): (&Reason, &(usize, PathBuf))| {
            let what = match reason {
                Reason::NoImage => format!("{} without an image", counted(*count, "file")),
                Reason::NoRegularFile => format!("{count} that are no regular files"),
                Reason::Hidden => format!("{count} hidden"),
                Reason::OutsideClasses => format!("{} outside of the class folders", counted(*count, "image")),
                Reason::BesideSplits => format!("{} beside those to train and to test on", counted(*count, "folder")),
            };
            let among = if *count > 1 { "among them " } else { "" };
            format!("{what} ({among}{})", first.display())
        };
        let parts: Vec<String> = self.found.iter().map(part).collect();
        (!parts.is_empty()).then(|| format!("passed over {}", parts.join(", ")))
    }
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// What to do with a folder that holds the files of a known set in place of images.
fn known_set(folder: &Path) -> Option<String> {
    if let Some(file) = idx::holds(folder) {
        let file = file.display();
        return Some(format!(
            "this is no folder of images by class: it holds {file}; put such files into a folder `mnist` or \
             `fashion-mnist`, name the set so, and name the folder above with --data-dir"
        ));
    }
    [cifar::CIFAR10, cifar::CIFAR100].iter().find_map(|layout| {
        let binary = || {
            let name = layout.name;
            let hint = format!(
                "this is no folder of images by class: it holds files of {name}; name the set `{name}`, and the folder \
                 that holds {} or {} with --data-dir",
                layout.folder, layout.archive
            );
            cifar::holds(layout, folder).then_some(hint)
        };
        cifar::other_version(layout, folder).or_else(binary)
    })
}
