//! The folder of one run: what lies where, and the lock that keeps two trainings out of one folder.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::files::{FileError, create_folder, is_leftover, open_lock, remove_leftovers};

/// Folder of the runs that were not given an `--out`.
pub const RUNS: &str = "runs";

const CONFIG: &str = "config.toml";
const KERNELS: &str = "kernels.toml";
const CHECKPOINTS: &str = "checkpoints";
const LOCK: &str = ".lock";

/// A folder that cannot be used as asked.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// A new run would overwrite an old one.
    #[error("{} already holds a run; continue it with --resume, or choose another --out", .0.display())]
    HoldsRun(PathBuf),
    /// A new run would mix with files that are not ours.
    #[error("{} is not empty (it holds {found}); choose a new or empty folder with --out", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
        /// One of its entries.
        found: String,
    },
    /// No such folder.
    #[error("there is no run in {}: the folder does not exist; check the path, or start a run there with --out", .0.display())]
    Missing(PathBuf),
    /// A folder, but not of a run.
    #[error("{} is not a run: {why}; name a folder that `ldfa-gpu train` has written", path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
        /// What gave it away.
        why: &'static str,
    },
    /// Another process trains here.
    #[error("{} is in use by another training; wait for it or stop it, or choose another --out", .0.display())]
    InUse(PathBuf),
    /// The system refused.
    #[error(transparent)]
    File(#[from] FileError),
}

/// One run's folder. A directory that was created or resumed stays locked until this value is dropped.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    /// Holds the advisory lock; the system releases it when the process ends, however it ends.
    _lock: Option<File>,
}

impl RunDir {
    /// Makes a new run at `path` and locks it. The folder may exist if it is empty, or holds no more than a creation
    /// that was interrupted.
    ///
    /// # Errors
    /// [`RunDirError`] when the folder holds a run or other files, is in use, or cannot be written; nothing is changed then.
    pub fn create(path: &Path) -> Result<RunDir, RunDirError> {
        if path.exists() {
            refuse_contents(path)?;
        }
        create_folder(path)?;
        let lock = acquire(path)?;
        // Between the look and the lock, another process may have begun and ended a run here.
        refuse_contents(path)?;
        prepare(path, lock)
    }

    /// Makes a new run at `parent/name`, or at `parent/name-2`, `-3`, ... if that is taken; see [`RUNS`].
    ///
    /// # Errors
    /// [`RunDirError`] when the folder cannot be written.
    pub fn create_under(parent: &Path, name: &str) -> Result<RunDir, RunDirError> {
        create_folder(parent)?;
        let mut path = parent.join(name);
        let mut number = 1u64;
        loop {
            // `create_dir` succeeds for exactly one of several processes that start at the same moment.
            match fs::create_dir(&path) {
                Ok(()) => return prepare(&path, acquire(&path)?),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(FileError::at(&path, "create the folder")(error).into()),
            }
            path = parent.join(format!("{name}-{number}"));
        }
    }

