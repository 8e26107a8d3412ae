//! Files that are whole, damaged, foreign, and of other versions.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

fn origin(config: &str, data: &str) -> Origin {
    let hash = |text: &str| text.repeat(64 / text.len());
    Origin { config: Some(hash(config)), data: Some(hash(data)), together: hash(&format!("{config}{data}")) }
}

fn example() -> Checkpoint {
    let meta = CheckpointMeta {
        program_version: "0.1.0".to_owned(),
        origin: origin("a", "b"),
        step: 1234,
        steps: vec![1234, 1220],
        seconds: 12.345678901234567,
    };
    let tensors = vec![
        ("layers.0.weight".to_owned(), vec![2, 1, 2], Values::F32(vec![1.0, -0.0, f32::NAN, 1e-40])),
        ("cursor".to_owned(), vec![1], Values::U32(vec![u32::MAX])),
        ("loss".to_owned(), vec![2], Values::F64(vec![f64::MIN_POSITIVE, 0.1])),
        ("nothing".to_owned(), vec![0, 3], Values::F32(vec![])),
    ];
    Checkpoint { meta, tensors }
}

/// Folder, path and bytes of a saved example.
fn saved() -> (tempfile::TempDir, PathBuf, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    example().save(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    (folder, path, bytes)
}

fn load_bytes(path: &Path, bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
    fs::write(path, bytes).unwrap();
    Checkpoint::load(path)
}

#[test]
fn reads_back_bit_for_bit() {
    let (_folder, path, _) = saved();
    let loaded = Checkpoint::load(&path).unwrap();
    assert_eq!(loaded.meta, example().meta);
    let mut expected = example().tensors;
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(loaded.tensors.len(), expected.len());
    for (loaded, expected) in loaded.tensors.iter().zip(&expected) {
        assert_eq!((&loaded.0, &loaded.1), (&expected.0, &expected.1));
        assert_eq!(loaded.2.dtype(), expected.2.dtype());
        assert_eq!(loaded.2.bytes(), expected.2.bytes(), "NaN payloads and signed zeros included");
    }
}

#[test]
fn is_a_safetensors_file_with_aligned_tensors() {
    let (_folder, _, bytes) = saved();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.len(), 4);
    for (name, tensor) in file.tensors() {
        let offset = tensor.data().as_ptr() as usize - bytes.as_ptr() as usize;
        assert_eq!(offset % (tensor.dtype().bitsize() / 8), 0, "{name}");
    }
}

#[test]
fn the_same_content_gives_the_same_bytes() {
    let (_folder, path, bytes) = saved();
    let mut shuffled = example();
    shuffled.tensors.reverse();
    shuffled.save(&path).unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes);
    shuffled.meta.step += 1;
    shuffled.save(&path).unwrap();
    assert_ne!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn every_flipped_bit_is_noticed() {
    let (_folder, path, bytes) = saved();
    for position in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[position] ^= 1 << bit;
            let error = load_bytes(&path, &flipped).expect_err("a flipped bit must be noticed");
            assert!(
                matches!(error, CheckpointError::Damaged { .. } | CheckpointError::CutShort { .. }),
                "byte {position}, bit {bit}: {error}"
            );
        }
    }
    load_bytes(&path, &bytes).expect("the file itself is sound");
}

#[test]
fn every_cut_is_noticed() {
    let (_folder, path, bytes) = saved();
    for length in 0..bytes.len() {
        let error = load_bytes(&path, &bytes[..length]).unwrap_err();
        assert!(matches!(error, CheckpointError::CutShort { .. }), "{length} bytes: {error}");
        assert!(error.to_string().contains("last.safetensors"), "{error}");
    }
    let longer = [&bytes[..], b"\0"].concat();
    assert!(matches!(load_bytes(&path, &longer).unwrap_err(), CheckpointError::Damaged { .. }));
}

/// Body of the process that the next test kills; does nothing when run with the rest.
#[test]
fn saves_until_killed() {
    let Some(path) = std::env::var_os("LDFA_TEST_SAVE_UNTIL_KILLED") else { return };
    let mut checkpoint = example();
    checkpoint.tensors.push(("ballast".to_owned(), vec![1 << 16], Values::U32(vec![7; 1 << 16])));
    loop {
        checkpoint.save(Path::new(&path)).unwrap();
        checkpoint.meta.step += 1;
    }
}

