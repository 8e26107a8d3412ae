//! The data sets known by name: what they are, whose they are, and where they come from.

/// A data set that [`open`](super::open) knows by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownSet {
    /// The name to open it by.
    pub name: &'static str,
    /// What it holds, in a line.
    pub description: &'static str,
    /// Who made it, and where it is described.
    pub attribution: &'static str,
    /// Under what terms it is published.
    pub licence: &'static str,
    /// What a download consists of; nothing for a set that is part of the program, or made by it.
    pub files: &'static [RemoteFile<'static>],
}

/// A file that can be downloaded, and what it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteFile<'a> {
    /// Its name in the set's folder.
    pub name: &'a str,
    /// Its address.
    pub url: &'a str,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its content, in lower-case hexadecimal.
    pub sha256: &'a str,
}

/// Sets that the program makes, of any length.
pub const MADE: [&str; 2] = ["adding", "arithmetic"];

/// All sets known by name, the embedded one first, those that are made last.
pub fn known() -> &'static [KnownSet] {
    &KNOWN
}

macro_rules! files {
    ($base:literal: $($name:literal $bytes:literal $sha256:literal)*) => {
        &[$(RemoteFile { name: $name, url: concat!($base, $name), bytes: $bytes, sha256: $sha256 }),*]
    };
}

const CIFAR_ATTRIBUTION: &str = "A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009, https://www.cs.toronto.edu/~kriz/cifar.html";
const CIFAR_LICENCE: &str = "none stated; the authors ask for the technical report to be cited";

static KNOWN: [KnownSet; 7] = [
    KnownSet {
        name: "digits",
        description: "1,797 handwritten digits, 8 x 8 grey, embedded in the program",
        attribution: "E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998",
        licence: "CC BY 4.0",
        files: &[],
    },
    KnownSet {
        name: "mnist",
        description: "60,000 + 10,000 handwritten digits, 28 x 28 grey",
        attribution: "Y. LeCun, C. Cortes, C. J. C. Burges, 1998, http://yann.lecun.com/exdb/mnist/",
        licence: "commonly stated as CC BY-SA 3.0; the home page carries no licence text",
        // The mirror that torchvision uses: the home page no longer serves the files.
        files: files!["https://ossci-datasets.s3.amazonaws.com/mnist/":
            "train-images-idx3-ubyte.gz" 9_912_422 "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
            "train-labels-idx1-ubyte.gz" 28_881 "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
            "t10k-images-idx3-ubyte.gz" 1_648_877 "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
            "t10k-labels-idx1-ubyte.gz" 4_542 "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
        ],
    },
    KnownSet {
        name: "fashion-mnist",
        description: "60,000 + 10,000 articles of clothing, 28 x 28 grey",
        attribution: "H. Xiao, K. Rasul, R. Vollgraf (Zalando Research), 2017, arXiv:1708.07747",
        licence: "MIT",
        files: files!["http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/":
            "train-images-idx3-ubyte.gz" 26_421_880 "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
            "train-labels-idx1-ubyte.gz" 29_515 "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"
            "t10k-images-idx3-ubyte.gz" 4_422_102 "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"
            "t10k-labels-idx1-ubyte.gz" 5_148 "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"
        ],
    },
    // The home page gives only the MD5 of the two archives; their lengths and SHA-256 are as TensorFlow Datasets has
    // recorded them.
    KnownSet {
        name: "cifar10",
        description: "50,000 + 10,000 photographs in 10 classes, 32 x 32 RGB",
        attribution: CIFAR_ATTRIBUTION,
        licence: CIFAR_LICENCE,
        files: files!["https://www.cs.toronto.edu/~kriz/":
            "cifar-10-binary.tar.gz" 170_052_171 "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
        ],
    },
    KnownSet {
        name: "cifar100",
        description: "50,000 + 10,000 photographs in 100 classes, 32 x 32 RGB",
        attribution: CIFAR_ATTRIBUTION,
        licence: CIFAR_LICENCE,
        files: files!["https://www.cs.toronto.edu/~kriz/":
            "cifar-100-binary.tar.gz" 168_513_733 "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"
        ],
    },
    KnownSet {
        name: "adding",
        description: "50,000 + 5,000 sequences, the sum of two marked numbers, made by the program",
        attribution: "after S. Hochreiter, J. Schmidhuber, Long Short-Term Memory, Neural Computation 9(8), 1997",
        licence: "that of the program",
        files: &[],
    },
    KnownSet {
        name: "arithmetic",
        description: "a text of 1.2 million characters, sums in words, made by the program",
        attribution: "this project",
        licence: "that of the program",
        files: &[],
    },
];

pub(super) const MNIST_CLASSES: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

pub(super) const FASHION_MNIST_CLASSES: [&str; 10] =
    ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"];

pub(super) const CIFAR10_CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

#[rustfmt::skip]
pub(super) const CIFAR100_CLASSES: [&str; 100] = [
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle",
    "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle",
    "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur",
    "dolphin", "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard",
    "lamp", "lawn_mower", "leopard", "lion", "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain",
    "mouse", "mushroom", "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree",
    "plain", "plate", "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket",
    "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider",
    "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone", "television", "tiger", "tractor",
    "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf", "woman", "worm",
];
