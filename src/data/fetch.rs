//! Downloads: resumed where they stopped, verified, and given their final name only when they are whole.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use ureq::Agent;
use ureq::http::{StatusCode, header};

use super::catalog::{RemoteFile, known};
use super::error::DataError;
use super::hex;

/// Covers name resolution, connection and TLS; a server further away than this is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// Longest silence in the midst of a transfer. There is no bound on the whole: a slow line is no error.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);

/// How far the download of one file has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// Name of the file.
    pub file: &'a str,
    /// Bytes on disk, those of an earlier, interrupted download included.
    pub done: u64,
    /// Bytes of the whole file.
    pub total: u64,
}

/// Downloads the known set `name` into `<into>/<name>` and returns that folder, where
/// [`open`](super::open) finds it if `into` is one of the roots searched.
///
/// Files that are already there with the right content are left alone. `progress` is called for each piece that
/// arrives, at least once for each file.
///
/// # Errors
///
/// [`DataError::NoDownload`] for a name without download; else those of [`fetch_files`].
pub fn fetch(name: &str, into: &Path, progress: &mut dyn FnMut(Progress<'_>)) -> Result<PathBuf, DataError> {
    let downloadable = || known().iter().filter(|set| !set.files.is_empty());
    let Some(set) = downloadable().find(|set| set.name == name) else {
        let known: Vec<_> = downloadable().map(|set| set.name).collect();
        return Err(DataError::NoDownload { name: name.to_owned(), known: known.join(", ") });
    };
    let folder = into.join(set.name);
    fetch_files(set.files, &folder, progress)?;
    Ok(folder)
}

/// Downloads `files` into `folder`, which is created where it is missing.
///
/// Each file grows under the name `<name>.part`, from which a later call goes on; it is locked against a second
/// process, checked for length and SHA-256, flushed to the disk and only then renamed.
///
/// # Errors
///
/// [`DataError::Download`] where the connection fails (what arrived is kept), [`DataError::Status`] where the server
/// refuses, [`DataError::Checksum`] where the content is wrong (it is deleted), [`DataError::Busy`] where another
/// process downloads the same file, [`DataError::Io`] where the disk is full or the folder cannot be written.
pub fn fetch_files(
    files: &[RemoteFile<'_>],
    folder: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), DataError> {
    fs::create_dir_all(folder).map_err(DataError::io("create the folder", folder))?;
    let agent: Agent = Agent::config_builder()
        .http_status_as_error(false)
        .user_agent(concat!("ldfa-gpu/", env!("CARGO_PKG_VERSION")))
        // A transfer encoding would change the bytes that the checksum and the ranges speak of.
        .accept_encoding("identity")
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_per_read(Some(SILENCE_TIMEOUT))
        .build()
        .into();
    files.iter().try_for_each(|file| fetch_file(&agent, file, folder, progress))
}

fn fetch_file(
    agent: &Agent,
    file: &RemoteFile<'_>,
    folder: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), DataError> {
    let target = folder.join(file.name);
    if target.is_file() {
        let mut present = File::open(&target).map_err(DataError::io("open", &target))?;
        let (bytes, sha256) = digest(&mut present).map_err(DataError::io("read", &target))?;
        if is(file, bytes, &sha256) {
            progress(Progress { file: file.name, done: file.bytes, total: file.bytes });
            return Ok(());
        }
    }

    let mut part = Part::open(folder.join(format!("{}.part", file.name)))?;
    if let Err(error) = part.complete(agent, file, progress) {
        if part.len().is_ok_and(|len| len == 0) {
            // An empty file left behind is less worth telling than what stopped the download.
            let _ = part.remove();
        }
        return Err(error);
    }

    let (bytes, found) = digest(&mut part.content).map_err(part.error("read"))?;
    if !is(file, bytes, &found) {
        let mismatch = DataError::Checksum {
            url: file.url.to_owned(),
            file: part.path.clone(),
            expected: file.sha256.to_owned(),
            found,
            expected_bytes: file.bytes,
            bytes,
        };
        part.remove()?;
        return Err(mismatch);
    }
    part.content.sync_all().map_err(part.error("flush"))?;
    fs::rename(&part.path, &target).map_err(DataError::io("create", &target))?;
    sync_folder(folder)
}

/// A download under way.
struct Part {
    path: PathBuf,
    content: File,
}

impl Part {
    fn open(path: PathBuf) -> Result<Self, DataError> {
        let content = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(DataError::io("write", &path))?;
        match content.try_lock() {
            Err(TryLockError::WouldBlock) => Err(DataError::Busy { file: path }),
            // Some network file systems have no locks; a download is worth the risk there.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(Self { path, content }),
        }
    }

    /// Makes the file as long as `file`, by whatever the server still has to send.
    fn complete(
        &mut self,
        agent: &Agent,
        file: &RemoteFile<'_>,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(), DataError> {
        let mut done = self.len()?;
        if done > file.bytes {
            self.clear()?;
            done = 0;
        }
        progress(Progress { file: file.name, done, total: file.bytes });
        if done == file.bytes {
            return Ok(());
        }
        let stopped = |done: u64, reason: String| DataError::Download {
            url: file.url.to_owned(),
            done,
            total: file.bytes,
            reason,
        };

        let response = loop {
            let mut request = agent.get(file.url);
            if done > 0 {
                request = request.header(header::RANGE, format!("bytes={done}-"));
            }
            let response = request.call().map_err(|error| stopped(done, error.to_string()))?;
            match response.status() {
                StatusCode::OK => {
                    // The server sends the whole file, asked for or not.
                    self.clear()?;
                    done = 0;
                    break response;
                }
                StatusCode::PARTIAL_CONTENT if done > 0 && range_start(&response) == Some(done) => break response,
                StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE if done > 0 => {
                    // What is here is no beginning of what the server has: once more, without a range.
                    self.clear()?;
                    done = 0;
                }
                status => return Err(DataError::Status { url: file.url.to_owned(), status: status.as_u16() }),
            }
        };

        self.content.seek(SeekFrom::Start(done)).map_err(self.error("write"))?;
        // One byte more than there should be, so that too long an answer fails the check of the length.
        let mut body = response.into_body().into_reader().take(file.bytes + 1 - done);
        let mut piece = vec![0; 1 << 16];
        loop {
            let count = match body.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(stopped(done, error.to_string())),
            };
            self.content.write_all(&piece[..count]).map_err(self.error("write"))?;
            done += count as u64;
            progress(Progress { file: file.name, done: done.min(file.bytes), total: file.bytes });
        }
        if done < file.bytes {
            return Err(stopped(done, "the connection was closed early".into()));
        }
        Ok(())
    }

    fn len(&self) -> Result<u64, DataError> {
        Ok(self.content.metadata().map_err(self.error("read"))?.len())
    }

    fn clear(&mut self) -> Result<(), DataError> {
        if self.len()? > 0 {
            self.content.set_len(0).map_err(self.error("write"))?;
        }
        Ok(())
    }

    fn remove(&self) -> Result<(), DataError> {
        fs::remove_file(&self.path).map_err(self.error("remove"))
    }

    fn error(&self, action: &'static str) -> impl FnOnce(io::Error) -> DataError {
        DataError::io(action, &self.path)
    }
}

/// Whether content of this length and SHA-256 is the file.
fn is(file: &RemoteFile<'_>, bytes: u64, sha256: &str) -> bool {
    (file.bytes, file.sha256) == (bytes, sha256)
}

/// The first byte of a partial answer: `Content-Range: bytes 100-199/200` begins at 100.
fn range_start<T>(response: &ureq::http::Response<T>) -> Option<u64> {
    let range = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    range.trim().strip_prefix("bytes")?.trim_start().split('-').next()?.parse().ok()
}

/// Length and SHA-256 of a file, from its beginning.
fn digest(file: &mut File) -> io::Result<(u64, String)> {
    file.rewind()?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 1 << 16];
    let mut bytes = 0;
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok((bytes, hex(&hash.finalize()))),
            Ok(count) => {
                hash.update(&piece[..count]);
                bytes += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A rename is on the disk only when the folder is; other systems than Unix do not open folders.
fn sync_folder(folder: &Path) -> Result<(), DataError> {
    if cfg!(unix) {
        File::open(folder).and_then(|opened| opened.sync_all()).map_err(DataError::io("flush", folder))?;
    }
    Ok(())
}
