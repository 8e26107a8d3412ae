//! What a later process can reuse of an adapter: measured kernels, and what the driver has compiled.
//!
//! A cache is a convenience: whatever is wrong with one of its files costs a warning and a little time, never the run.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use etcetera::BaseStrategy;
use sha2::{Digest, Sha256};

use super::key::{AdapterKey, hex};
use super::pipelines::PipelineStore;
use crate::files::{self, FileError, create_folder, write_atomically};
use crate::plan::Tuned;

/// Longest wait for another process that writes to the same file; it needs milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// First bytes of a file of compiled pipelines; the number is the version of its layout.
const PIPELINES: &[u8] = b"ldfa-gpu pipelines 1\n";

/// A folder with files for every adapter.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// The folder that `LDFA_CACHE` names, else `ldfa-gpu` in the platform's folder for caches (on Linux
    /// `$XDG_CACHE_HOME` or `~/.cache`). `None`, and nothing is kept, where `LDFA_CACHE` is empty or the platform has no
    /// such folder.
    pub fn from_env() -> Option<Cache> {
        match std::env::var_os("LDFA_CACHE") {
            Some(folder) => (!folder.is_empty()).then(|| Cache::at(folder)),
            None => {
                let platform = etcetera::base_strategy::choose_native_strategy().ok()?;
                Some(Cache::at(platform.cache_dir().join("ldfa-gpu")))
            }
        }
    }

    /// A folder, which need not exist yet.
    pub fn at(folder: impl Into<PathBuf>) -> Cache {
        Cache { folder: folder.into() }
    }

    /// Where an adapter's measured kernels are kept.
    pub fn kernels(&self, key: &AdapterKey) -> PathBuf {
        self.folder.join(format!("{}.kernels.toml", key.file_name()))
    }

    /// Where an adapter's compiled pipelines are kept.
    pub fn pipelines(&self, key: &AdapterKey) -> PathBuf {
        self.folder.join(format!("{}.pipelines", key.file_name()))
    }

    /// Whether results can be kept; says why not in a warning.
    pub(crate) fn is_writable(&self, key: &AdapterKey) -> bool {
        match create_folder(&self.folder).and_then(|()| open_lock(&self.kernels(key))) {
            Ok(_) => true,
            Err(error) => {
                warn_unwritable(&error);
                false
            }
        }
    }

    /// The measured kernels of an adapter; none if the file is missing, damaged, or of another version or adapter.
    pub fn load_kernels(&self, key: &AdapterKey) -> Tuned {
        read_kernels(&self.kernels(key), key)
    }

    /// Adds measured kernels to the adapter's file and returns all that it holds then. Where another process has
    /// measured the same class in the meantime, its choice stays, so that both use the same from now on.
    pub fn add_kernels(&self, key: &AdapterKey, new: &Tuned) -> Tuned {
        let path = self.kernels(key);
        if let Err(error) = create_folder(&self.folder) {
            warn_unwritable(&error);
            return new.clone();
        }
        let _lock = lock(&path);
        let mut all = read_kernels(&path, key);
        all.complete(new);
        let text = all.to_text(&key.origin);
        if let Err(error) = write_atomically(&path, |file| file.write_all(text.as_bytes())) {
            warn_unwritable(&error);
        }
        all
    }
}

impl AdapterKey {
    /// A few readable letters for people, and a hash of everything.
    fn file_name(&self) -> String {
        format!("{}-{}", self.slug, &hex(&self.digest())[..16])
    }

    fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.origin.as_bytes()).into()
    }
}

impl PipelineStore for Cache {
    fn load_pipelines(&self, key: &AdapterKey) -> Option<Vec<u8>> {
        let path = self.pipelines(key);
        let bytes = read(&path)?;
        let data = unseal(&bytes, key).map(<[u8]>::to_vec);
        if data.is_none() {
            tracing::warn!("{} is damaged or of another version; pipelines are compiled anew", path.display());
        }
        data
    }

