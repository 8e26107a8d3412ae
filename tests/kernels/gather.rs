//! Batches from the bytes of a data set.

use ldfa_gpu::ops::*;

use crate::compare::{Report, roundings};
use crate::scene::{Scene, step};

/// Height, width, channels; most have rows of bytes that end within a word.
const IMAGES: [[u32; 3]; 9] =
    [[1, 1, 1], [3, 5, 1], [2, 2, 3], [5, 3, 2], [3, 3, 4], [7, 1, 1], [1, 9, 3], [28, 28, 1], [9, 11, 3]];

const NONE: Augment = Augment { flip: false, rotation: 0.0, padding: 0, autoaugment: None, cutout: 0 };

const AUGMENTS: [Augment; 9] = [
    NONE,
    Augment { flip: true, ..NONE },
    Augment { padding: 2, ..NONE },
    Augment { flip: true, padding: 1, ..NONE },
    Augment { rotation: 15.0, ..NONE },
    Augment { flip: true, rotation: 180.0, ..NONE },
    Augment { flip: true, rotation: 30.0, padding: 3, ..NONE },
    Augment { cutout: 3, ..NONE },
    Augment { flip: true, rotation: 30.0, padding: 3, cutout: 4, ..NONE },
];

/// One operation a shard; the set has as many images as the shards together.
fn batch(scene: &mut Scene, image: [u32; 3], augment: Augment, rows: u32, shards: &[u32], shared: bool) {
    let total: u32 = shards.iter().sum();
    let features = image.iter().product();
    let permutation = if shared {
        scene.shared_words(1, total, |_, i| (7 * i + 3) % total)
    } else {
        scene.words(1, total, |_, r, i| (i * 7 + r * 5 + 1) % total)
    };
    // The same elements as a row an image or a row a pixel.
    let pixels = image[0] * image[1];
    let out = if scene.draw(2) == 0 { scene.output(rows, features) } else { scene.output(rows * pixels, image[2]) };
    // Labels more and fewer than the invocations of an image.
    let targets = [1, 1, 2, 5, 70][scene.draw(5) as usize];
    let labels = scene.words(rows, targets, |_, _, _| 0xDEAD_BEEF);
    let (mut first, skip) = (0, 2 * scene.draw(2));
    for &count in shards {
        let images = scene.bytes(count, features);
        let classes = scene.shared_words(count, targets, |bits, i| bits % 1000 + i);
        let (scale, shift) = ([1.0 / 255.0, 2.0 / 255.0, 0.01, 0.003], [-0.13, 0.5, 0.0, 0.25]);
        let encoding = Encoding::Scaled { scale, shift };
        let op = Gather { images, classes, permutation, out, labels, first, skip, image, encoding, augment };
        first += count;
        let extent = f64::from(image[0].max(image[1]));
        // Coordinates are sums of three products of the extent's size, and neighbouring random pixels differ by about
        // their own size; sine and cosine are good to a few roundings, better than the 1e-6 they are promised to.
        let turned = if augment.rotation > 0.0 { roundings(4.0 + 2.0 * extent) } else { 0.0 };
        scene.push(op, |operand| if operand == "labels" { 0.0 } else { roundings(4.0) + turned });
    }
}

#[test]
fn batches_of_every_image_size_with_every_change() {
    let mut report = Report::default();
    for (replicas, rows, active, cursor) in [(1, 5, 5, 0), (3, 17, 11, 6), (3, 65, 64, 1)] {
        let mut scene = Scene::new(replicas);
        for (at, image) in IMAGES.into_iter().enumerate() {
            for (turn, augment) in AUGMENTS.into_iter().enumerate() {
                // The order of the images must be a permutation: no multiple of seven in total.
                let shards: &[u32] = [&[71][..], &[1, 40, 30], &[33, 4, 2, 1, 31]][(at + turn) % 3];
                batch(&mut scene, image, augment, rows, shards, turn % 3 == 0);
            }
        }
        scene.verify(&mut report, &[step(replicas, 9, cursor, active)]);
    }
    report.finish("batches");
}

