//! A user's own images, in one folder for each class.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use image::{ImageDecoder, ImageFormat, ImageReader};
use rayon::prelude::*;

use super::error::{DataError, Fault, LayoutFault, Place};
use super::split::{selection_key, stratified};
use super::{Dataset, ImageShape, Split};

/// No classifier here takes larger images; a header that claims more is damaged.
const SIDE_LIMIT: u32 = 8192;

/// Loads `train/<class>/<image>` and `test/<class>/<image>`, or `<class>/<image>` with a fifth set aside for testing.
///
/// Classes are numbered in the order of their folders' names. Hidden files, and files whose extension is not that of an
/// image, are passed over. The set is grey if every image is (one with a palette counts as colour), else RGB. Of an
/// animation the first frame is taken; an alpha channel is dropped; samples of 16 bits are rounded to 8.
pub(super) fn load(folder: &Path) -> Result<Dataset, DataError> {
    let (train, test) = (folder.join("train"), folder.join("test"));
    let (classes, samples, chosen) = match (train.is_dir(), test.is_dir()) {
        (true, true) => divided(&train, &test)?,
        (false, false) => undivided(folder)?,
        (has_train, _) => {
            let (present, missing) = if has_train { ("train", "test") } else { ("test", "train") };
            return Err(DataError::layout(folder, LayoutFault::MissingSplit { present, missing }));
        }
    };
    let (shape, all) = decode(folder, &samples)?;
    let (train, test) = all.divide(shape.pixels(), &chosen);
    let absolute = folder.canonicalize().map_err(DataError::io("read", folder))?;
    let name = absolute.file_name().unwrap_or(OsStr::new("images")).to_string_lossy();
    Dataset::new(&name, shape, classes, train, test)
}

/// Class names, images, and for each image whether it is one for testing.
type Listing = (Vec<String>, Vec<Sample>, Vec<bool>);

fn divided(train: &Path, test: &Path) -> Result<Listing, DataError> {
    let (classes, test_classes) = (class_folders(train)?, class_folders(test)?);
    same_classes(&classes, test, &test_classes)?;
    same_classes(&test_classes, train, &classes)?;
    let mut samples = list(train, &classes)?;
    let mut chosen = vec![false; samples.len()];
    samples.extend(list(test, &classes)?);
    chosen.resize(samples.len(), true);
    Ok((classes, samples, chosen))
}

/// A fifth of the images is for testing; `class/file` decides which, so that a copied folder is divided alike.
fn undivided(folder: &Path) -> Result<Listing, DataError> {
    let classes = class_folders(folder)?;
    let samples = list(folder, &classes)?;
    let key = |sample: &Sample| {
        let inside: Vec<_> = sample.file.strip_prefix(folder).unwrap_or(&sample.file).iter().collect();
        selection_key(inside.join(OsStr::new("/")).as_encoded_bytes())
    };
    let keys: Vec<u64> = samples.iter().map(key).collect();
    let labels: Vec<u32> = samples.iter().map(|sample| sample.label).collect();
    let fifth = (samples.len() + 2) / 5;
    let chosen = stratified(&labels, &keys, classes.len(), fifth);
    if !chosen.contains(&true) {
        return Err(DataError::layout(folder, LayoutFault::TooFew { images: samples.len() }));
    }
    Ok((classes, samples, chosen))
}

struct Sample {
    file: PathBuf,
    label: u32,
}

/// Names of the sub folders, sorted.
fn class_folders(folder: &Path) -> Result<Vec<String>, DataError> {
    let mut names = Vec::new();
    for path in entries(folder)?.iter().filter(|path| path.is_dir()) {
        let name = path.file_name().and_then(OsStr::to_str);
        names.push(name.ok_or_else(|| DataError::layout(path, LayoutFault::ClassName))?.to_owned());
    }
    if names.is_empty() { Err(DataError::layout(folder, LayoutFault::NoClasses)) } else { Ok(names) }
}

fn same_classes(wanted: &[String], folder: &Path, present: &[String]) -> Result<(), DataError> {
    match wanted.iter().find(|class| !present.contains(class)) {
        None => Ok(()),
        Some(class) => Err(DataError::layout(folder, LayoutFault::MissingClass { class: class.clone() })),
    }
}

