//! Folders of images by class.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use image::{GrayImage, ImageBuffer, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use ldfa_gpu::data::{DataError, Dataset, Fault, ImageShape, LayoutFault, SearchPath, open, short_name};
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

fn rgb(path: &Path, pixel: impl Fn(u32, u32) -> [u8; 3]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    RgbImage::from_fn(3, 2, |x, y| Rgb(pixel(x, y))).save(path).unwrap();
}

/// The notes of a set, which must be exactly these.
fn notes(root: &TempDir, expected: &[&str]) -> Dataset {
    let set = load(root).unwrap();
    assert_eq!(set.notes, expected);
    set
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
    // Runs on folders from before go on only while the same files make the same set.
    assert_eq!(set.checksum, "8abac4ba191d45d51f3f59a2fa4cf7e41c51f2811e41fbe97b6522d2dbe242f1");
    // The same images elsewhere, among things that are no images, are divided alike.
    let other = unsplit();
    for (file, content) in [
        ("ant/notes.txt", "no image"),
        ("ant/zebra.csv", "no image"),
        ("ant/.hidden.png", "no image"),
        ("ant/.DS_Store", "no image"),
        ("ant/._1.png", "no image"),
        ("zebra/README.md", "no image"),
        ("zebra/Thumbs.db", "no image"),
        ("readme.md", "no class"),
        ("classes.csv", "no class"),
    ] {
        fs::write(other.path().join(file), content).unwrap();
    }
    let passed = "passed over 2 files without an image (among them ant/notes.txt), 1 hidden (ant/.hidden.png)";
    assert_eq!(notes(&other, &[passed]).checksum, set.checksum);
    assert_eq!(load(&other).unwrap().remark().unwrap(), format!("data set {}: {passed}", load(&other).unwrap().name));
    assert_eq!(
        (&set.notes[..], set.remark()),
        (&[][..], None),
        "of a set that is as its files are there is nothing to say"
    );
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
    assert_eq!(layout(&empty), LayoutFault::OneClass { class: "class".into() });
    grey(&empty.path().join("other/a.png"), 0, 1, 1);
    assert_eq!(layout(&empty), LayoutFault::EmptyClass);
    fs::write(empty.path().join("class/labels.txt"), "no image").unwrap();
    assert_eq!(layout(&empty), LayoutFault::EmptyClass);
    grey(&empty.path().join("class/a.png"), 0, 1, 1);
    assert_eq!(layout(&empty), LayoutFault::TooFew { images: 2 });

    let split = tempfile::tempdir().unwrap();
    grey(&split.path().join("train/a/1.png"), 0, 1, 1);
    assert!(matches!(layout(&split), LayoutFault::Division { found, .. } if found == "`train`"));
    grey(&split.path().join("test/a/1.png"), 0, 1, 1);
    assert_eq!(layout(&split), LayoutFault::OneClass { class: "a".into() });
    for part in ["test", "train"] {
        grey(&split.path().join(part).join("b/1.png"), 0, 1, 1);
    }
    load(&split).unwrap();
    grey(&split.path().join("test/c/1.png"), 0, 1, 1);
    assert_eq!(layout(&split), LayoutFault::MissingClass { class: "c".into() });
}

#[test]
fn images_of_formats_that_are_not_read_are_no_strangers() {
    let heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic";
    for (file, content) in
        [("a.webp", &b""[..]), ("a.heic", b""), ("a", heic), ("a.dat", b"RIFF\x10\0\0\0WEBPVP8 "), ("a.TIF", b"II*\0")]
    {
        let root = unsplit();
        fs::write(root.path().join("ant").join(file), content).unwrap();
        assert_eq!(layout(&root), LayoutFault::UnsupportedFormat, "{file}");
    }
}

