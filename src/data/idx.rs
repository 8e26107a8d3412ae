//! IDX, the format of MNIST and Fashion-MNIST.
//!
//! Big-endian `u32` words: a magic number, then one size for each dimension; then the elements, one byte each. The
//! magic number holds the element type (0x08, unsigned byte) in its third byte and the number of dimensions in its
//! fourth. Source: the description on the MNIST home page, <http://yann.lecun.com/exdb/mnist/>.

use std::path::{Path, PathBuf};

use super::error::{DataError, Fault, Place};
use super::source::Source;
use super::{Dataset, ImageShape, SearchPath, Split, folders};

const IMAGES_MAGIC: u32 = 0x0803;
const LABELS_MAGIC: u32 = 0x0801;

/// No split of an IDX set comes near; a header that claims more is damaged.
const LIMIT: u64 = 1 << 31;

/// The same of labels, which take four bytes each in memory.
const LABELS_LIMIT: u64 = 1 << 26;

/// What the authors call the files; other copies have a dot before `idx`.
const FILES: [&str; 4] =
    ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];

/// Images as one IDX file holds them.
#[derive(Debug)]
pub(super) struct Images {
    pub(super) shape: ImageShape,
    pub(super) count: u64,
    pub(super) pixels: Vec<u8>,
}

/// Reads a file of images: magic 0x803, count, rows, columns, then a byte for each pixel.
pub(super) fn images(mut source: Source<'_>) -> Result<Images, DataError> {
    magic(&mut source, IMAGES_MAGIC)?;
    let [count, height, width] = [word(&mut source)?, word(&mut source)?, word(&mut source)?];
    let size = u128::from(count) * u128::from(height) * u128::from(width);
    if size == 0 || size > u128::from(LIMIT) {
        let claim = format!("{count} images of {height} x {width} pixels");
        return Err(source.fault(Place::Byte(4), Fault::AbsurdSize { claim, limit: LIMIT }));
    }
    let pixels = source.rest(size as u64)?;
    Ok(Images { shape: ImageShape { height, width, channels: 1 }, count: count.into(), pixels })
}

/// Reads a file of labels: magic 0x801, count, then a byte for each label, all below `classes`.
pub(super) fn labels(mut source: Source<'_>, classes: usize) -> Result<Vec<u32>, DataError> {
    magic(&mut source, LABELS_MAGIC)?;
    let count = u64::from(word(&mut source)?);
    if count == 0 || count > LABELS_LIMIT {
        let claim = format!("{count} labels");
        return Err(source.fault(Place::Byte(4), Fault::AbsurdSize { claim, limit: LABELS_LIMIT }));
    }
    let bytes = source.rest(count)?;
    if let Some(record) = bytes.iter().position(|&label| usize::from(label) >= classes) {
        let place = Place::Record { record: record as u64, byte: record as u64 + 8 };
        return Err(source.fault(place, Fault::LabelOutOfRange { label: bytes[record].into(), classes }));
    }
    Ok(bytes.into_iter().map(u32::from).collect())
}

/// Loads the set `name` from the first of its folders, or of folders `raw` in them, that holds any of its four files.
pub(super) fn load(name: &str, classes: &[&str], search: &SearchPath) -> Result<Dataset, DataError> {
    let folders = search.roots().iter().flat_map(|root| folders(root, name));
    for folder in folders.flat_map(|folder| [folder.clone(), folder.join("raw")]) {
        let found = FILES.map(|file| existing(&folder, file));
        if let [Some(train_images), Some(train_labels), Some(test_images), Some(test_labels)] = &found {
            let (shape, train) = split(train_images, train_labels, classes.len())?;
            let (test_shape, test) = split(test_images, test_labels, classes.len())?;
            if test_shape != shape {
                return Err(DataError::ShapeMismatch {
                    first: train_images.clone(),
                    first_shape: shape,
                    second: test_images.clone(),
                    second_shape: test_shape,
                });
            }
            let classes = classes.iter().map(ToString::to_string).collect();
            return Dataset::new(name, shape, classes, train, test);
        }
        // A folder that holds some of the files is the one that was meant: name what it lacks and look no further.
        if found.iter().any(Option::is_some) {
            let missing = FILES.iter().zip(&found).filter(|(_, path)| path.is_none());
            let missing = missing.map(|(file, _)| folder.join(format!("{file}.gz"))).collect();
            return Err(search.not_found(name, missing, &[]));
        }
    }
    let roots = search.roots();
    let looked = roots.iter().flat_map(|root| FILES.map(|file| root.join(name).join(format!("{file}.gz"))));
    let loose = roots.iter().find_map(|root| holds(root));
    let hint = loose.map(|file| format!("found {}: put the four files into a folder `{name}`", file.display()));
    Err(search.not_found(name, looked.collect(), hint.as_slice()))
}

/// The first of the four files that a folder, or a folder `raw` in it, holds.
pub(super) fn holds(folder: &Path) -> Option<PathBuf> {
    [folder.to_owned(), folder.join("raw")]
        .iter()
        .find_map(|folder| FILES.iter().find_map(|file| existing(folder, file)))
}

fn existing(folder: &Path, file: &str) -> Option<PathBuf> {
    let names = [file.to_owned(), file.replace("-idx", ".idx")];
    names.iter().flat_map(|name| [folder.join(name), folder.join(format!("{name}.gz"))]).find(|path| path.is_file())
}

fn split(images_file: &Path, labels_file: &Path, classes: usize) -> Result<(ImageShape, Split), DataError> {
    let labels = labels(Source::open(labels_file)?, classes)?;
    let images = images(Source::open(images_file)?)?;
    if images.count != labels.len() as u64 {
        let fault = Fault::CountMismatch {
            labels: labels.len() as u64,
            images: images.count,
            images_file: images_file.to_owned(),
        };
        return Err(DataError::malformed(labels_file, Place::Byte(4), fault));
    }
    Ok((images.shape, Split { images: images.pixels, labels, ..Split::default() }))
}

fn word(source: &mut Source<'_>) -> Result<u32, DataError> {
    source.array().map(u32::from_be_bytes)
}

fn magic(source: &mut Source<'_>, expected: u32) -> Result<(), DataError> {
    let found = word(source)?;
    let hint = match found {
        _ if found == expected => return Ok(()),
        IMAGES_MAGIC => " (this is a file of images)",
        LABELS_MAGIC => " (this is a file of labels)",
        _ => " (this is not an IDX file of unsigned bytes)",
    };
    Err(source.fault(Place::Byte(0), Fault::WrongMagic { expected, found, hint }))
}
