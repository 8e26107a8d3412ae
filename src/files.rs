//! Writing files so that a crash, a full disk or a kill never leaves half of one; reading them so that nothing of that name, be it a
//! pipe or without end, keeps the program waiting.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// Ending of the temporary files that [`write_atomically`] leaves behind when the process is killed.
const TEMPORARY: &str = ".tmp";

/// A file or folder that the system would not let us touch.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}; {}", path.display(), remedy(source))]
pub struct FileError {
    /// The file or folder.
    pub path: PathBuf,
    /// What was attempted: "write", "create", "read", ...
    pub action: &'static str,
    /// The system's reason.
    pub source: io::Error,
}

impl FileError {
    /// An adapter for `map_err`: `.map_err(FileError::at(path, "read"))`.
    pub fn at(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> FileError {
        move |source| FileError { path: path.to_owned(), action, source }
    }
}

/// What the user can do about the usual reasons.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::PermissionDenied => "check the permissions, or choose a folder of your own with --out",
        ErrorKind::ReadOnlyFilesystem => "the disk is read-only; choose another --out",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free space or choose another --out",
        ErrorKind::NotFound => "check the spelling of the path",
        ErrorKind::NotADirectory => "part of the path is a file, not a folder; choose another path",
        ErrorKind::IsADirectory => "that is a folder; name a file",
        ErrorKind::AlreadyExists => "remove it or choose another name",
        ErrorKind::InvalidFilename => "choose a shorter or simpler name",
        ErrorKind::InvalidData => "it must be plain UTF-8 text",
        ErrorKind::OutOfMemory => "free memory, or raise the limit on it (ulimit -v)",
        ErrorKind::InvalidInput => "put an intact copy there, or name another file",
        ErrorKind::FileTooLarge => "raise the limit on the size of files (ulimit -f), or choose another disk",
        ErrorKind::Unsupported => "this file system cannot do that; choose an --out on a local disk",
        _ => "check the disk, or choose another path",
    }
}

/// More bytes than there are in any file that is read whole, but for weights and logs.
pub const MOST: u64 = 1 << 30;

/// A pipe or a device: it may be without end, or keep who reads it waiting for ever.
fn irregular() -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, "a device or pipe of that name exists, not a regular file")
}

/// Reads a regular file of at most `most` bytes.
///
/// # Errors
/// [`FileError`] when there is no such file, it is longer, or it is a folder, a device or a pipe.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>, FileError> {
    try_read(path, most).map_err(FileError::at(path, "read"))
}

/// [`read`], for text.
///
/// # Errors
/// As [`read`], and when it is not UTF-8.
pub fn read_text(path: &Path, most: u64) -> Result<String, FileError> {
    let text = read(path, most)?;
    let invalid = |_| io::Error::new(ErrorKind::InvalidData, "it is not text");
    String::from_utf8(text).map_err(invalid).map_err(FileError::at(path, "read"))
}

fn try_read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open_regular(path)?;
    let length = file.metadata()?.len();
    let mut bytes = Vec::new();
    if length <= most {
        bytes.try_reserve_exact(length as usize)?;
        // What is being written may grow meanwhile.
        file.take(most + 1).read_to_end(&mut bytes)?;
    }
    if length.max(bytes.len() as u64) > most {
        let message = format!("it is longer than the {most} bytes that such a file has at most");
        return Err(io::Error::new(ErrorKind::InvalidInput, message));
    }
    Ok(bytes)
}

/// Opens a regular file for reading.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    // To open a device may already do something, so that one looks before.
    check_regular(&fs::metadata(path)?)?;
    let file = without_waiting(OpenOptions::new().read(true)).open(path)?;
    check_regular(&file.metadata()?)?;
    Ok(file)
}

fn check_regular(found: &fs::Metadata) -> io::Result<()> {
    match found {
        found if found.is_dir() => Err(ErrorKind::IsADirectory.into()),
        found if found.is_file() => Ok(()),
        _ => Err(irregular()),
    }
}

/// Lets opening a pipe fail where it would wait for the other end.
fn without_waiting(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(options, nix::fcntl::OFlag::O_NONBLOCK.bits());
    options
}