#[test]
fn an_image_is_told_by_its_content() {
    let (root, expected) = (unsplit(), load(&unsplit()).unwrap());
    let labels = |set: &Dataset| (set.class_histogram(&set.train), set.class_histogram(&set.test));
    for (from, to) in [("ant/0.png", "ant/0"), ("ant/1.png", "ant/1.dat"), ("zebra/2.png", "zebra/2.jpg")] {
        fs::rename(root.path().join(from), root.path().join(to)).unwrap();
    }
    GrayImage::from_pixel(3, 2, Luma([77])).save(root.path().join("zebra/x.jpg")).unwrap();
    fs::rename(root.path().join("zebra/x.jpg"), root.path().join("zebra/x.jpe")).unwrap();
    let set = notes(&root, &[]);
    assert_eq!(set.train.len() + set.test.len(), expected.train.len() + expected.test.len() + 1);
    assert_ne!(labels(&set), labels(&expected));
    fs::write(root.path().join("zebra/x.jpe"), "no image").unwrap();
    assert!(matches!(load(&root), Err(DataError::Malformed { fault: Fault::Image(_), .. })));
}

#[test]
fn folders_within_a_class_belong_to_it() {
    let root = unsplit();
    for index in 0..3 {
        grey(&root.path().join(format!("ant/more/and/{index}.png")), 5 + index, 3, 2);
    }
    let set = notes(&root, &[]);
    assert_eq!(set.classes, ["ant", "zebra"]);
    assert_eq!(set.train.len() + set.test.len(), 13);
    assert_eq!(set.class_histogram(&set.train)[0] + set.class_histogram(&set.test)[0], 8);
    for split in [&set.train, &set.test] {
        for (image, &label) in split.images.chunks(6).zip(&split.labels) {
            assert_eq!(u32::from(image[0]) / 10, label);
        }
    }
}

#[cfg(unix)]
#[test]
fn links_to_nothing_and_in_circles_are_refused_and_only_regular_files_are_read() {
    use std::os::unix::fs::symlink;

    let root = unsplit();
    let elsewhere = unsplit();
    symlink(elsewhere.path().join("ant/0.png"), root.path().join("ant/7.png")).unwrap();
    symlink(elsewhere.path().join("ant"), root.path().join("ant/more")).unwrap();
    symlink("/nowhere/at/all", root.path().join("ant/.#lock.png")).unwrap();
    let set = notes(&root, &[]);
    assert_eq!(set.train.len() + set.test.len(), 16, "links to images and folders are followed");

    let made = std::process::Command::new("mkfifo").arg(root.path().join("ant/pipe.png")).status().unwrap();
    assert!(made.success());
    symlink("/dev/zero", root.path().join("zebra/zero.png")).unwrap();
    notes(&root, &["passed over 2 that are no regular files (among them ant/pipe.png)"]);

    symlink("/nowhere/at/all", root.path().join("zebra/9.png")).unwrap();
    let message = load(&root).unwrap_err().to_string();
    assert!(message.contains("zebra/9.png") && message.contains("link to nothing"), "{message}");
    fs::remove_file(root.path().join("zebra/9.png")).unwrap();
    symlink("..", root.path().join("zebra/up")).unwrap();
    assert_eq!(layout(&root), LayoutFault::Loop);
}

#[test]
fn parts_of_a_set_are_recognised_and_never_classes() {
    let divided = |parts: &[&str]| {
        let root = tempfile::tempdir().unwrap();
        for (value, part) in (0..).zip(parts) {
            for class in [0, 1] {
                grey(&root.path().join(part).join(format!("class{class}")).join("a.png"), 10 * value + class, 4, 4);
            }
        }
        root
    };
    let expected = load(&divided(&["train", "test"])).unwrap().checksum;
    for parts in [["Train", "Test"], ["training", "testing"], ["TRAINING", "test"]] {
        assert_eq!(notes(&divided(&parts), &[]).checksum, expected, "{parts:?}");
    }
    let beside = divided(&["train", "test", "val", "other"]);
    grey(&beside.path().join("test/stray.png"), 9, 4, 4);
    let passed = "passed over 1 image outside of the class folders (test/stray.png), \
                  2 folders beside those to train and to test on (among them other)";
    assert_eq!(notes(&beside, &[passed]).checksum, expected);
    for (parts, found, remedy) in [
        (&["train", "val"][..], "`train`, `val`", "did you mean `val` to be tested on"),
        (&["Train", "Validation"], "`Train`, `Validation`", "did you mean `Validation` to be tested on"),
        (&["train", "other"], "`train`", "add what is missing"),
        (&["testing", "other"], "`testing`", "add what is missing"),
        (&["val", "other"], "`val`", "add what is missing"),
        (&["Train", "train", "test"], "`Train`, `train`, `test`", "add what is missing"),
    ] {
        let root = divided(parts);
        // Where names differ in case only, some systems have but one folder.
        if fs::read_dir(root.path()).unwrap().count() == parts.len() {
            let message = load(&root).unwrap_err().to_string();
            assert!(message.contains(&format!("has {found} but")) && message.contains(remedy), "{message}");
        }
    }
}

