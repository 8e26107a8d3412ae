//! A web server for one test: it answers as it is told, and remembers which ranges were asked for.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

pub(crate) struct Reply {
    pub(crate) status: u16,
    /// As the header names it; more than `body` holds makes the connection break early.
    pub(crate) length: usize,
    pub(crate) content_range: Option<String>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn new(status: u16, body: &[u8]) -> Self {
        Self { status, length: body.len(), content_range: None, body: body.to_vec() }
    }

    /// The answer of a server that does it right.
    pub(crate) fn honest(content: &[u8], from: Option<usize>) -> Self {
        match from {
            None => Self::new(200, content),
            Some(from) if from >= content.len() => Self::new(416, b""),
            Some(from) => {
                let range = format!("bytes {from}-{}/{}", content.len() - 1, content.len());
                Self { content_range: Some(range), ..Self::new(206, &content[from..]) }
            }
        }
    }
}

pub(crate) struct Server {
    pub(crate) url: String,
    ranges: Arc<Mutex<Vec<Option<usize>>>>,
}

impl Server {
    /// Answers every request with what `reply` makes of the first byte asked for. Lives as long as the process.
    pub(crate) fn start(reply: impl Fn(Option<usize>) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/file", listener.local_addr().unwrap());
        let ranges = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&ranges);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                let from = requested(&connection);
                seen.lock().unwrap().push(from);
                // A client may hang up before it has everything.
                let _ = answer(connection, &reply(from));
            }
        });
        Self { url, ranges }
    }

    /// The ranges asked for so far: their first bytes, `None` for a request of the whole file.
    pub(crate) fn ranges(&self) -> Vec<Option<usize>> {
        self.ranges.lock().unwrap().clone()
    }
}

fn requested(connection: &TcpStream) -> Option<usize> {
    let lines = BufReader::new(connection).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let lines: Vec<String> = lines.map(|line| line.to_ascii_lowercase()).collect();
    let range = lines.iter().find_map(|line| line.strip_prefix("range: bytes="))?;
    range.trim_end_matches('-').parse().ok()
}

fn answer(mut connection: TcpStream, reply: &Reply) -> std::io::Result<()> {
    let Reply { status, length, content_range, body } = reply;
    let range = content_range.as_ref().map_or(String::new(), |range| format!("Content-Range: {range}\r\n"));
    write!(connection, "HTTP/1.1 {status} Status\r\nContent-Length: {length}\r\n{range}Connection: close\r\n\r\n")?;
    connection.write_all(body)
}