/// Opens an empty file to lock, made if it is missing.
///
/// # Errors
/// [`FileError`] when it cannot be made, or is a folder, a device or a pipe.
pub(crate) fn open_lock(path: &Path) -> Result<File, FileError> {
    let open = || {
        if let Ok(found) = fs::metadata(path) {
            check_regular(&found)?;
        }
        let file = without_waiting(OpenOptions::new().create(true).truncate(false).write(true)).open(path)?;
        check_regular(&file.metadata()?)?;
        Ok(file)
    };
    open().map_err(FileError::at(path, "create"))
}

/// Writes a whole file or none: the new content appears under `path` only once it is complete and on the disk.
///
/// The content goes to a temporary name in the same folder, is flushed and synced, then renamed over `path`, and the
/// folder is synced. On failure the temporary file is removed and what `path` held before is untouched; a killed
/// process leaves at most a temporary file, which [`remove_leftovers`] clears.
///
/// # Errors
/// [`FileError`] when the folder is missing or not writable, the disk is full, or `content` fails.
pub fn write_atomically(
    path: &Path,
    content: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), FileError> {
    try_write(path, content).map_err(FileError::at(path, "write"))
}

fn try_write(path: &Path, content: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    let name = path.file_name().ok_or(ErrorKind::IsADirectory)?;
    // The rename would put a plain file in the place of a device such as /dev/null.
    if fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir()) {
        return Err(irregular());
    }
    let folder = folder_of(path);
    // Until `persist`, dropping `temporary` removes the file: every `?` below cleans up after itself.
    let (file, temporary) = temporary_in(folder, name)?.into_parts();
    let mut writer = BufWriter::new(file);
    content(&mut writer)?;
    writer.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    temporary.persist(path).map_err(|refused| refused.error)?;
    sync_folder(folder)
}

fn temporary_in(folder: &Path, name: &OsStr) -> io::Result<tempfile::NamedTempFile> {
    let prefix = format!(".{}.", name.to_string_lossy());
    // `make_in` rather than `tempfile_in`: the file gets the permissions of any new file instead of private ones, and
    // an error does not speak of the temporary name, which would mean nothing to the user.
    tempfile::Builder::new().prefix(&prefix).suffix(TEMPORARY).make_in(folder, |path| File::create_new(path))
}

/// Makes a rename or a new name in `folder` survive a power failure.
fn sync_folder(folder: &Path) -> io::Result<()> {
    // Only Unix opens folders as files; elsewhere the file system orders renames itself.
    if cfg!(unix) {
        match File::open(folder)?.sync_all() {
            // Some network and FUSE file systems refuse to sync a folder; the file itself is synced already.
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
            done => done,
        }
    } else {
        Ok(())
    }
}

/// Removes a file, if it is there.
///
/// # Errors
/// [`FileError`] when the system refuses.
pub(crate) fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.and_then(|()| sync_folder(folder_of(path))).map_err(FileError::at(path, "remove")),
    }
}

/// Puts a file in the place of another one in the same folder.
///
/// # Errors
/// [`FileError`] when the system refuses.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    fs::rename(from, to).and_then(|()| sync_folder(folder_of(to))).map_err(FileError::at(to, "replace"))
}

/// The folder that holds `path`; `Path::parent` gives an empty one for a bare name.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Creates a folder and its parents, if missing.
///
/// # Errors
/// [`FileError`] when the system refuses, or a file is in the way.
pub fn create_folder(path: &Path) -> Result<(), FileError> {
    fs::create_dir_all(path).map_err(FileError::at(path, "create the folder"))
}

/// Whether this is the name of a temporary file of [`write_atomically`].
pub(crate) fn is_leftover(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with('.') && name.ends_with(TEMPORARY))
}

/// Removes the temporary files that a killed process left in `folder`. Call it only while no other process writes there.
///
/// # Errors
/// [`FileError`] when the folder cannot be read or a file cannot be removed.
pub fn remove_leftovers(folder: &Path) -> Result<(), FileError> {
    for entry in fs::read_dir(folder).map_err(FileError::at(folder, "list"))? {
        let entry = entry.map_err(FileError::at(folder, "list"))?;
        if is_leftover(&entry.file_name()) {
            fs::remove_file(entry.path()).map_err(FileError::at(&entry.path(), "remove"))?;
        }
    }
    Ok(())
}

