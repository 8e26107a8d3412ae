//! Text as sequences: windows of characters, and at every one the character that follows.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::Path;

use super::error::{DataError, Fault, Place};
use super::sequences::checked_length;
use super::source::Source;
use super::{Dataset, ImageShape, Split, short_name};

const LENGTHS: RangeInclusive<u32> = 1..=4096;
const LENGTH: u32 = 64;

/// Different characters, since a byte holds a character's number.
const MOST_SYMBOLS: usize = 256;

/// Bytes of the longest text that is read. Cutting it takes several times as much memory.
const LIMIT: u64 = 1 << 28;

/// The last tenth is for testing.
const TEST_SHARE: usize = 10;

/// A text file in UTF-8, plain or compressed by gzip, as [`windows`].
pub(super) fn load(file: &Path, length: Option<u32>) -> Result<Dataset, DataError> {
    let bytes = Source::open(file)?.rest_within(LIMIT)?;
    let malformed = |place, fault| DataError::malformed(file, place, fault);
    let text = String::from_utf8(bytes)
        .map_err(|error| malformed(Place::Byte(error.utf8_error().valid_up_to() as u64), Fault::Encoding))?;
    let name = short_name(&file.to_string_lossy());
    windows(&name, &text, length, |fault| malformed(Place::File, fault))
}

/// A text cut into windows of `length` characters that do not overlap; a label a character, that of the next one. The last
/// tenth is for testing. What is left over at the end of either part is left out.
pub(super) fn windows(
    name: &str,
    text: &str,
    length: Option<u32>,
    wrong: impl Fn(Fault) -> DataError,
) -> Result<Dataset, DataError> {
    let length = checked_length(name, length, LENGTH, LENGTHS)?;
    // One by one: collected, they would all be held and sorted.
    let mut symbols = BTreeSet::new();
    symbols.extend(text.chars());
    let symbols: Vec<char> = symbols.into_iter().collect();
    if symbols.len() > MOST_SYMBOLS {
        return Err(wrong(Fault::ManySymbols { found: symbols.len(), most: MOST_SYMBOLS }));
    }
    let number = |symbol: char| symbols.binary_search(&symbol).unwrap_or_default() as u8;
    let numbers: Vec<u8> = text.chars().map(number).collect();
    let (train, test) = numbers.split_at(numbers.len() - numbers.len() / TEST_SHARE);
    let window = length as usize;
    let needed = TEST_SHARE * (window + 1);
    if test.len() <= window {
        return Err(wrong(Fault::ShortText { found: numbers.len(), needed, length }));
    }
    let split = |numbers: &[u8]| {
        let count = (numbers.len() - 1) / window * window;
        let labels = numbers[1..=count].iter().map(|&number| number.into()).collect();
        Split { images: numbers[..count].to_vec(), labels, targets: length }
    };
    let shape = ImageShape { height: length, width: 1, channels: 1 };
    let names = symbols.iter().map(|symbol| symbol.escape_debug().collect()).collect();
    Dataset::of_tokens(name, shape, names, split(train), split(test))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str, length: u32) -> Result<Dataset, DataError> {
        windows("text", text, Some(length), |fault| DataError::malformed(Path::new("text"), Place::File, fault))
    }

    #[test]
    fn every_label_is_the_next_character() {
        let text: String = "Die Würde ist\nunantastbar. ".chars().cycle().take(517).collect();
        let data = cut(&text, 7).unwrap();
        assert_eq!(data.shape, ImageShape { height: 7, width: 1, channels: 1 });
        let symbol = |number: u8| data.classes[usize::from(number)].as_str();
        let read = |numbers: &[u8]| numbers.iter().map(|&n| symbol(n)).collect::<String>().replace("\\n", "\n");
        let characters: Vec<char> = text.chars().collect();
        // 517 characters: 466 and 51, of which one less makes windows.
        let [train, test] = [&characters[..466], &characters[466..]];
        for (split, part, windows) in [(&data.train, train, 66), (&data.test, test, 7)] {
            assert_eq!((split.len(), split.images.len(), split.labels.len()), (windows, 7 * windows, 7 * windows));
            let labels: Vec<u8> = split.labels.iter().map(|&label| label as u8).collect();
            assert_eq!(read(&split.images), part[..7 * windows].iter().collect::<String>());
            assert_eq!(read(&labels), part[1..=7 * windows].iter().collect::<String>());
        }
        assert_eq!((data.classes[0].as_str(), data.classes.len()), ("\\n", 16));
    }

    #[test]
    fn texts_that_cannot_be_cut_say_why() {
        let fails = |text: &str, length, words: &str| {
            let error = cut(text, length).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        fails(&"a".repeat(49), 4, "49 characters");
        assert!(cut(&"a".repeat(50), 4).is_ok());
        fails(&"ab".repeat(100), 0, "1 to 4096");
        let many: String = (0..300).filter_map(|n| char::from_u32(0x4e00 + n)).collect();
        fails(&many.repeat(10), 4, "300 different characters");
    }

    #[test]
    fn a_file_must_be_text() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mine.txt");
        std::fs::write(&file, [&b"text "[..], &[0xff, 0xfe]].concat()).unwrap();
        let error = load(&file, None).unwrap_err().to_string();
        assert!(error.contains("mine.txt") && error.contains("byte 5") && error.contains("UTF-8"), "{error}");
        std::fs::write(&file, "one two three ".repeat(100)).unwrap();
        let data = load(&file, Some(10)).unwrap();
        assert_eq!((data.name.as_str(), data.classes.len()), ("mine.txt", 8));
    }
}