    /// Opens a run to read it, without a lock: a training may go on in it.
    ///
    /// # Errors
    /// [`RunDirError`] when the folder or its `config.toml` is missing.
    pub fn open(path: &Path) -> Result<RunDir, RunDirError> {
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => {
                return Err(RunDirError::NotARun { path: path.to_owned(), why: "it is a file, not a folder" });
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Err(RunDirError::Missing(path.to_owned()));
            }
            Err(error) => return Err(FileError::at(path, "open")(error).into()),
        }
        let run = RunDir { path: path.to_owned(), _lock: None };
        if !run.config().is_file() {
            return Err(RunDirError::NotARun { path: path.to_owned(), why: "it holds no config.toml" });
        }
        Ok(run)
    }

    /// Opens a run to continue it: locks it and clears what a killed process left half-written.
    ///
    /// # Errors
    /// [`RunDirError`] when this is no run, another process trains in it, or it cannot be written.
    pub fn resume(path: &Path) -> Result<RunDir, RunDirError> {
        RunDir::open(path)?;
        prepare(path, acquire(path)?)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The resolved configuration, from which the run can be repeated. Its presence makes the folder a run.
    pub fn config(&self) -> PathBuf {
        self.path.join(CONFIG)
    }

    /// The measured kernels that the run began with, and that it goes on with.
    pub fn kernels(&self) -> PathBuf {
        self.path.join(KERNELS)
    }

    /// Loss and accuracy by epoch and replica.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.csv")
    }

    /// How feedback and forward weights agree, by epoch, replica and layer.
    pub fn alignment(&self) -> PathBuf {
        self.path.join("alignment.csv")
    }

    /// How many dimensions errors have, by epoch, replica and layer.
    pub fn spectrum(&self) -> PathBuf {
        self.path.join("spectrum.csv")
    }

    /// What residual blocks add and how well errors agree, by epoch, replica and layer.
    pub fn depth(&self) -> PathBuf {
        self.path.join("depth.csv")
    }

    /// How errors change on their way back through time, by epoch, replica, layer that recurs and step.
    pub fn lags(&self) -> PathBuf {
        self.path.join("lags.csv")
    }

    /// The run in one file.
    pub fn summary(&self) -> PathBuf {
        self.path.join("summary.json")
    }

    /// The learning curves.
    pub fn curves(&self) -> PathBuf {
        self.path.join("curves.png")
    }

    /// The newest checkpoint.
    pub fn last_checkpoint(&self) -> PathBuf {
        self.path.join(CHECKPOINTS).join("last.safetensors")
    }

    /// Every network as it was at its own best epoch.
    pub fn best_checkpoint(&self) -> PathBuf {
        self.path.join(CHECKPOINTS).join("best.safetensors")
    }

    /// The same before the epoch that `max_steps` has cut short, where that was the best of a network: if the run goes on, the
    /// whole epoch takes its place.
    pub fn best_before_the_cut(&self) -> PathBuf {
        self.path.join(CHECKPOINTS).join("best-before-the-cut.safetensors")
    }
}

/// Completes a folder that this process has locked.
fn prepare(path: &Path, lock: File) -> Result<RunDir, RunDirError> {
    let checkpoints = path.join(CHECKPOINTS);
    create_folder(&checkpoints)?;
    remove_leftovers(path)?;
    remove_leftovers(&checkpoints)?;
    Ok(RunDir { path: path.to_owned(), _lock: Some(lock) })
}

/// Takes the folder's lock, or says who has it. The lock file stays when a run ends: to remove it would let a second
/// process lock the removed file while a third locks a new one.
fn acquire(path: &Path) -> Result<File, RunDirError> {
    let lock_path = path.join(LOCK);
    let lock = open_lock(&lock_path)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(RunDirError::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(FileError::at(&lock_path, "lock")(error).into()),
    }
}

/// Errs if a new run in this existing folder would harm or mix with what is there.
fn refuse_contents(path: &Path) -> Result<(), RunDirError> {
    let contents = contents(path).map_err(FileError::at(path, "create a run in"))?;
    match contents.first() {
        None => Ok(()),
        Some(_) if contents.iter().any(|name| name == CONFIG) => Err(RunDirError::HoldsRun(path.to_owned())),
        Some(found) => Err(RunDirError::NotEmpty { path: path.to_owned(), found: found.clone() }),
    }
}

