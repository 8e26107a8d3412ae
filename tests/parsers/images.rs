//! Data sets: IDX, CIFAR, folders of images, texts.

use std::io::{Cursor, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use image::{DynamicImage, ImageFormat, RgbImage};
use ldfa_gpu::data::{self, Dataset, SearchPath};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tempfile::TempDir;

use crate::MOST;
use crate::mutate::{changed, changes};
use crate::watch::{run, within};

/// A batch of CIFAR-10 is read as a whole.
const BATCH: usize = 10_000 * 3073;

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A whole set, or an error that names a file below the folder.
fn judged(opened: Result<Dataset, data::DataError>, folder: &Path) -> Result<bool, TestCaseError> {
    let passed = opened.is_ok();
    match opened {
        Ok(data) => {
            for split in [&data.train, &data.test] {
                prop_assert_eq!(split.images.len(), split.len() * data.shape.pixels());
                prop_assert!(split.labels.iter().all(|&label| (label as usize) < data.classes.len()));
            }
        }
        Err(error) => {
            let text = error.to_string();
            prop_assert!(text.contains(folder.to_str().unwrap()), "{text}");
        }
    }
    Ok(passed)
}

const IDX: [&str; 4] =
    ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];

/// Images or labels of a tiny set.
fn idx(file: &str) -> Vec<u8> {
    let count: u8 = if file.starts_with("train") { 9 } else { 4 };
    if file.contains("labels") {
        let header = [0, 0, 8, 1, 0, 0, 0, count];
        header.into_iter().chain((0..count).map(|label| label % 10)).collect()
    } else {
        let header = [0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, 6, 0, 0, 0, 5];
        header.into_iter().chain((0..30 * u32::from(count)).map(|pixel| (pixel * 37) as u8)).collect()
    }
}

/// A folder with the whole tiny set, of which cases change one file.
fn idx_set(cases: &str, ending: &str, pack: impl Fn(&[u8]) -> Vec<u8>) {
    let root = TempDir::new().unwrap();
    let folder = root.path().join("mnist");
    std::fs::create_dir(&folder).unwrap();
    let path = |file: &str| folder.join(format!("{file}{ending}"));
    for file in IDX {
        std::fs::write(path(file), pack(&idx(file))).unwrap();
    }
    let search = SearchPath::new(vec![root.path().to_owned()]);
    assert_eq!(data::open("mnist", &search).unwrap().train.len(), 9, "the set is whole before it is changed");
    // What is packed is changed before or after.
    run(cases, &(0..IDX.len(), any::<bool>(), changes()), |(which, inside, changes)| {
        let file = IDX[which];
        let whole = pack(&idx(file));
        let bytes = if inside { pack(&changed(&idx(file), &changes)) } else { changed(&whole, &changes) };
        std::fs::write(path(file), &bytes).unwrap();
        let opened = within(bytes.len(), MOST, || data::open("mnist", &search))?;
        std::fs::write(path(file), &whole).unwrap();
        judged(opened, root.path())
    });
}

#[test]
fn idx_files_are_refused_or_read() {
    idx_set("idx", "", <[u8]>::to_vec);
}

#[test]
fn packed_idx_files_are_refused_or_read() {
    idx_set("idx.gz", ".gz", gz);
}

/// The first batch is read, or at fault; the others, and with them the set, are missing.
#[test]
fn batches_of_cifar_are_refused_or_read() {
    let root = TempDir::new().unwrap();
    let folder = root.path().join("cifar-10-batches-bin");
    std::fs::create_dir(&folder).unwrap();
    let search = SearchPath::new(vec![root.path().to_owned()]);
    let whole: Vec<u8> = (0..BATCH).map(|at| if at % 3073 == 0 { (at % 10) as u8 } else { at as u8 }).collect();
    let file = folder.join("data_batch_1.bin");
    let lacks = |bytes: &[u8]| -> Result<String, TestCaseError> {
        std::fs::write(&file, bytes).unwrap();
        let opened = within(bytes.len(), MOST + 2 * BATCH, || data::open("cifar10", &search))?;
        Ok(opened.expect_err("five batches are missing").to_string())
    };
    assert!(lacks(&whole).unwrap().contains("data_batch_2.bin"), "the first one is read");
    // Most of them short, as reading is: records and pieces of records.
    let length = prop_oneof![1 => Just(BATCH), 9 => 0..20_000usize];
    run("cifar", &(length, changes()), |(length, changes)| {
        let text = lacks(&changed(&whole[..length], &changes))?;
        prop_assert!(text.contains("data_batch_"), "{text}");
        Ok(text.contains("data_batch_2.bin"))
    });
}

