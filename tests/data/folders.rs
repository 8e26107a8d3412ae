//! Folders of images by class.

use std::fs;
use std::path::Path;

use image::{GrayImage, ImageBuffer, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use ldfa_gpu::data::{DataError, Dataset, Fault, ImageShape, LayoutFault, SearchPath, open};
use tempfile::TempDir;

fn grey(path: &Path, value: u8, width: u32, height: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    GrayImage::from_pixel(width, height, Luma([value])).save(path).unwrap();
}

fn load(root: &TempDir) -> Result<Dataset, DataError> {
    open(root.path().to_str().unwrap(), &SearchPath::new(Vec::new()))
}

fn layout(root: &TempDir) -> LayoutFault {
    match load(root).unwrap_err() {
        DataError::Layout { fault, .. } => fault,
        other => panic!("{other:?}"),
    }
}

/// Two classes of five grey images, each pixel the number of its image.
fn unsplit() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for (class, first) in [("zebra", 10), ("ant", 0)] {
        for index in 0..5 {
            grey(&root.path().join(class).join(format!("{index}.png")), first + index, 3, 2);
        }
    }
    root
}

#[test]
fn an_undivided_folder_keeps_a_fifth_of_each_class_for_testing() {
    let root = unsplit();
    let set = load(&root).unwrap();
    assert_eq!(set.classes, ["ant", "zebra"]);
    assert_eq!(set.shape, ImageShape { height: 2, width: 3, channels: 1 });
    assert_eq!((set.class_histogram(&set.train), set.class_histogram(&set.test)), (vec![4, 4], vec![1, 1]));
    for split in [&set.train, &set.test] {
        for (image, &label) in split.images.chunks(6).zip(&split.labels) {
            assert_eq!(u32::from(image[0]) / 10, label);
        }
    }
    // The same images elsewhere, among things that are no images, are divided alike.
    let other = unsplit();
    fs::write(other.path().join("ant/notes.txt"), "no image").unwrap();
    fs::write(other.path().join("ant/.hidden.png"), "no image").unwrap();
    fs::write(other.path().join("readme.md"), "no class").unwrap();
    assert_eq!(load(&other).unwrap().checksum, set.checksum);
}

#[test]
fn a_folder_is_found_by_name_below_a_root() {
    let root = tempfile::tempdir().unwrap();
    for split in ["train", "test"] {
        for (value, class) in [(1, "one"), (2, "two")] {
            grey(&root.path().join("mine").join(split).join(class).join("a.png"), value, 4, 4);
        }
    }
    let set = open("mine", &SearchPath::new(vec!["missing".into(), root.path().into()])).unwrap();
    assert_eq!(
        (set.name.as_str(), set.train.labels.as_slice(), set.test.labels.as_slice()),
        ("mine", &[0, 1][..], &[0, 1][..])
    );
    assert_eq!(set.test.images[15..17], [1, 2]);
}

#[test]
fn one_colour_image_makes_the_set_rgb() {
    let root = unsplit();
    RgbImage::from_pixel(3, 2, Rgb([9, 8, 7])).save(root.path().join("ant/0.png")).unwrap();
    RgbaImage::from_pixel(3, 2, Rgba([6, 5, 4, 0])).save(root.path().join("ant/1.png")).unwrap();
    let deep: ImageBuffer<Luma<u16>, Vec<u16>> = ImageBuffer::from_pixel(3, 2, Luma([0xff00]));
    deep.save(root.path().join("ant/2.png")).unwrap();
    let set = load(&root).unwrap();
    assert_eq!(set.shape.channels, 3);
    let all = [&set.train.images[..], &set.test.images[..]].concat();
    let first_pixels: Vec<&[u8]> = all.chunks(18).map(|image| &image[..3]).collect();
    for pixel in [[9, 8, 7], [6, 5, 4], [254, 254, 254], [14, 14, 14]] {
        assert!(first_pixels.contains(&&pixel[..]), "{pixel:?} in {first_pixels:?}");
    }
}

#[test]
fn different_sizes_name_both_files() {
    let root = unsplit();
    grey(&root.path().join("zebra/3.png"), 1, 2, 2);
    let error = load(&root).unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, DataError::ShapeMismatch { .. }), "{error:?}");
    for part in ["ant/0.png", "2 x 3 x 1", "zebra/3.png", "2 x 2 x 1"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn wrong_layouts_are_named() {
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(layout(&empty), LayoutFault::NoClasses);
    fs::create_dir(empty.path().join("class")).unwrap();
    assert_eq!(layout(&empty), LayoutFault::EmptyClass);
    grey(&empty.path().join("class/a.png"), 0, 1, 1);
    assert_eq!(layout(&empty), LayoutFault::TooFew { images: 1 });
    fs::write(empty.path().join("class/a.webp"), "").unwrap();
    assert_eq!(layout(&empty), LayoutFault::UnsupportedFormat);

    let split = tempfile::tempdir().unwrap();
    grey(&split.path().join("train/a/1.png"), 0, 1, 1);
    assert_eq!(layout(&split), LayoutFault::MissingSplit { present: "train", missing: "test" });
    grey(&split.path().join("test/a/1.png"), 0, 1, 1);
    load(&split).unwrap();
    grey(&split.path().join("test/b/1.png"), 0, 1, 1);
    assert_eq!(layout(&split), LayoutFault::MissingClass { class: "b".into() });
}

#[test]
fn broken_images_are_named() {
    let root = unsplit();
    let file = root.path().join("ant/2.png");
    let whole = fs::read(&file).unwrap();
    let mut huge = whole.clone();
    huge[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
    for content in [&[][..], b"text", &whole[..20], &whole[..whole.len() - 20], &huge] {
        fs::write(&file, content).unwrap();
        let error = load(&root).unwrap_err();
        assert!(
            matches!(&error, DataError::Malformed { file: named, fault: Fault::Image(_), .. } if *named == file),
            "{error:?}"
        );
    }
}
