//! Downloads, against servers that do it right and servers that do not.

use std::fs;
use std::path::PathBuf;

use ldfa_gpu::data::{DataError, RemoteFile, fetch, fetch_files};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::server::{Reply, Server};

/// Longer than one piece of a transfer.
fn content() -> Vec<u8> {
    (0..200_000u32).map(|index| (index.wrapping_mul(index) >> 7) as u8).collect()
}

struct Download {
    folder: TempDir,
    server: Server,
    sha256: String,
}

impl Download {
    fn from(reply: impl Fn(Option<usize>) -> Reply + Send + 'static) -> Self {
        let sha256 = Sha256::digest(content()).iter().map(|byte| format!("{byte:02x}")).collect();
        Self { folder: tempfile::tempdir().unwrap(), server: Server::start(reply), sha256 }
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join("set/file.gz")
    }

    fn part(&self) -> PathBuf {
        self.folder.path().join("set/file.gz.part")
    }

    fn with_part(self, bytes: &[u8]) -> Self {
        fs::create_dir_all(self.folder.path().join("set")).unwrap();
        fs::write(self.part(), bytes).unwrap();
        self
    }

    /// Runs the download, checking that progress never goes back but to begin anew, and ends with the whole.
    fn run(&self) -> Result<(), DataError> {
        let bytes = content().len() as u64;
        let file = RemoteFile { name: "file.gz", url: &self.server.url, bytes, sha256: &self.sha256 };
        let mut last = None;
        let result = fetch_files(&[file], &self.folder.path().join("set"), &mut |progress| {
            assert_eq!((progress.file, progress.total), ("file.gz", bytes));
            assert!(progress.done <= bytes);
            last = Some(progress.done);
        });
        if result.is_ok() {
            assert_eq!(last, Some(bytes));
        }
        result
    }

    /// Runs the download to success: the file is whole, nothing else is left, and these requests were made.
    fn succeed(&self, ranges: &[Option<usize>]) {
        self.run().unwrap();
        assert_eq!(fs::read(self.target()).unwrap(), content());
        assert!(!self.part().exists());
        assert_eq!(self.server.ranges(), ranges);
    }

    /// Runs the download to failure: there is no file under the final name.
    fn fail(&self) -> DataError {
        let error = self.run().unwrap_err();
        assert!(!self.target().exists());
        error
    }
}

fn honest() -> Download {
    Download::from(|from| Reply::honest(&content(), from))
}

#[test]
fn a_whole_file_arrives_and_is_not_asked_for_again() {
    let download = honest();
    download.succeed(&[None]);
    download.succeed(&[None]);
}

#[test]
fn a_partial_file_is_resumed() {
    honest().with_part(&content()[..70_000]).succeed(&[Some(70_000)]);
}

#[test]
fn a_complete_partial_file_needs_no_request() {
    honest().with_part(&content()).succeed(&[]);
}

#[test]
fn a_partial_file_that_is_too_long_is_begun_anew() {
    honest().with_part(&vec![0; 300_000]).succeed(&[None]);
}

#[test]
fn a_server_may_ignore_the_range() {
    let download = Download::from(|_| Reply::new(200, &content()));
    download.with_part(&[0; 50_000]).succeed(&[Some(50_000)]);
}

#[test]
fn a_server_may_refuse_the_range() {
    let download = Download::from(|from| match from {
        Some(_) => Reply::new(416, b""),
        None => Reply::new(200, &content()),
    });
    download.with_part(&content()[..50_000]).succeed(&[Some(50_000), None]);
}

#[test]
fn a_server_may_answer_with_another_range() {
    let download = Download::from(|from| Reply::honest(&content(), from.map(|from| from - 1)));
    download.with_part(&content()[..50_000]).succeed(&[Some(50_000), None]);
}

#[test]
fn a_broken_connection_keeps_what_arrived_and_the_next_call_goes_on() {
    let download = Download::from(|from| match from {
        Some(from) => Reply::honest(&content(), Some(from)),
        None => Reply { length: content().len(), ..Reply::new(200, &content()[..90_000]) },
    });
    let error = download.fail();
    assert!(matches!(error, DataError::Download { done: 90_000, total: 200_000, .. }), "{error:?}");
    assert!(error.to_string().contains("again to resume"));
    assert_eq!(fs::read(download.part()).unwrap(), content()[..90_000]);
    download.succeed(&[None, Some(90_000)]);
}

#[test]
fn a_file_shorter_than_promised_is_not_taken_for_whole() {
    let download = Download::from(|_| Reply::new(200, &content()[..90_000]));
    assert!(matches!(download.fail(), DataError::Download { done: 90_000, .. }));
}

#[test]
fn wrong_content_is_deleted() {
    let mut wrong = content();
    wrong[100_000] ^= 1;
    for wrong in [wrong, [content(), vec![0]].concat()] {
        let download = Download::from(move |from| Reply::honest(&wrong, from));
        let error = download.fail();
        assert!(matches!(error, DataError::Checksum { .. }), "{error:?}");
        assert!(error.to_string().contains("deleted"));
        assert!(!download.part().exists());
    }
}

#[test]
fn a_damaged_file_is_replaced_only_by_an_intact_one() {
    let download = honest().with_part(b"");
    fs::write(download.target(), b"damaged").unwrap();
    download.succeed(&[None]);
}

#[test]
fn a_refusal_is_named_and_leaves_nothing() {
    let download = Download::from(|_| Reply::new(404, b"<html>not here</html>"));
    let error = download.fail();
    assert!(matches!(error, DataError::Status { status: 404, .. }), "{error:?}");
    assert!(!download.part().exists());
}

#[test]
fn an_unreachable_server_is_named() {
    let mut download = honest();
    // Bound and let go: nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    download.server.url = format!("http://127.0.0.1:{port}/file");
    let error = download.fail();
    assert!(matches!(error, DataError::Download { done: 0, .. }), "{error:?}");
    assert!(error.to_string().contains(&download.server.url));
}

#[test]
fn a_second_process_is_sent_away() {
    let download = honest().with_part(b"");
    let held = fs::File::open(download.part()).unwrap();
    held.lock().unwrap();
    assert!(matches!(download.fail(), DataError::Busy { .. }));
    drop(held);
    download.succeed(&[None]);
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let download = honest();
    fs::write(download.folder.path().join("set"), "a file").unwrap();
    let error = download.fail();
    assert!(matches!(&error, DataError::Io { path, .. } if path.ends_with("set")), "{error:?}");
    assert!(error.to_string().contains("--data-dir"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named() {
    let download = honest().with_part(b"");
    fs::remove_file(download.part()).unwrap();
    std::os::unix::fs::symlink("/dev/full", download.part()).unwrap();
    let error = download.fail();
    assert!(
        matches!(&error, DataError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull),
        "{error:?}"
    );
    assert!(error.to_string().contains("free some space"), "{error}");
}

#[test]
fn only_downloadable_sets_are_fetched() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["digits", "no-such-set"] {
        let error = fetch(name, folder.path(), &mut |_| {}).unwrap_err();
        assert!(matches!(error, DataError::NoDownload { .. }), "{error:?}");
        assert!(error.to_string().contains("mnist, fashion-mnist, cifar10, cifar100"));
    }
}
