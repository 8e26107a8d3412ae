//! The parsers, against each kind of damage and against arbitrary and mutated bytes.

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;

use super::cifar::{self, Layout};
use super::source::Source;
use super::*;

const FILE: &str = "some-file";

fn source(bytes: &[u8]) -> Result<Source<'_>, DataError> {
    Source::new(Path::new(FILE), bytes)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn fault<T: fmt::Debug>(result: Result<T, DataError>) -> (Place, Fault) {
    match result {
        Err(DataError::Malformed { place, fault, .. }) => (place, fault),
        other => panic!("expected a malformed file, got {other:?}"),
    }
}

/// Three images of 2 x 5.
fn idx_images() -> Vec<u8> {
    let header = [0x803u32, 3, 2, 5].map(u32::to_be_bytes).concat();
    header.into_iter().chain(0..30).collect()
}

fn idx_labels() -> Vec<u8> {
    let header = [0x801u32, 3].map(u32::to_be_bytes).concat();
    header.into_iter().chain([7, 0, 9]).collect()
}

fn parse_images(bytes: &[u8]) -> Result<idx::Images, DataError> {
    idx::images(source(bytes)?)
}

fn parse_labels(bytes: &[u8]) -> Result<Vec<u32>, DataError> {
    idx::labels(source(bytes)?, 10)
}

#[test]
fn idx_is_read_plain_and_compressed() {
    for bytes in [idx_images(), gzip(&idx_images())] {
        let images = parse_images(&bytes).unwrap();
        assert_eq!(images.shape, ImageShape { height: 2, width: 5, channels: 1 });
        assert_eq!((images.count, images.pixels), (3, (0..30).collect()));
    }
    assert_eq!(parse_labels(&idx_labels()).unwrap(), [7, 0, 9]);
}

#[test]
fn idx_damage_is_named_with_its_place() {
    let (images, labels) = (idx_images(), idx_labels());
    let extended = [&images[..], &[0]].concat();
    assert_eq!(fault(parse_images(&[])), (Place::File, Fault::Empty));
    assert_eq!(fault(parse_images(&images[..9])), (Place::Byte(9), Fault::Truncated { expected: 12 }));
    assert_eq!(fault(parse_images(&images[..40])), (Place::Byte(40), Fault::Truncated { expected: 46 }));
    assert_eq!(fault(parse_images(&extended)), (Place::Byte(46), Fault::Trailing));
    assert_eq!(fault(parse_images(&gzip(&extended))), (Place::Byte(46), Fault::Trailing));
    assert!(matches!(
        fault(parse_images(&labels)),
        (Place::Byte(0), Fault::WrongMagic { expected: 0x803, found: 0x801, hint }) if hint.contains("labels")
    ));
    let mut wrong = labels.clone();
    wrong[10] = 10;
    let out_of_range = Fault::LabelOutOfRange { label: 10, classes: 10 };
    assert_eq!(fault(parse_labels(&wrong)), (Place::Record { record: 2, byte: 10 }, out_of_range));
}

#[test]
fn absurd_headers_are_refused_without_allocating() {
    for sizes in [[u32::MAX; 3], [0, 28, 28], [1 << 30, 28, 28], [60_000, 0, 28]] {
        let header = [&[0x803][..], &sizes].concat().iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>();
        assert!(matches!(fault(parse_images(&header)), (Place::Byte(4), Fault::AbsurdSize { .. })));
    }
    // Just acceptable, but not there: the buffer must follow the content, not the claim.
    let header = [0x803u32, 1 << 11, 1 << 10, 1 << 10].map(u32::to_be_bytes).concat();
    assert_eq!(fault(parse_images(&header)), (Place::Byte(16), Fault::Truncated { expected: (1 << 31) + 16 }));
}

#[test]
fn damaged_compression_is_named() {
    let whole = gzip(&idx_images());
    let mut flipped = whole.clone();
    let checksum = flipped.len() - 6;
    flipped[checksum] ^= 1;
    for bytes in [&flipped[..], &whole[..whole.len() - 9], &whole[..5], &[&whole[..], b"tail"].concat()] {
        assert!(matches!(fault(parse_images(bytes)).1, Fault::Compression(_)));
    }
}