#[test]
fn archives_of_cifar_are_refused_or_read() {
    let root = TempDir::new().unwrap();
    let search = SearchPath::new(vec![root.path().to_owned()]);
    let mut archive = tar::Builder::new(Vec::new());
    for (file, bytes) in [("batches.meta.txt", &b"airplane\ncat\n"[..]), ("data_batch_1.bin", &[3; 3073 * 2])] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append_data(&mut header, format!("cifar-10-batches-bin/{file}"), bytes).unwrap();
    }
    let plain = archive.into_inner().unwrap();
    let file = root.path().join("cifar-10-binary.tar.gz");
    run("cifar.tar.gz", &(any::<bool>(), changes()), |(inside, changes)| {
        let bytes = if inside { gz(&changed(&plain, &changes)) } else { changed(&gz(&plain), &changes) };
        std::fs::write(&file, &bytes).unwrap();
        let opened = within(bytes.len(), MOST + 2 * BATCH, || data::open("cifar10", &search))?;
        prop_assert!(opened.is_err(), "it lacks most of its members");
        judged(opened, root.path())
    });
}

fn picture(format: ImageFormat) -> Vec<u8> {
    let image = RgbImage::from_fn(7, 5, |x, y| image::Rgb([(x * 36) as u8, (y * 50) as u8, (x * y) as u8]));
    let mut bytes = Vec::new();
    DynamicImage::ImageRgb8(image).write_to(&mut Cursor::new(&mut bytes), format).unwrap();
    bytes
}

#[test]
fn folders_of_images_are_refused_or_read() {
    let formats =
        [("png", ImageFormat::Png), ("jpg", ImageFormat::Jpeg), ("bmp", ImageFormat::Bmp), ("gif", ImageFormat::Gif)];
    let root = TempDir::new().unwrap();
    let folder = root.path().join("set");
    for class in ["cats", "dogs"] {
        std::fs::create_dir_all(folder.join(class)).unwrap();
        for number in 0..4 {
            std::fs::write(folder.join(class).join(format!("{number}.png")), picture(ImageFormat::Png)).unwrap();
        }
    }
    let search = SearchPath::new(Vec::new());
    let name = folder.to_str().unwrap();
    assert_eq!(data::open(name, &search).unwrap().classes, ["cats", "dogs"]);
    run("folder", &(0..formats.len(), changes()), |(which, changes)| {
        let (ending, format) = formats[which];
        let file = folder.join(format!("cats/changed.{ending}"));
        let bytes = changed(&picture(format), &changes);
        std::fs::write(&file, &bytes).unwrap();
        let opened = within(bytes.len(), MOST, || data::open(name, &search))?;
        std::fs::remove_file(&file).unwrap();
        judged(opened, &folder)
    });
}

#[test]
fn texts_are_refused_or_read() {
    let root = TempDir::new().unwrap();
    let file = root.path().join("mine.txt");
    let text = "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.\n".repeat(20);
    let search = SearchPath::new(Vec::new());
    let open = || data::open_cut(file.to_str().unwrap(), Some(9), &search);
    std::fs::write(&file, &text).unwrap();
    assert_eq!(open().unwrap().train.targets, 9);
    run("text", &(any::<bool>(), changes()), |(is_packed, changes)| {
        let bytes = if is_packed { gz(text.as_bytes()) } else { text.clone().into_bytes() };
        let bytes = changed(&bytes, &changes);
        std::fs::write(&file, &bytes).unwrap();
        judged(within(bytes.len(), MOST, open)?, root.path())
    });
}