#[test]
fn names_of_classes_are_the_same_however_they_are_composed() {
    let root = tempfile::tempdir().unwrap();
    for (part, name) in [("train", "caf\u{e9}"), ("test", "cafe\u{301}")] {
        grey(&root.path().join(part).join(name).join("a.png"), 1, 4, 4);
        grey(&root.path().join(part).join("tea").join("a.png"), 2, 4, 4);
    }
    let set = load(&root).unwrap();
    assert_eq!(
        (set.classes, &set.train, set.test.labels.len()),
        (vec!["caf\u{e9}".into(), "tea".into()], &set.test, 2)
    );
    let twice = root.path().join("train/cafe\u{301}");
    grey(&twice.join("b.png"), 1, 4, 4);
    // Some systems take both names for one folder.
    if fs::read_dir(root.path().join("train")).unwrap().count() == 3 {
        assert_eq!(layout(&root), LayoutFault::SameClass);
    }
}

/// The APP1 segment of a JPEG with nothing but an orientation in it.
fn exif(orientation: u8) -> Vec<u8> {
    let tiff = [&b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0"[..], &[orientation], b"\0\0\0\0\0\0"].concat();
    [&b"\xff\xe1\0"[..], &[tiff.len() as u8 + 8], b"Exif\0\0", &tiff].concat()
}

#[test]
fn images_are_turned_upright() {
    let root = tempfile::tempdir().unwrap();
    let image = |class: u32| GrayImage::from_fn(16, 16, |x, y| Luma([(x * 8 + y * 4 + class * 60) as u8]));
    for (class, name) in [(0, "a"), (1, "b")] {
        for part in ["train", "test"] {
            let path = root.path().join(part).join(name).join("1.jpg");
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            image(class).save(path).unwrap();
        }
    }
    let upright = notes(&root, &[]);
    assert_eq!(upright.train, upright.test);
    for class in ["a", "b"] {
        let path = root.path().join("test").join(class).join("1.jpg");
        let turned = image::imageops::rotate180(&image(u32::from(class == "b")));
        turned.save(&path).unwrap();
        let content = fs::read(&path).unwrap();
        fs::write(&path, [&content[..2], &exif(3), &content[2..]].concat()).unwrap();
    }
    let set = notes(&root, &["2 images turned upright, as EXIF orientation says"]);
    let far = set.train.images.iter().zip(&set.test.images).filter(|(a, b)| a.abs_diff(**b) > 8).count();
    assert_eq!((far, &set.train), (0, &upright.train), "the same images, but for what JPEG makes of them");
}

#[test]
fn a_tall_image_that_lies_on_its_side_is_tall() {
    let root = tempfile::tempdir().unwrap();
    for class in ["a", "b"] {
        for index in 0..3 {
            let path = root.path().join(class).join(format!("{index}.jpg"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let (width, height) = if index == 0 { (24, 16) } else { (16, 24) };
            GrayImage::from_pixel(width, height, Luma([index * 40])).save(&path).unwrap();
            if index == 0 {
                let content = fs::read(&path).unwrap();
                fs::write(&path, [&content[..2], &exif(6), &content[2..]].concat()).unwrap();
            }
        }
    }
    let set = notes(&root, &["2 images turned upright, as EXIF orientation says"]);
    assert_eq!(set.shape, ImageShape { height: 24, width: 16, channels: 1 });
}

#[test]
fn a_drawing_in_transparency_is_put_on_white() {
    let root = tempfile::tempdir().unwrap();
    let drawn = |colour: u8, name: &str| {
        for (class, row) in [("a", 0), ("b", 1)] {
            let path = root.path().join(class).join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let alpha = |y: u32| if y == row { 255 - 51 } else { 0 };
            RgbaImage::from_fn(3, 2, |_, y| Rgba([colour, colour, colour, alpha(y)])).save(path).unwrap();
        }
    };
    for name in ["0.png", "1.png", "2.png"] {
        drawn(0, name);
    }
    let set = notes(&root, &["6 images put on white, being transparent in parts"]);
    assert_eq!(set.shape.channels, 1);
    for (image, label) in set.train.images.chunks(6).zip(&set.train.labels) {
        assert_eq!(image, [[51, 51, 51, 255, 255, 255], [255, 255, 255, 51, 51, 51]][*label as usize]);
    }
    drawn(255, "3.png");
    let message = load(&root).unwrap_err().to_string();
    assert!(message.contains("a/3.png") && message.contains("on white; put it on a background"), "{message}");
}

#[test]
fn samples_of_16_bits_keep_the_levels_that_they_use() {
    let set_of = |largest: u16| {
        let root = tempfile::tempdir().unwrap();
        for class in ["a", "b"] {
            for index in 0..3u16 {
                let path = root.path().join(class).join(format!("{index}.png"));
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                let value = |x: u32, y: u32| Luma([((x + 16 * y) * u32::from(largest) / 255) as u16]);
                let image: ImageBuffer<Luma<u16>, Vec<u16>> = ImageBuffer::from_fn(16, 16, value);
                image.save(path).unwrap();
            }
        }
        root
    };
    for (largest, bits) in [(255, 8), (4095, 12), (65535, 16)] {
        let note = format!("6 images of 16-bit samples, at most {largest}, taken as {bits} bits and rounded to 8");
        let set = notes(&set_of(largest), &[&note]);
        let levels: BTreeSet<u8> = set.train.images.iter().copied().collect();
        assert!(levels.len() > 250 && levels.contains(&255), "{} levels of {bits} bits", levels.len());
    }
}

#[test]
fn an_image_without_a_colour_is_grey_in_any_format() {
    for suffix in ["png", "bmp", "gif"] {
        let root = tempfile::tempdir().unwrap();
        for class in ["a", "b"] {
            for index in 0..3 {
                let path = root.path().join(class).join(format!("{index}.{suffix}"));
                rgb(&path, |x, y| [(40 * x + 20 * y + index) as u8; 3]);
            }
        }
        let set = notes(&root, &[]);
        assert_eq!(set.shape.channels, 1, "{suffix}");
        assert_eq!(set.train.images[1] - set.train.images[0], 40, "{suffix}");
        rgb(&root.path().join("b/0.png"), |_, _| [1, 2, 3]);
        assert_eq!(load(&root).unwrap().shape.channels, 3, "{suffix}");
    }
}

#[test]
fn the_name_is_that_of_the_folder_whichever_way_leads_to_it() {
    let root = unsplit();
    let set = root.path().join("My set: 2");
    fs::create_dir(&set).unwrap();
    for class in ["ant", "zebra"] {
        fs::rename(root.path().join(class), set.join(class)).unwrap();
    }
    for way in ["", "/", "/.", "/ant/..", "//"] {
        let way = format!("{}{way}", set.display());
        assert_eq!(open(&way, &SearchPath::new(Vec::new())).unwrap().name, "My-set--2", "{way}");
        assert_eq!(short_name(&way), "My-set--2");
    }
    for (name, short) in [("digits", "digits"), ("not/there/", "there"), ("/", "images"), ("a\n b.", "a--b")] {
        assert_eq!(short_name(name), short);
    }
}

#[test]
fn files_of_known_sets_are_no_folder_of_images() {
    let root = tempfile::tempdir().unwrap();
    let hint = |path: &str, parts: &[&str]| {
        let message =
            open(root.path().join(path).to_str().unwrap(), &SearchPath::new(Vec::new())).unwrap_err().to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    };
    for file in
        ["MNIST/raw/train-labels-idx1-ubyte", "CIFAR10/cifar-10-batches-py/data_batch_1", "bin/data_batch_1.bin"]
    {
        let path = root.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    hint("MNIST", &["train-labels-idx1-ubyte", "`mnist` or `fashion-mnist`"]);
    hint("MNIST/raw", &["train-labels-idx1-ubyte", "--data-dir"]);
    hint("CIFAR10", &["cifar-10-batches-py, the Python version", "reads the binary version, cifar-10-batches-bin"]);
    hint("CIFAR10/cifar-10-batches-py", &["the Python version"]);
    hint("bin", &["files of cifar10", "--data-dir"]);
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
