//! The digits that travel inside the program: 1797 grey images of 8 x 8, pixel values 0 to 16.
//!
//! E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998,
//! CC BY 4.0; the test part, in the form in which scikit-learn ships it.

use std::path::Path;

use super::error::{DataError, Fault, Place};
use super::source::Source;
use super::split::{selection_key, stratified};
use super::{Dataset, ImageShape, Split};

const FILE: &str = "datasets/digits/digits.csv.gz";
const COMPRESSED: &[u8] = include_bytes!("../../datasets/digits/digits.csv.gz");

const SHAPE: ImageShape = ImageShape { height: 8, width: 8, channels: 1 };
const CLASSES: usize = 10;
const MAX_PIXEL: u8 = 16;

/// About a fifth, as the conventional split of this set has it; 1437 images remain for training.
const TEST_IMAGES: usize = 360;

/// The text is 264,712 bytes.
const LIMIT: u64 = 1 << 20;

/// Unpacks the embedded set and divides it into its fixed, stratified 1437 training and 360 test images.
pub(super) fn load() -> Result<Dataset, DataError> {
    let file = Path::new(FILE);
    let text = Source::new(file, COMPRESSED)?.rest_within(LIMIT)?;
    let all = parse(file, &text)?;
    let keys: Vec<u64> = (0..all.len() as u64).map(|line| selection_key(&line.to_le_bytes())).collect();
    let chosen = stratified(&all.labels, &keys, CLASSES, TEST_IMAGES);
    let (train, test) = all.divide(SHAPE.pixels(), &chosen);
    let classes = (0..CLASSES).map(|digit| digit.to_string()).collect();
    Dataset::new("digits", SHAPE, classes, train, test)
}

/// Reads lines of 64 comma-separated pixel values, row by row, and the class.
pub(super) fn parse(file: &Path, text: &[u8]) -> Result<Split, DataError> {
    let fields = SHAPE.pixels() + 1;
    let mut split = Split::default();
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    if body.is_empty() {
        return Err(DataError::malformed(file, Place::File, Fault::Empty));
    }
    for (number, line) in (1..).zip(body.split(|&byte| byte == b'\n')) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let fault = |fault| DataError::malformed(file, Place::Line(number), fault);
        let found = line.split(|&byte| byte == b',').count();
        if found != fields {
            return Err(fault(Fault::FieldCount { found, expected: fields }));
        }
        for (field, text) in (1..).zip(line.split(|&byte| byte == b',')) {
            let max = if field < fields { MAX_PIXEL } else { CLASSES as u8 - 1 };
            match value(text) {
                Some(value) if value <= max && field < fields => split.images.push(value),
                Some(value) if value <= max => split.labels.push(value.into()),
                _ => {
                    let text = text.iter().take(16).map(|&byte| char::from(byte)).collect();
                    return Err(fault(Fault::Field { field, text, max }));
                }
            }
        }
    }
    Ok(split)
}

/// Digits only: `u8::from_str` would also take a sign.
fn value(text: &[u8]) -> Option<u8> {
    let digits = text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}