/// Until the file is replaced: a fixed time would not do on a busy machine.
fn wait_for_change(path: &Path) {
    let written = || fs::metadata(path).unwrap().modified().unwrap();
    let (before, start) = (written(), Instant::now());
    while written() == before {
        assert!(start.elapsed() < Duration::from_secs(60), "the other process does not save");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_kill_at_any_moment_leaves_a_sound_checkpoint() {
    let (folder, path, _) = saved();
    for round in 0..8u64 {
        let mut process = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", concat!(module_path!(), "::saves_until_killed").split_once("::").unwrap().1])
            .env("LDFA_TEST_SAVE_UNTIL_KILLED", &path)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        wait_for_change(&path);
        std::thread::sleep(Duration::from_millis(3 * round));
        process.kill().unwrap();
        process.wait().unwrap();
        assert!(Checkpoint::load(&path).unwrap().meta.step >= example().meta.step);
    }
    crate::train::files::remove_leftovers(folder.path()).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn other_files_are_called_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    assert!(Checkpoint::load(&path).unwrap_err().is_not_found());
    assert!(matches!(Checkpoint::load(folder.path()).unwrap_err(), CheckpointError::File(_)));
    for foreign in [&b"PK\x03\x04 this is a zip file of weights"[..], br#"{"json": true, "and": "long enough"}"#] {
        assert!(matches!(load_bytes(&path, foreign).unwrap_err(), CheckpointError::NotACheckpoint { .. }));
    }
    write_weights(&path, &[("w".to_owned(), vec![1], vec![1.0])]).unwrap();
    assert!(matches!(Checkpoint::load(&path).unwrap_err(), CheckpointError::NotACheckpoint { .. }));
}

/// Rewrites the metadata of the example, with a correct digest.
fn save_with(path: &Path, key: &'static str, value: &str) {
    let mut metadata = example().meta.to_strings();
    metadata.insert(key, value.to_owned());
    let mut image = Image::new(metadata, Vec::new()).ok().unwrap();
    let digest = image.digest().unwrap();
    image.metadata.insert("sha256", digest);
    write_atomically(path, |file| image.write_to(file)).unwrap();
}

#[test]
fn a_newer_format_names_the_version_to_get() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    save_with(&path, "format", "3");
    let error = Checkpoint::load(&path).unwrap_err();
    assert!(matches!(error, CheckpointError::Newer { found: 3, .. }) && error.to_string().contains("0.1.0"));
    save_with(&path, "steps", "1 2 x");
    assert!(matches!(Checkpoint::load(&path).unwrap_err(), CheckpointError::Damaged { .. }));
    save_with(&path, "step", "-1");
    assert!(Checkpoint::load(&path).unwrap_err().to_string().contains(r#"step = "-1""#));
}

/// Version 1 knew one hash of configuration and data, and the best epochs of the networks.
#[test]
fn files_of_the_first_version_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let mut metadata = example().meta.to_strings();
    metadata.retain(|key, _| !["steps", "settings_hash", "data_hash"].contains(key));
    let old = [("format", "1"), ("epoch", "5"), ("best_accuracy", "0.5 0.25"), ("best_epoch", "4 5")];
    metadata.extend(old.map(|(key, value)| (key, value.to_owned())));
    let mut image = Image::new(metadata, Vec::new()).ok().unwrap();
    image.metadata.insert("sha256", image.digest().unwrap());
    write_atomically(&path, |file| image.write_to(file)).unwrap();
    let read = Checkpoint::load(&path).unwrap();
    assert_eq!((read.meta.step, &read.meta.steps[..]), (1234, &[1234, 1234][..]));
    read.check_origin(&path, &origin("a", "b"), "digits").unwrap();
    let error = read.check_origin(&path, &origin("a", "c"), "digits").unwrap_err().to_string();
    assert!(error.contains("configuration or set of images"), "{error}");
}

#[test]
fn another_configuration_and_other_images_are_told_apart() {
    let (_folder, path, _) = saved();
    let checkpoint = Checkpoint::load(&path).unwrap();
    checkpoint.check_origin(&path, &origin("a", "b"), "digits").unwrap();
    let error = |origin: &Origin| checkpoint.check_origin(&path, origin, "digits").unwrap_err().to_string();
    let other = error(&origin("c", "b"));
    assert!(other.contains("another configuration (hash aaaaaaaaaaaa, and here it is cccccccccccc)"), "{other}");
    assert!(other.contains("config.toml") && other.contains("--out"), "{other}");
    let other = error(&origin("a", "d"));
    assert!(other.contains("another set of images (hash bbbbbbbbbbbb, and here it is dddddddddddd)"), "{other}");
    assert!(other.contains("images of digits back"), "{other}");
    assert!(error(&origin("c", "d")).contains("another configuration ("));
}

fn values_of<'a>(checkpoint: &'a Checkpoint, name: &str) -> &'a Values {
    &checkpoint.tensors.iter().find(|(other, ..)| other == name).unwrap().2
}