/// Appends to a file and syncs it; a failure takes back the part that was written.
///
/// # Errors
/// [`FileError`] naming `path`.
pub(crate) fn append_synced(file: &mut File, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut append = || {
        let before = file.metadata()?.len();
        file.write_all(bytes).and_then(|()| file.sync_data()).inspect_err(|_| {
            // If even this fails, the reader still drops a last line without its newline.
            let _ = file.set_len(before);
        })
    };
    append().map_err(FileError::at(path, "write"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn names_in(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn writes_and_replaces() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        for text in ["first", "second, longer", "3"] {
            write_atomically(&path, |file| file.write_all(text.as_bytes())).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(names_in(folder.path()), ["a.txt"]);
    }

    #[test]
    fn failure_keeps_the_old_file_and_no_temporary() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        fs::write(&path, "old").unwrap();
        let error = write_atomically(&path, |file| {
            file.write_all(&[b'x'; 100_000])?;
            Err(ErrorKind::StorageFull.into())
        })
        .unwrap_err();
        assert!(error.to_string().contains("a.txt") && error.to_string().contains("free space"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(names_in(folder.path()), ["a.txt"]);
    }

    #[test]
    fn a_panic_inside_removes_the_temporary() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        let outcome = std::panic::catch_unwind(|| write_atomically(&path, |_| panic!("on purpose")));
        assert!(outcome.is_err());
        assert!(names_in(folder.path()).is_empty());
    }

    #[test]
    fn names_the_file_and_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        // Root may write anywhere, so permission is not tested by a read-only folder but by a path below a file.
        let below = write_atomically(&file.join("a.txt"), |_| Ok(())).unwrap_err().to_string();
        assert!(below.contains("a.txt") && below.contains("not a folder"), "{below}");
        assert!(!below.contains(".a.txt."), "the temporary name means nothing to the user: {below}");
        let missing = write_atomically(&folder.path().join("no/a.txt"), |_| Ok(())).unwrap_err().to_string();
        assert!(missing.contains("a.txt") && missing.contains("spelling"), "{missing}");
        assert!(create_folder(&file.join("deeper")).is_err());
    }

    #[test]
    fn leftovers_of_a_kill_are_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for name in [".last.safetensors.Ab12Cd.tmp", ".lock", "notes.tmp", "config.toml"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        remove_leftovers(folder.path()).unwrap();
        assert_eq!(names_in(folder.path()), [".lock", "config.toml", "notes.tmp"]);
    }

    #[test]
    fn no_more_is_read_than_such_a_file_may_hold() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        fs::write(&path, "twelve bytes").unwrap();
        assert_eq!(read_text(&path, 12).unwrap(), "twelve bytes");
        let error = read(&path, 11).unwrap_err().to_string();
        assert!(error.contains("a.txt") && error.contains("11 bytes") && error.contains("intact copy"), "{error}");
        // As long as no disk is, and none of it written.
        File::options().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
        assert!(read(&path, MOST).is_err());
        fs::write(&path, b"\xff").unwrap();
        assert!(read_text(&path, 12).unwrap_err().to_string().contains("UTF-8"));
        assert_eq!(read(folder.path(), 12).unwrap_err().source.kind(), ErrorKind::IsADirectory);
        assert_eq!(read(&folder.path().join("none"), 12).unwrap_err().source.kind(), ErrorKind::NotFound);
    }

    #[cfg(unix)]
    #[test]
    fn pipes_and_devices_are_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let began = Instant::now();
        for path in [&pipe, Path::new("/dev/zero"), Path::new("/dev/null")] {
            let error = read(path, MOST).unwrap_err().to_string();
            assert!(error.contains("not a regular file") && error.contains("intact copy"), "{error}");
        }
        assert!(open_lock(&pipe).unwrap_err().to_string().contains("not a regular file"));
        assert!(began.elapsed() < Duration::from_secs(5));
    }

    #[cfg(unix)]
    #[test]
    fn files_are_as_readable_as_any_other() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("ours"), folder.path().join("plain"));
        write_atomically(&ours, |_| Ok(())).unwrap();
        fs::write(&plain, "").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error_with_a_remedy() {
        let path = Path::new("/dev/full");
        let mut full = fs::OpenOptions::new().append(true).open(path).unwrap();
        let error = append_synced(&mut full, path, b"row\n").unwrap_err().to_string();
        assert!(error.contains("/dev/full") && error.contains("free space"), "{error}");
    }
}