#[test]
fn text_faults_name_line_and_field() {
    let parse = |text: &str| digits::parse(Path::new(FILE), text.as_bytes());
    let line = |last: &str| format!("{}{last}", "0,".repeat(64));
    let good = line("3");
    assert_eq!(parse(&format!("{good}\r\n{good}\n")).unwrap().labels, [3, 3]);
    assert_eq!(fault(parse("\n")), (Place::File, Fault::Empty));
    let field = |field, text: &str, max| Fault::Field { field, text: text.into(), max };
    assert_eq!(fault(parse(&format!("{good}\n{}", line("10")))), (Place::Line(2), field(65, "10", 9)));
    assert_eq!(fault(parse(&good.replacen('0', "17", 1))), (Place::Line(1), field(1, "17", 16)));
    assert_eq!(fault(parse(&good.replacen('0', "+1", 1))), (Place::Line(1), field(1, "+1", 16)));
    assert_eq!(fault(parse(&good.replacen('0', "", 1))), (Place::Line(1), field(1, "", 16)));
    let missing = Fault::FieldCount { found: 64, expected: 65 };
    assert_eq!(fault(parse(&format!("{good}\n{}", &good[2..]))), (Place::Line(2), missing));
}

const TINY: Layout = Layout {
    name: "tiny",
    folder: "tiny-bin",
    archive: "tiny.tar.gz",
    batches: &[("one.bin", 2), ("two.bin", 1), ("test.bin", 1)],
    label_bytes: 2,
    names: "names.txt",
    others: &[],
    classes: &["a", "b", "c"],
};

/// A record whose planes hold 1, 2, 3 but for the first pixel, 11, 12, 13.
fn record(label: u8) -> Vec<u8> {
    let plane = |value: u8| [vec![value + 10], vec![value; 1023]].concat();
    [vec![200, label], plane(1), plane(2), plane(3)].concat()
}

fn tiny_files() -> Vec<(&'static str, Vec<u8>)> {
    // Out of order, with a stranger among them.
    vec![
        ("test.bin", record(1)),
        ("readme.html", b"<html>".to_vec()),
        ("two.bin", record(0)),
        ("names.txt", b"ape\nbee\n\ncat\n".to_vec()),
        ("one.bin", [record(2), record(1)].concat()),
    ]
}

fn tar_of(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (file, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, format!("tiny-bin/{file}"), &content[..]).unwrap();
    }
    builder.into_inner().unwrap()
}

fn load_tiny(archive: &[u8]) -> Result<Dataset, DataError> {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("tiny.tar.gz"), archive).unwrap();
    cifar::load(&TINY, &SearchPath::new(vec![root.path().into()]))
}

#[test]
fn cifar_is_read_from_folder_and_archive_alike() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("tiny/tiny-bin");
    fs::create_dir_all(&folder).unwrap();
    for (file, content) in tiny_files() {
        fs::write(folder.join(file), content).unwrap();
    }
    let search = SearchPath::new(vec![root.path().into()]);
    let set = cifar::load(&TINY, &search).unwrap();
    assert_eq!(set.classes, ["ape", "bee", "cat"]);
    assert_eq!((&set.train.labels[..], &set.test.labels[..]), (&[2, 1, 0][..], &[1][..]));
    assert_eq!(set.train.images[..6], [11, 12, 13, 1, 2, 3]);
    assert_eq!(load_tiny(&gzip(&tar_of(&tiny_files()))).unwrap(), set);
    assert_eq!(load_tiny(&tar_of(&tiny_files())).unwrap(), set);

    fs::remove_file(folder.join("names.txt")).unwrap();
    assert_eq!(cifar::load(&TINY, &search).unwrap().classes, TINY.classes);
    fs::write(folder.join("names.txt"), "ape\nbee\n").unwrap();
    assert_eq!(fault(cifar::load(&TINY, &search)).1, Fault::ClassNames { found: 2, expected: 3 });
    fs::remove_file(folder.join("two.bin")).unwrap();
    fs::remove_file(folder.join("names.txt")).unwrap();
    let missing = cifar::load(&TINY, &search).unwrap_err();
    assert!(matches!(&missing, DataError::NotFound { looked, .. } if looked == &[folder.join("two.bin")]));
}