    fn save_pipelines(&self, key: &AdapterKey, data: &[u8]) {
        let bytes = seal(data, key);
        let path = self.pipelines(key);
        let written = create_folder(&self.folder).and_then(|()| write_atomically(&path, |file| file.write_all(&bytes)));
        if let Err(error) = written {
            warn_unwritable(&error);
        }
    }
}

fn warn_unwritable(error: &FileError) {
    tracing::warn!(
        "the cache cannot be used (cannot {} {}: {}); set LDFA_CACHE to a folder that can be written",
        error.action,
        error.path.display(),
        error.source
    );
}

fn read(path: &Path) -> Option<Vec<u8>> {
    match files::read(path, files::MOST) {
        Ok(bytes) => Some(bytes),
        Err(error) if matches!(error.source.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => None,
        Err(error) => {
            tracing::warn!("{} is ignored: {}", path.display(), error.source);
            None
        }
    }
}

fn read_kernels(path: &Path, key: &AdapterKey) -> Tuned {
    let Some(bytes) = read(path) else { return Tuned::default() };
    match Tuned::from_text(&String::from_utf8_lossy(&bytes)) {
        Ok((origin, tuned)) if origin == key.origin => tuned,
        Ok((origin, _)) => {
            tracing::warn!("{} is ignored: it holds measurements of {origin}", path.display());
            Tuned::default()
        }
        Err(error) => {
            tracing::warn!("{} is ignored: {error}; kernels are measured anew", path.display());
            Tuned::default()
        }
    }
}

fn seal(data: &[u8], key: &AdapterKey) -> Vec<u8> {
    let mut content = key.digest().to_vec();
    content.extend(data);
    [PIPELINES, Sha256::digest(&content).as_slice(), &content].concat()
}

/// The data of a file that [`seal`] made for the same key, byte for byte.
fn unseal<'a>(bytes: &'a [u8], key: &AdapterKey) -> Option<&'a [u8]> {
    let (digest, content) = bytes.strip_prefix(PIPELINES)?.split_at_checked(32)?;
    if Sha256::digest(content).as_slice() != digest {
        return None;
    }
    content.strip_prefix(key.digest().as_slice())
}

/// The lock of a file lies beside it: the file itself is replaced by each writer.
fn open_lock(path: &Path) -> Result<File, FileError> {
    files::open_lock(&path.with_extension("lock"))
}