#[test]
fn networks_are_taken_over_one_by_one() {
    let later = || {
        let mut later = example();
        later.meta.step = 2000;
        later.meta.steps = vec![2000, 2000];
        later.tensors[0].2 = Values::F32(vec![5.0, 6.0, 7.0, 8.0]);
        later.tensors[1].2 = Values::U32(vec![9]);
        later.tensors[2].2 = Values::F64(vec![0.5, 0.75]);
        later
    };
    let mut best = example();
    best.take(&[1], &later()).unwrap();
    assert_eq!((best.meta.step, &best.meta.steps[..]), (2000, &[1234, 2000][..]));
    assert_eq!(values_of(&best, "layers.0.weight"), &Values::F32(vec![1.0, -0.0, 7.0, 8.0]));
    assert_eq!(values_of(&best, "loss"), &Values::F64(vec![f64::MIN_POSITIVE, 0.75]));
    assert_eq!(values_of(&best, "cursor"), &Values::U32(vec![u32::MAX]), "no network's own");
    // The other executor keeps its numbers in another precision.
    let mut other = later();
    other.tensors[0].2 = Values::F64(vec![5.0, 6.0, 7.0, 8.0]);
    let mut best = example();
    best.take(&[0], &other).unwrap();
    let Values::F64(taken) = values_of(&best, "layers.0.weight") else { panic!("the type of what is taken") };
    assert!(taken[..2] == [5.0, 6.0] && taken[2].is_nan() && taken[3] == f64::from(1e-40f32));
    let mut narrower = later();
    narrower.tensors[0].1 = vec![2, 2, 1];
    assert_eq!(example().take(&[0], &narrower), Err("layers.0.weight".to_owned()));
    narrower.tensors.remove(0);
    assert_eq!(example().take(&[0], &narrower), Err("layers.0.weight".to_owned()));
}

#[test]
fn an_endless_file_is_not_read_to_its_end() {
    let (_folder, path, bytes) = saved();
    fs::File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
    let error = Checkpoint::load(&path).unwrap_err();
    let trailing = (1u64 << 40) - bytes.len() as u64;
    assert!(error.to_string().contains(&format!("{trailing} bytes follow its end")), "{error}");
    fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    assert!(matches!(Checkpoint::load(&path).unwrap_err(), CheckpointError::NotACheckpoint { .. }));
    assert!(matches!(read_weights(&path).unwrap_err(), CheckpointError::NotWeights { .. }));
}

#[test]
fn what_cannot_be_stored_is_refused_and_the_old_file_kept() {
    let (_folder, path, bytes) = saved();
    for (name, shape) in [("cursor", vec![1]), ("w", vec![2]), ("__metadata__", vec![1])] {
        let mut bad = example();
        bad.tensors.push((name.to_owned(), shape, Values::U32(vec![1])));
        let error = bad.save(&path).unwrap_err();
        assert!(matches!(&error, CheckpointError::View { tensor, .. } if tensor == name), "{error}");
    }
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert!(matches!(example().save(&path.join("below")).unwrap_err(), CheckpointError::File(_)));
}

#[test]
fn a_checkpoint_does_not_pass_for_weights() {
    let (_folder, path, _) = saved();
    assert!(matches!(read_weights(&path).unwrap_err(), CheckpointError::IsACheckpoint(_)));
}

fn with_header(header: &[u8], data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header, data].concat()
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes: Vec<u8>, header in r#"[\[\]{}:,"a-z0-9_]{0,60}"#) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        for bytes in [with_header(header.as_bytes(), &bytes), with_header(&bytes, &bytes), bytes] {
            fs::write(&path, &bytes).unwrap();
            prop_assert!(Checkpoint::load(&path).is_err());
            // `{}` is a file of no weights.
            prop_assert!(read_weights(&path).map_or(true, |weights| weights.is_empty()));
        }
    }

    #[test]
    fn impossible_headers_never_panic(dtype in "F32|F64|U8|F4|BF16|Q7", shape: [u64; 2], start: u64, end: u64) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        for (start, end) in [(start, end), (0, end), (0, 0), (0, 16), (end, end)] {
            let header = format!(
                r#"{{"w":{{"dtype":"{dtype}","shape":[{},{}],"data_offsets":[{start},{end}]}}}}"#,
                shape[0], shape[1]
            );
            fs::write(&path, with_header(header.as_bytes(), &[0; 16])).unwrap();
            prop_assert!(read_weights(&path).is_err() && Checkpoint::load(&path).is_err());
        }
    }
}
