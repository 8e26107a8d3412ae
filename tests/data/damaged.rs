//! Files that are not what they should be, through the front door.

use std::fs;
use std::path::PathBuf;

use ldfa_gpu::data::{DataError, Dataset, Fault, Place, SearchPath, open};
use tempfile::TempDir;

/// A small, valid MNIST folder, to be damaged.
struct Mnist {
    root: TempDir,
}

impl Mnist {
    fn new() -> Self {
        let set = Self { root: tempfile::tempdir().unwrap() };
        fs::create_dir(set.root.path().join("mnist")).unwrap();
        for (split, count) in [("train", 4), ("t10k", 2)] {
            set.write(&format!("{split}-images-idx3-ubyte"), &images(count, 3, 2));
            set.write(&format!("{split}-labels-idx1-ubyte"), &labels(count));
        }
        set
    }

    fn path(&self, file: &str) -> PathBuf {
        self.root.path().join("mnist").join(file)
    }

    fn write(&self, file: &str, content: &[u8]) {
        fs::write(self.path(file), content).unwrap();
    }

    fn open(&self) -> Result<Dataset, DataError> {
        open("mnist", &SearchPath::new(vec!["missing".into(), self.root.path().into()]))
    }

    /// Opens the set with one file's content replaced: the error must be about that file and say what helps.
    fn with(&self, file: &str, content: &[u8]) -> (Place, Fault) {
        self.write(file, content);
        let error = self.open().unwrap_err();
        let message = error.to_string();
        assert!(message.contains(file) && message.contains("; "), "{message}");
        match error {
            DataError::Malformed { file: named, place, fault } if named == self.path(file) => (place, fault),
            other => panic!("{other:?}"),
        }
    }
}

fn images(count: u32, height: u32, width: u32) -> Vec<u8> {
    let mut bytes = [0x803, count, height, width].map(u32::to_be_bytes).concat();
    bytes.resize(16 + (count * height * width) as usize, 77);
    bytes
}

fn labels(count: u32) -> Vec<u8> {
    let mut bytes = [0x801, count].map(u32::to_be_bytes).concat();
    bytes.extend((0..count).map(|label| label as u8));
    bytes
}

const TRAIN_IMAGES: &str = "train-images-idx3-ubyte";
const TRAIN_LABELS: &str = "train-labels-idx1-ubyte";

#[test]
fn an_intact_set_opens() {
    let set = Mnist::new().open().unwrap();
    assert_eq!((set.train.len(), set.test.len(), set.shape.to_string().as_str()), (4, 2, "3 x 2 x 1"));
}

#[test]
fn every_kind_of_damage_names_file_and_place() {
    let set = || Mnist::new();
    assert_eq!(set().with(TRAIN_IMAGES, &[]), (Place::File, Fault::Empty));
    assert_eq!(set().with(TRAIN_IMAGES, &images(4, 3, 2)[..30]).0, Place::Byte(30));
    assert_eq!(set().with(TRAIN_IMAGES, &[images(4, 3, 2), vec![0]].concat()), (Place::Byte(40), Fault::Trailing));
    assert!(matches!(set().with(TRAIN_IMAGES, &labels(4)).1, Fault::WrongMagic { found: 0x801, .. }));
    assert!(matches!(set().with(TRAIN_LABELS, &images(4, 3, 2)).1, Fault::WrongMagic { found: 0x803, .. }));
    assert!(matches!(set().with(TRAIN_IMAGES, b"<html>not here</html>").1, Fault::WrongMagic { .. }));
    assert!(matches!(set().with(TRAIN_IMAGES, b"\x1f\x8bnot gzip at all").1, Fault::Compression(_)));
    let expected = Fault::CountMismatch { labels: 3, images: 4, images_file: set().path(TRAIN_IMAGES) };
    let found = set().with(TRAIN_LABELS, &labels(3)).1;
    assert_eq!(std::mem::discriminant(&found), std::mem::discriminant(&expected), "{found}");
    let mut beyond = labels(4);
    beyond[9] = 99;
    let (place, fault) = set().with(TRAIN_LABELS, &beyond);
    assert_eq!(place, Place::Record { record: 1, byte: 9 });
    assert_eq!(fault, Fault::LabelOutOfRange { label: 99, classes: 10 });
}

