//! Data sets for presets whose own need not be there.

use ldfa_gpu::data::{Dataset, ImageShape, MADE, SearchPath, Split};
use ldfa_gpu::train::config::Config;

/// A data set of the images that a configuration wants, as many as its batch needs.
pub(crate) fn made_up(config: &Config) -> Dataset {
    if MADE.contains(&config.data.name.as_str()) {
        return config.dataset(&SearchPath::new(Vec::new())).unwrap();
    }
    let (shape, classes) = match config.data.name.as_str() {
        "digits" => ([8, 8, 1], 10),
        "mnist" | "fashion-mnist" => ([28, 28, 1], 10),
        "cifar10" => ([32, 32, 3], 10),
        name => panic!("a preset of {name}: say what its images are"),
    };
    let [height, width, channels] = shape;
    let shape = ImageShape { height, width, channels };
    let split = |count: u32| Split {
        images: (0..count as usize * shape.pixels()).map(|i| (i * 7 % 251) as u8).collect(),
        labels: (0..count).map(|i| i % classes).collect(),
        ..Split::default()
    };
    let names = (0..classes).map(|class| class.to_string()).collect();
    let images = config.train.batch.max(config.data.limit.unwrap_or(0)).min(1000);
    let mut data = Dataset::new("made up", shape, names, split(images), split(500)).unwrap();
    if config.data.grey {
        data = data.grey();
    }
    data.shrunk(config.data.shrink)
}