/// Keeps other writers waiting until it is dropped. Without it (a file system that has no locks, a process that hangs)
/// the file still is whole at any time, for it is replaced by renaming; what could be lost is another's additions.
fn lock(path: &Path) -> Option<File> {
    let file = open_lock(path).ok()?;
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Some(file),
            Err(TryLockError::WouldBlock) if began.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    use crate::ops::{Dtype, Gemm, Recording};
    use crate::plan::{ShapeClass, Variant};

    fn key(name: &str) -> AdapterKey {
        AdapterKey { origin: format!("{name}; driver 1"), slug: name.into() }
    }

    fn class(size: u32) -> ShapeClass {
        let mut recording = Recording::new(1);
        let a = recording.state("a", size, size, Dtype::F32);
        ShapeClass::of(&Gemm::nn(a, a, a).into())
    }

    fn choice(size: u32, variant: Variant) -> Tuned {
        let mut tuned = Tuned::default();
        tuned.insert(class(size), variant);
        tuned
    }

    #[test]
    fn what_was_added_is_found_by_the_next_process_and_merged() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().join("not/yet/there"));
        let key = key("card");
        assert!(cache.load_kernels(&key).is_empty());
        assert!(cache.is_writable(&key));
        cache.add_kernels(&key, &choice(8, Variant::Tile64x64));
        let both = cache.add_kernels(&key, &choice(64, Variant::Stream16x64));
        assert_eq!((both.get(&class(8)), both.get(&class(64))), (Some(Variant::Tile64x64), Some(Variant::Stream16x64)));
        assert_eq!(cache.load_kernels(&key), both);
        let kept = cache.add_kernels(&key, &choice(8, Variant::Stream16x64));
        assert_eq!(kept, both, "who comes first decides for all");
    }

    #[test]
    fn damaged_cut_foreign_and_newer_files_are_ignored_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let key = key("card");
        let path = cache.kernels(&key);
        cache.add_kernels(&key, &choice(8, Variant::Tile64x64));
        let whole = fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 4;
        let foreign = choice(8, Variant::Tile64x64).to_text("another card").into_bytes();
        let cut = whole[..whole.len() - 7].to_vec();
        for bytes in [flipped, cut, foreign, b"format = 2\n".to_vec(), vec![0xFF; 40], Vec::new()] {
            fs::write(&path, &bytes).unwrap();
            assert!(cache.load_kernels(&key).is_empty(), "{bytes:?}");
            assert_eq!(cache.add_kernels(&key, &choice(8, Variant::Tile64x64)).len(), 1);
            assert_eq!(fs::read(&path).unwrap(), whole);
        }
    }

    #[test]
    fn a_folder_that_cannot_be_written_costs_nothing_but_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let cache = Cache::at(file.join("below"));
        let key = key("card");
        assert!(!cache.is_writable(&key));
        assert!(cache.load_kernels(&key).is_empty());
        assert_eq!(cache.add_kernels(&key, &choice(8, Variant::Tile64x64)).len(), 1);
        cache.save_pipelines(&key, b"compiled");
        assert_eq!(cache.load_pipelines(&key), None);
    }

    #[test]
    fn compiled_pipelines_come_back_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        let (key, other) = (key("card"), key("other"));
        assert_eq!(cache.load_pipelines(&key), None);
        cache.save_pipelines(&key, b"machine code");
        assert_eq!(cache.load_pipelines(&key).as_deref(), Some(&b"machine code"[..]));
        let whole = fs::read(cache.pipelines(&key)).unwrap();
        for at in 0..whole.len() {
            assert_eq!(unseal(&whole[..at], &key), None, "cut at {at}");
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            assert_eq!(unseal(&flipped, &key), None, "byte {at}");
        }
        fs::copy(cache.pipelines(&key), cache.pipelines(&other)).unwrap();
        assert_eq!(cache.load_pipelines(&other), None, "the driver of another adapter must not see it");
    }

    /// Body of the other processes of the next test; does nothing when run with the rest.
    #[test]
    fn another_process_adds_kernels() {
        let Some(folder) = std::env::var_os("LDFA_TEST_CACHE") else { return };
        let first: u32 = std::env::var("LDFA_TEST_FIRST").unwrap().parse().unwrap();
        for power in 0..8 {
            Cache::at(&folder).add_kernels(&key("card"), &choice(1 << (first + power), Variant::Tile64x64));
        }
    }

    #[test]
    fn processes_that_write_at_once_leave_a_whole_file_with_all_they_found() {
        let folder = tempfile::tempdir().unwrap();
        let name = concat!(module_path!(), "::another_process_adds_kernels").split_once("::").unwrap().1;
        let others = [0, 8, 16].map(|first: u32| {
            let mut command = std::process::Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", name]).stdout(std::process::Stdio::null());
            command.env("LDFA_TEST_CACHE", folder.path()).env("LDFA_TEST_FIRST", first.to_string()).spawn().unwrap()
        });
        let cache = Cache::at(folder.path());
        let read_whole = || match fs::read_to_string(cache.kernels(&key("card"))) {
            Ok(text) => Tuned::from_text(&text).expect("whole at any time").1.len(),
            Err(_) => 0,
        };
        let mut last = 0;
        for mut other in others {
            while other.try_wait().unwrap().is_none() {
                let now = read_whole();
                assert!(now >= last, "nothing is lost");
                last = now;
            }
            assert!(other.wait().unwrap().success());
        }
        assert_eq!(read_whole(), 24);
    }
}