#[test]
fn splits_of_different_sizes_name_both_files() {
    let set = Mnist::new();
    set.write("t10k-images-idx3-ubyte", &images(2, 2, 3));
    let message = set.open().unwrap_err().to_string();
    for part in [TRAIN_IMAGES, "t10k-images-idx3-ubyte", "3 x 2 x 1", "2 x 3 x 1"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn an_incomplete_folder_names_only_what_it_lacks() {
    let set = Mnist::new();
    fs::remove_file(set.path(TRAIN_LABELS)).unwrap();
    let error = set.open().unwrap_err();
    let DataError::NotFound { looked, .. } = &error else { panic!("{error:?}") };
    assert_eq!(looked, &[set.path("train-labels-idx1-ubyte.gz")]);
}

#[test]
fn short_and_foreign_cifar_files_are_named() {
    let root = tempfile::tempdir().unwrap();
    let search = SearchPath::new(vec![root.path().into()]);
    let folder = root.path().join("cifar10/cifar-10-batches-bin");
    fs::create_dir_all(&folder).unwrap();
    let batch = folder.join("data_batch_1.bin");
    fs::write(&batch, vec![0; 3073 * 3]).unwrap();
    let error = open("cifar10", &search).unwrap_err();
    let DataError::Malformed { file, place, fault } = error else { panic!("{error:?}") };
    assert_eq!((file, place, fault), (batch, Place::Byte(9219), Fault::Truncated { expected: 30_730_000 }));

    fs::remove_dir_all(&folder).unwrap();
    let archive = root.path().join("cifar-10-binary.tar.gz");
    fs::write(&archive, b"<html>not here</html>").unwrap();
    let error = open("cifar10", &search).unwrap_err();
    let DataError::Malformed { file, fault, .. } = error else { panic!("{error:?}") };
    assert_eq!(file, archive);
    assert!(matches!(fault, Fault::Archive(_) | Fault::MissingMember(_)), "{fault}");
}

#[test]
fn copies_under_other_names_are_read() {
    let whole = Mnist::new().open().unwrap();
    for (folder, dot) in
        [("MNIST/raw", false), ("MNIST", true), ("mnist/raw", false), ("Mnist", false), ("mnist", true)]
    {
        let set = Mnist::new();
        let aside = set.root.path().join("aside");
        fs::rename(set.root.path().join("mnist"), &aside).unwrap();
        let target = set.root.path().join(folder);
        fs::create_dir_all(&target).unwrap();
        for file in fs::read_dir(&aside).unwrap().map(|entry| entry.unwrap()) {
            let name = file.file_name().into_string().unwrap();
            let name = if dot { name.replace("-idx", ".idx") } else { name };
            fs::rename(file.path(), target.join(name)).unwrap();
        }
        assert_eq!(set.open().unwrap(), whole, "{folder}");
    }
}

#[test]
fn near_misses_are_named() {
    let set = Mnist::new();
    let search = SearchPath::new(vec![set.root.path().join("mnist")]);
    let message = open("mnist", &search).unwrap_err().to_string();
    assert!(message.contains("found ") && message.contains("put the four files into a folder `mnist`"), "{message}");

    let root = tempfile::tempdir().unwrap();
    let search = SearchPath::new(vec![root.path().into()]);
    for (name, there, version) in [
        ("cifar10", "cifar-10-batches-py/data_batch_1", "Python"),
        ("cifar10", "cifar10/cifar-10-python.tar.gz", "Python"),
        ("cifar10", "CIFAR10/cifar-10-batches-mat/test_batch.mat", "Matlab"),
        ("cifar100", "cifar-100-python/train", "Python"),
    ] {
        let path = root.path().join(there);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "").unwrap();
        let message = open(name, &search).unwrap_err().to_string();
        let part = format!("the {version} version: this program reads the binary version");
        assert!(message.contains(&part) && message.contains("data fetch"), "{message}");
        fs::remove_dir_all(root.path().join(there.split('/').next().unwrap())).unwrap();
    }
}

#[test]
fn labels_are_not_believed_to_be_many() {
    let set = Mnist::new();
    let mut claim = labels(4);
    claim[4..8].copy_from_slice(&(1u32 << 30).to_be_bytes());
    assert!(matches!(set.with(TRAIN_LABELS, &claim), (Place::Byte(4), Fault::AbsurdSize { .. })));
}