/// The image files of every class, in the order of class and file name.
fn list(folder: &Path, classes: &[String]) -> Result<Vec<Sample>, DataError> {
    let mut samples = Vec::new();
    for (label, class) in (0..).zip(classes) {
        let class_folder = folder.join(class);
        let before = samples.len();
        for file in entries(&class_folder)?.into_iter().filter(|path| path.is_file()) {
            match ImageFormat::from_path(&file) {
                Ok(format) if format.reading_enabled() => samples.push(Sample { file, label }),
                Ok(_) => return Err(DataError::layout(&file, LayoutFault::UnsupportedFormat)),
                Err(_) => {}
            }
        }
        if samples.len() == before {
            return Err(DataError::layout(&class_folder, LayoutFault::EmptyClass));
        }
    }
    Ok(samples)
}

/// What a folder holds and does not hide, sorted by name: file systems list in any order.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(DataError::io("list", folder))? {
        let entry = entry.map_err(DataError::io("list", folder))?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// Decodes all images into one buffer, after the headers have shown that they fit together and into memory.
fn decode(folder: &Path, samples: &[Sample]) -> Result<(ImageShape, Split), DataError> {
    let headers: Vec<_> = samples.par_iter().map(|sample| header(&sample.file)).collect();
    let headers = headers.into_iter().collect::<Result<Vec<_>, _>>()?;
    let channels = if headers.iter().any(|header| header.colour) { 3 } else { 1 };
    let shape = |header: &Header| ImageShape { height: header.height, width: header.width, channels };
    let (Some(first), Some(expected)) = (samples.first(), headers.first().map(shape)) else {
        return Err(DataError::layout(folder, LayoutFault::NoClasses));
    };
    for (sample, header) in samples.iter().zip(&headers) {
        if shape(header) != expected {
            return Err(DataError::ShapeMismatch {
                first: first.file.clone(),
                first_shape: expected,
                second: sample.file.clone(),
                second_shape: shape(header),
            });
        }
    }

    let too_large = || DataError::layout(folder, LayoutFault::TooLarge { images: samples.len(), shape: expected });
    let bytes = samples.len().checked_mul(expected.pixels()).ok_or_else(too_large)?;
    let mut images = Vec::new();
    images.try_reserve_exact(bytes).map_err(|_| too_large())?;
    images.resize(bytes, 0);
    let results: Vec<_> = images
        .par_chunks_mut(expected.pixels())
        .zip(samples)
        .map(|(pixels, sample)| decode_into(pixels, &sample.file, expected))
        .collect();
    results.into_iter().collect::<Result<(), _>>()?;
    Ok((expected, Split { images, labels: samples.iter().map(|sample| sample.label).collect() }))
}

struct Header {
    height: u32,
    width: u32,
    colour: bool,
}

fn header(file: &Path) -> Result<Header, DataError> {
    let decoder = reader(file)?.into_decoder().map_err(unreadable(file))?;
    let (width, height) = decoder.dimensions();
    if !(1..=SIDE_LIMIT).contains(&width) || !(1..=SIDE_LIMIT).contains(&height) {
        let reason = format!("its header claims {height} x {width} pixels, accepted are sides of 1 to {SIDE_LIMIT}");
        return Err(DataError::malformed(file, Place::File, Fault::Image(reason)));
    }
    Ok(Header { height, width, colour: decoder.color_type().has_color() })
}

fn decode_into(pixels: &mut [u8], file: &Path, expected: ImageShape) -> Result<(), DataError> {
    let image = reader(file)?.decode().map_err(unreadable(file))?;
    let decoded = match expected.channels {
        1 => image.into_luma8().into_raw(),
        _ => image.into_rgb8().into_raw(),
    };
    if decoded.len() != pixels.len() {
        let reason = "it changed while it was being read".into();
        return Err(DataError::malformed(file, Place::File, Fault::Image(reason)));
    }
    pixels.copy_from_slice(&decoded);
    Ok(())
}

/// The format is told by the content; the extension only where the content says nothing.
fn reader(file: &Path) -> Result<ImageReader<std::io::BufReader<fs::File>>, DataError> {
    ImageReader::open(file).and_then(ImageReader::with_guessed_format).map_err(DataError::io("read", file))
}

fn unreadable(file: &Path) -> impl Fn(image::ImageError) -> DataError {
    move |error| DataError::malformed(file, Place::File, Fault::Image(error.to_string()))
}