#[test]
fn damaged_archives_are_named() {
    let files = tiny_files();
    let whole = gzip(&tar_of(&files));
    assert!(matches!(fault(load_tiny(&whole[..whole.len() / 2])).1, Fault::Archive(_) | Fault::Compression(_)));
    let mut flipped = whole.clone();
    let checksum = flipped.len() - 6;
    flipped[checksum] ^= 1;
    assert!(matches!(fault(load_tiny(&flipped)).1, Fault::Archive(_)));
    let missing = Fault::MissingMember("tiny-bin/test.bin".into());
    assert_eq!(fault(load_tiny(&tar_of(&files[1..]))), (Place::File, missing));

    let altered = |index: usize, content: Vec<u8>| {
        let mut files = files.clone();
        files[index].1 = content;
        load_tiny(&gzip(&tar_of(&files)))
    };
    assert_eq!(fault(altered(4, record(1))), (Place::Byte(3074), Fault::Truncated { expected: 6148 }));
    assert_eq!(fault(altered(4, record(1).repeat(3))), (Place::Byte(6148), Fault::Trailing));
    let out_of_range = Fault::LabelOutOfRange { label: 3, classes: 3 };
    let place = Place::Record { record: 1, byte: 3074 };
    assert_eq!(fault(altered(4, [record(0), record(3)].concat())), (place, out_of_range));
}

/// A valid file with some bytes replaced, cut anywhere, or extended.
fn mutated(valid: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let length = valid.len();
    let edits = prop::collection::vec((0..length, any::<u8>()), 0..6);
    (edits, 0..=length, prop::collection::vec(any::<u8>(), 0..4)).prop_map(move |(edits, end, tail)| {
        let mut bytes = valid.clone();
        for (index, value) in edits {
            bytes[index] = value;
        }
        // Half of the cases keep their length, so that content is reached as well as headers.
        if end % 2 == 0 {
            bytes.truncate(end);
        }
        bytes.extend(tail);
        bytes
    })
}

fn arbitrary_or(valid: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![prop::collection::vec(any::<u8>(), 0..200), mutated(gzip(&valid)), mutated(valid)]
}

proptest! {
    #[test]
    fn idx_never_panics(images in arbitrary_or(idx_images()), labels in arbitrary_or(idx_labels())) {
        if let Ok(images) = parse_images(&images) {
            prop_assert_eq!(images.pixels.len() as u64, images.count * images.shape.pixels() as u64);
        }
        if let Ok(labels) = parse_labels(&labels) {
            prop_assert!(labels.iter().all(|&label| label < 10));
        }
    }

    #[test]
    fn text_never_panics(text in arbitrary_or(format!("{}5\n{}6\n", "16,".repeat(64), "3,".repeat(64)).into_bytes())) {
        if let Ok(split) = digits::parse(Path::new(FILE), &text) {
            prop_assert_eq!(split.images.len(), 64 * split.len());
        }
    }

    #[test]
    fn cifar_never_panics(
        bytes in arbitrary_or([record(2), record(0)].concat()),
        names in arbitrary_or(b"ape\nbee\ncat\n".to_vec()),
    ) {
        if let Ok(split) = source(&bytes).and_then(|source| cifar::batch(source, &TINY, 2)) {
            prop_assert_eq!((split.len(), split.images.len()), (2, 2 * 3072));
        }
        if let Ok(names) = source(&names).and_then(|source| cifar::names(source, 3)) {
            prop_assert_eq!(names.len(), 3);
        }
    }

    #[test]
    fn archives_never_panic(archive in arbitrary_or(tar_of(&tiny_files()))) {
        if let Ok(set) = load_tiny(&archive) {
            prop_assert_eq!((set.train.len(), set.test.len()), (3, 1));
        }
    }
}