/// Bytes that are symbols, some of them none of those that have a place.
#[test]
fn tokens_become_one_hot_with_a_label_each() {
    let mut report = Report::default();
    for (replicas, rows, active, cursor) in [(1, 5, 5, 0), (3, 65, 41, 1)] {
        let mut scene = Scene::new(replicas);
        for (length, channels, symbols) in [(1, 1, 2), (7, 1, 5), (64, 1, 28), (33, 2, 100), (3, 1, 256)] {
            let permutation = scene.words(1, 71, |_, r, i| (i * 7 + r * 5 + 1) % 71);
            let out = scene.output(rows * length, channels * symbols);
            let labels = scene.words(rows, length, |_, _, _| 0xDEAD_BEEF);
            let skip = 2 * scene.draw(2);
            for (first, count) in [(0, 30), (30, 41)] {
                let images = scene.bytes(count, length * channels);
                let classes = scene.shared_words(count, length, |bits, i| bits % 1000 + i);
                let (image, encoding) = ([length, 1, channels], Encoding::OneHot(symbols));
                let op =
                    Gather { images, classes, permutation, out, labels, first, skip, image, encoding, augment: NONE };
                scene.push(op, |_| 0.0);
            }
        }
        scene.verify(&mut report, &[step(replicas, 9, cursor, active)]);
    }
    report.finish("tokens");
}

/// Other steps and seeds change images otherwise.
#[test]
fn changes_follow_the_step() {
    let mut report = Report::default();
    for number in [0, 1, 1_000_000] {
        let mut scene = Scene::new(3);
        batch(&mut scene, [6, 5, 3], AUGMENTS[8], 40, &[71], false);
        scene.verify(&mut report, &[step(3, number, 20, 40)]);
    }
    report.finish("changes by step");
}

#[test]
fn a_batch_without_active_rows_is_absent() {
    let mut report = Report::default();
    let mut scene = Scene::new(2);
    batch(&mut scene, [3, 5, 1], AUGMENTS[0], 9, &[40, 31], false);
    scene.verify(&mut report, &[step(2, 0, 71, 0)]);
    report.finish("absent batch");
}

/// Bytes that a policy has changed, before anything is rounded: no bit may differ. Rows enough for every operation.
#[test]
fn learned_policies_agree_to_the_bit() {
    let mut report = Report::default();
    let policy = Some(AutoAugment::Cifar10);
    for (image, rows, augment) in [
        ([32, 32, 3], 300, Augment { flip: true, padding: 4, cutout: 8, ..NONE }),
        ([44, 45, 3], 40, NONE),
        ([1, 2000, 3], 30, NONE),
        ([28, 17, 3], 60, Augment { padding: 5, ..NONE }),
        ([9, 11, 3], 400, Augment { flip: true, ..NONE }),
        ([5, 3, 3], 200, Augment { cutout: 2, ..NONE }),
        ([2, 2, 3], 100, NONE),
        ([1, 1, 3], 60, NONE),
    ] {
        let mut scene = Scene::new(2);
        let features = image.iter().product();
        let permutation = scene.words(1, rows, |_, r, i| (i * 7 + r) % rows);
        let (out, labels) = (scene.output(rows, features), scene.words(rows, 1, |_, _, _| 7));
        for (first, count) in [(0, rows / 3), (rows / 3, rows - rows / 3)] {
            let (images, classes) = (scene.bytes(count, features), scene.shared_words(count, 1, |bits, _| bits));
            let augment = Augment { autoaugment: policy, ..augment };
            let encoding = Encoding::Scaled { scale: [1.0; 4], shift: [0.0; 4] };
            let op = Gather { images, classes, permutation, out, labels, first, skip: 0, image, encoding, augment };
            scene.push(op, |_| 0.0);
        }
        scene.verify(&mut report, &[step(2, 3, 0, rows - 1)]);
    }
    report.finish("learned policies");
}

/// Standardised, cut, in shards, of a row a pixel, absent, and behind other rows.
#[test]
fn learned_policies_go_with_everything_else() {
    let mut report = Report::default();
    let learned = Augment { flip: true, padding: 2, autoaugment: Some(AutoAugment::Cifar10), cutout: 3, ..NONE };
    for (replicas, rows, active, cursor) in [(1, 5, 5, 0), (3, 65, 64, 1)] {
        let mut scene = Scene::new(replicas);
        for (at, image) in IMAGES.into_iter().filter(|image| image[2] == 3).enumerate() {
            for shared in [false, true] {
                batch(&mut scene, image, learned, rows, [&[71][..], &[1, 40, 30]][at % 2], shared);
            }
        }
        scene.verify(&mut report, &[step(replicas, 9, cursor, active)]);
    }
    report.finish("learned policies in batches");
}