/// Sorted names in the folder, less what an interrupted [`RunDir::create`] leaves.
fn contents(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        let of_interrupted_creation = name == LOCK
            || name == KERNELS
            || is_leftover(&name)
            || (name == CHECKPOINTS && is_empty_folder(&entry.path()));
        if !of_interrupted_creation {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn is_empty_folder(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_run_has_its_places_and_an_old_one_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let run = RunDir::create(&path).unwrap();
        assert!(run.last_checkpoint().parent().unwrap().is_dir());
        fs::write(run.config(), "").unwrap();
        drop(run);
        let error = RunDir::create(&path).unwrap_err();
        assert!(matches!(error, RunDirError::HoldsRun(_)));
        assert!(error.to_string().contains("--resume") && error.to_string().contains("--out"), "{error}");
    }

    #[test]
    fn a_folder_with_other_files_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis.tex"), "x").unwrap();
        let error = RunDir::create(folder.path()).unwrap_err();
        assert!(error.to_string().contains("thesis.tex"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_creation_that_was_killed_can_be_repeated() {
        let folder = tempfile::tempdir().unwrap();
        drop(RunDir::create(folder.path()).unwrap());
        fs::write(folder.path().join(".config.toml.x1Y2z3.tmp"), "[da").unwrap();
        fs::write(folder.path().join(KERNELS), "").unwrap();
        RunDir::create(folder.path()).unwrap();
        assert!(!folder.path().join(".config.toml.x1Y2z3.tmp").exists());
    }

    #[test]
    fn open_says_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let gone = folder.path().join("gone");
        assert!(matches!(RunDir::open(&gone).unwrap_err(), RunDirError::Missing(_)));
        let error = RunDir::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("holds no config.toml"), "{error}");
        assert!(RunDir::resume(folder.path()).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(RunDir::open(&file).unwrap_err().to_string().contains("it is a file"));
        assert!(matches!(RunDir::open(&file.join("below")).unwrap_err(), RunDirError::Missing(_)));
    }

    #[test]
    fn a_path_below_a_file_cannot_be_created() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [file.join("run"), file.clone()] {
            let error = RunDir::create(&path).unwrap_err().to_string();
            assert!(error.contains("file") && error.contains("choose another"), "{error}");
        }
        assert!(RunDir::create_under(&file, "digits").is_err());
    }

    #[test]
    fn names_are_numbered() {
        let folder = tempfile::tempdir().unwrap();
        let names: Vec<PathBuf> = (0..3)
            .map(|_| RunDir::create_under(folder.path(), "digits").unwrap().path().file_name().unwrap().into())
            .collect();
        assert_eq!(names, ["digits", "digits-2", "digits-3"].map(PathBuf::from));
    }

    #[test]
    fn a_second_training_is_refused_while_the_first_lives() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let run = RunDir::create(&path).unwrap();
        assert!(matches!(RunDir::create(&path).unwrap_err(), RunDirError::InUse(_)));
        fs::write(run.config(), "").unwrap();
        assert!(matches!(RunDir::resume(&path).unwrap_err(), RunDirError::InUse(_)));
        RunDir::open(&path).expect("reading needs no lock");
        drop(run);
        // A process that another test starts shares this one's locks until it has become its own program.
        let is_free = (0..200).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            RunDir::resume(&path).is_ok()
        });
        assert!(is_free, "the lock outlives the run");
    }

    /// Body of the other process of the next test; does nothing when run with the rest.
    #[test]
    fn other_process() {
        if let Some(path) = std::env::var_os("LDFA_TEST_LOCKED_RUN") {
            assert!(matches!(RunDir::resume(Path::new(&path)).unwrap_err(), RunDirError::InUse(_)));
        }
    }

    #[test]
    fn a_second_process_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDir::create(folder.path()).unwrap();
        fs::write(run.config(), "").unwrap();
        let other = |path: &Path| {
            std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", concat!(module_path!(), "::other_process").split_once("::").unwrap().1])
                .env("LDFA_TEST_LOCKED_RUN", path)
                .output()
                .unwrap()
        };
        let refused = other(folder.path());
        assert!(refused.status.success(), "{}", String::from_utf8_lossy(&refused.stdout));
        assert!(String::from_utf8_lossy(&refused.stdout).contains("1 passed"), "the other test was not found");
        drop(run);
        assert!(!other(folder.path()).status.success(), "with the lock free, the other process must get in");
    }
}