#[test]
fn inconsistent_sets_are_refused() {
    let shape = ImageShape { height: 1, width: 2, channels: 1 };
    let good = Split { images: vec![1, 2], labels: vec![0], ..Split::default() };
    let build = |shape, train| Dataset::new("made", shape, vec!["only".into()], train, good.clone());
    assert!(build(shape, good.clone()).is_ok());
    for (shape, split) in [
        (shape, Split::default()),
        (shape, Split { images: vec![1], labels: vec![0], ..Split::default() }),
        (shape, Split { images: vec![1, 2], labels: vec![1], ..Split::default() }),
        (ImageShape { width: 0, ..shape }, good.clone()),
        (ImageShape { height: u32::MAX, width: u32::MAX, channels: u32::MAX }, good.clone()),
    ] {
        assert!(matches!(build(shape, split), Err(DataError::Inconsistent { .. })));
    }
}

#[test]
fn statistics_are_per_channel_and_exact() {
    let shape = ImageShape { height: 1, width: 2, channels: 3 };
    let train = Split { images: vec![0, 5, 255, 2, 5, 255, 0, 5, 0, 2, 5, 0], labels: vec![0, 2], ..Split::default() };
    let classes = ["a", "b", "c"].map(String::from).to_vec();
    let set = Dataset::new("made", shape, classes, train.clone(), train).unwrap();
    let statistics = set.channel_statistics();
    assert_eq!(statistics.mean, [1.0, 5.0, 127.5]);
    assert_eq!(statistics.std, [1.0, 0.0, 127.5]);
    assert_eq!(set.class_histogram(&set.train), [1, 0, 1]);
}

mod colours {
    use crate::data::{Dataset, ImageShape, Split};

    #[test]
    fn grey_is_the_luma_and_another_set() {
        let shape = ImageShape { height: 1, width: 2, channels: 3 };
        let split = || Split {
            images: vec![255, 0, 0, 0, 255, 0, 0, 0, 255, 200, 100, 50],
            labels: vec![0, 1],
            ..Split::default()
        };
        let classes = vec!["a".to_owned(), "b".to_owned()];
        let colour = Dataset::new("set", shape, classes.clone(), split(), split()).unwrap();
        let grey = colour.clone().grey();
        assert_eq!(grey.shape, ImageShape { channels: 1, ..shape });
        // 76.2, 149.7, 29.1, and 59.8 + 58.7 + 5.7.
        assert_eq!((&grey.train.images, &grey.test.images), (&vec![76, 150, 29, 124], &vec![76, 150, 29, 124]));
        assert_ne!(grey.checksum, colour.checksum);
        let made = Dataset::new("set", grey.shape, classes, grey.train.clone(), grey.test.clone()).unwrap();
        assert_eq!((&made.checksum, &grey.clone().grey()), (&grey.checksum, &grey), "grey again changes nothing");
    }

    #[test]
    fn shrunk_pixels_are_means() {
        let shape = ImageShape { height: 2, width: 4, channels: 2 };
        // Channel 0 counts the columns, channel 1 is 100 in the first row and 103 in the second.
        let image: Vec<u8> = (0..8).flat_map(|at| [at % 4 * 10, 100 + at / 4 * 3]).collect();
        let split = || Split { images: [&image[..], &[7; 16]].concat(), labels: vec![0, 0], ..Split::default() };
        let whole = Dataset::new("set", shape, vec!["a".to_owned()], split(), split()).unwrap();
        let small = whole.clone().shrunk(2);
        assert_eq!(small.shape, ImageShape { height: 1, width: 2, channels: 2 });
        assert_eq!(small.train.images, [5, 102, 25, 102, 7, 7, 7, 7]);
        assert!(small.test == small.train && small.checksum != whole.checksum);
        assert_eq!(whole.clone().shrunk(1), whole);
        assert_eq!(whole.clone().shrunk(3), whole, "no multiple");
    }
}
