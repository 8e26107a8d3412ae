//! Data sets from the outside: the embedded one, the real ones, folders of images, damaged files, downloads.

mod damaged;
mod download;
mod folders;
mod program;
mod real;
mod server;

use std::collections::HashSet;

use ldfa_gpu::data::{ChannelStatistics, DataError, Dataset, ImageShape, SearchPath, Split, known, open};

fn nowhere() -> SearchPath {
    SearchPath::new(Vec::new())
}

#[test]
fn digits_are_embedded_and_divided_for_good() {
    let set = open("digits", &nowhere()).unwrap();
    assert_eq!(set.shape, ImageShape { height: 8, width: 8, channels: 1 });
    assert_eq!(set.classes, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    assert_eq!((set.train.len(), set.test.len()), (1437, 360));
    // Whoever changes the split changes every published result on this set.
    assert_eq!(set.checksum, "93ae2dc1b990aac1c453a2565c1f7044e821ed5f5acf2d01c42c764636c1006d");

    let (train, test) = (set.class_histogram(&set.train), set.class_histogram(&set.test));
    let whole: Vec<usize> = train.iter().zip(&test).map(|(train, test)| train + test).collect();
    assert_eq!(whole, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
    for (whole, test) in whole.iter().zip(&test) {
        assert!((*whole as f64 * 360.0 / 1797.0 - *test as f64).abs() < 1.0);
    }

    // No image of the original is twice in it, so that equal pixels would mean an image in both splits.
    let images = |split: &Split| split.images.chunks(64).map(<[u8]>::to_vec).collect::<HashSet<_>>();
    let (train, test) = (images(&set.train), images(&set.test));
    assert_eq!((train.len(), test.len()), (1437, 360));
    assert!(train.is_disjoint(&test));
    assert!(set.train.images.iter().all(|&value| value <= 16));

    let ChannelStatistics { mean, std } = set.channel_statistics();
    assert!((mean[0] - 4.88).abs() < 0.05 && (std[0] - 6.02).abs() < 0.05, "{mean:?} {std:?}");
}

#[test]
fn a_set_of_fewer_classes_keeps_the_first_of_them_in_both_splits() {
    let whole = open("digits", &nowhere()).unwrap();
    let few = whole.clone().of_classes(3);
    assert_eq!(few.classes, ["0", "1", "2"]);
    let (of_whole, of_few) = (whole.class_histogram(&whole.test), few.class_histogram(&few.test));
    assert_eq!(of_few, of_whole[..3]);
    assert_eq!(few.class_histogram(&few.train), whole.class_histogram(&whole.train)[..3]);
    let kept = whole.train.labels.iter().zip(whole.train.images.chunks(64)).filter(|(label, _)| **label < 3);
    assert!(kept.map(|(_, image)| image).eq(few.train.images.chunks(64)), "in their order");
    let put_together = Dataset::new("digits", few.shape, few.classes.clone(), few.train.clone(), few.test.clone());
    assert_eq!(put_together.unwrap(), few, "the checksum is that of what is left");
    assert_eq!(whole.clone().of_classes(10), whole);
    assert_eq!(few.clone().of_classes(4), few);
}

#[test]
fn a_limited_set_has_every_class_in_proportion() {
    let whole = open("digits", &nowhere()).unwrap();
    for images in [10, 100, 1000, 1436] {
        let few = whole.clone().limited(images);
        assert_eq!((few.train.len(), &few.test), (images, &whole.test));
        for (few, all) in few.class_histogram(&few.train).into_iter().zip(whole.class_histogram(&whole.train)) {
            assert!((few as f64 - all as f64 * images as f64 / 1437.0).abs() <= 1.0, "{few} of {all}, {images} in all");
        }
        let mut rest = whole.train.images.chunks(64);
        assert!(few.train.images.chunks(64).all(|image| rest.any(|other| other == image)), "in their order");
        assert_eq!(whole.clone().limited(images), few, "the same ones every time");
    }
    assert_eq!(whole.clone().limited(1437), whole);

    // As files sorted by class are: the first ones are all of one.
    let split = |images: usize| Split {
        images: vec![7; images],
        labels: (0..images).map(|i| u32::from(i >= images / 2)).collect(),
        ..Split::default()
    };
    let shape = ImageShape { height: 1, width: 1, channels: 1 };
    let sorted = Dataset::new("sorted", shape, vec!["a".into(), "b".into()], split(100), split(10)).unwrap();
    let (few, first) = (sorted.clone().limited(20), sorted.first(20));
    assert_eq!((few.class_histogram(&few.train), first.class_histogram(&first.train)), (vec![10, 10], vec![20, 0]));
}

#[test]
fn the_first_images_of_a_set_are_as_they_are() {
    let whole = open("digits", &nowhere()).unwrap();
    let few = whole.clone().first(10);
    assert_eq!(
        (few.train.images.as_slice(), few.train.labels.as_slice()),
        (&whole.train.images[..640], &whole.train.labels[..10])
    );
    assert_eq!((&few.test, &few.classes, few.shape), (&whole.test, &whole.classes, whole.shape));
    let put_together = Dataset::new("digits", few.shape, few.classes.clone(), few.train.clone(), few.test.clone());
    assert_eq!(put_together.unwrap(), few, "the checksum is that of what is left");
    for images in [1437, usize::MAX] {
        assert_eq!(whole.clone().first(images), whole);
    }
}

#[test]
fn a_missing_set_says_where_it_was_looked_for_and_how_to_get_it() {
    let search = SearchPath::new(vec!["first".into(), "second".into()]);
    for (name, remedy, places) in [
        ("mnist", "ldfa-gpu data fetch mnist", 8),
        ("fashion-mnist", "ldfa-gpu data fetch fashion-mnist", 8),
        ("cifar10", "ldfa-gpu data fetch cifar10", 8),
        ("cifar100", "ldfa-gpu data fetch cifar100", 8),
        ("my-own-images", "a folder of images by class", 3),
        ("MNIST", "did you mean mnist?", 3),
        ("FashionMNIST", "did you mean fashion-mnist?", 3),
        ("CIFAR-10", "did you mean cifar10?", 3),
        ("cifar-100", "did you mean cifar100?", 3),
        ("digit", "did you mean digits?", 3),
        ("", "digits, mnist", 0),
    ] {
        let error = open(name, &search).unwrap_err();
        let message = error.to_string();
        let DataError::NotFound { looked, .. } = error else { panic!("{error:?}") };
        assert_eq!(looked.len(), places, "{message}");
        assert!(looked.iter().all(|path| message.contains(&path.display().to_string())), "{message}");
        assert!(message.contains(remedy) && message.contains("LDFA_DATA"), "{message}");
    }
}

#[test]
fn the_search_path_begins_with_what_was_said_and_ends_with_the_default() {
    let roots = SearchPath::from_env(Some("said".into())).roots().to_vec();
    assert_eq!(roots.first().unwrap().as_os_str(), "said");
    assert_eq!(roots.last().unwrap().as_os_str(), "datasets");
}

#[test]
fn the_catalog_is_well_formed() {
    for set in known() {
        assert!(![set.description, set.attribution, set.licence].contains(&""));
        for file in set.files {
            assert!(file.url.ends_with(file.name) && file.bytes > 0);
            assert_eq!(file.sha256.len(), 64);
            assert!(file.sha256.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c)));
        }
    }
}
