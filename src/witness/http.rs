//! As much HTTP/1.1 as one POST takes, for both its ends: a request with a length, a reply, and the connection is over.
//! Everything has a limit and a deadline, for anybody may connect.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use crate::ledger::note::NOTE_MAX;

/// A whole request or reply, from its first byte to its last.
const DEADLINE: Duration = Duration::from_secs(10);

const HEAD_MAX: u64 = 8 * 1024;

/// A checkpoint and the longest of proofs.
const BODY_MAX: usize = NOTE_MAX + 4096;

#[derive(Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub body: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    /// The type of the body.
    kind: &'static str,
    pub body: String,
}

impl Reply {
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", body: body.into() }
    }

    /// 409: how large the log is that was signed last.
    pub fn size(size: u64) -> Self {
        Self { status: 409, kind: "text/x.tlog.size", body: format!("{size}\n") }
    }

    fn reason(&self) -> &'static str {
        match self.status {
            200 => "OK",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            409 => "Conflict",
            411 => "Length Required",
            413 => "Content Too Large",
            422 => "Unprocessable Content",
            500 => "Internal Server Error",
            _ => "Bad Request",
        }
    }
}

/// A stream that is read until a moment, however slowly its bytes come.
struct Until<'a> {
    stream: &'a TcpStream,
    end: Instant,
}

impl Read for Until<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        let mut stream = self.stream;
        stream.read(buffer)
    }
}

/// Reads a request, or says what is wrong with it.
pub fn read(stream: &mut TcpStream) -> Result<Request, Reply> {
    let bad = |why: &str| Reply::text(400, format!("{why}\n"));
    let mut reader = BufReader::new(Until { stream, end: Instant::now() + DEADLINE });
    let (first, length) = head(&mut reader).map_err(|e| match e.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Reply::text(408, "too slow\n"),
        _ => bad("this is not HTTP"),
    })?;
    let mut words = first.split(' ');
    let (Some(method), Some(path), Some(version)) = (words.next(), words.next(), words.next()) else {
        return Err(bad("this is not HTTP"));
    };
    if !version.starts_with("HTTP/1.") {
        return Err(bad("only HTTP/1.1"));
    }
    let length = match length {
        Some(length) if length > BODY_MAX => return Err(Reply::text(413, "too long\n")),
        Some(length) => length,
        None if method == "POST" => return Err(Reply::text(411, "how long is it?\n")),
        None => 0,
    };
    let mut body = vec![0; length];
    reader.read_exact(&mut body).map_err(|_| bad("it ends in its middle"))?;
    Ok(Request { method: method.to_owned(), path: path.to_owned(), body })
}

/// The first line, and the length that the header fields tell.
fn head(reader: &mut impl BufRead) -> io::Result<(String, Option<usize>)> {
    let mut reader = reader.take(HEAD_MAX);
    let mut line = || {
        let mut bytes = Vec::new();
        reader.read_until(b'\n', &mut bytes)?;
        let text = bytes.strip_suffix(b"\n").ok_or(io::ErrorKind::InvalidData)?;
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        Ok::<_, io::Error>(String::from_utf8_lossy(text).into_owned())
    };
    let first = line()?;
    let mut length = None;
    loop {
        let field = line()?;
        if field.is_empty() {
            return Ok((first, length));
        }
        let (name, value) = field.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
        if name.eq_ignore_ascii_case("content-length") {
            let value = value.trim().parse().map_err(|_| io::ErrorKind::InvalidData)?;
            // Two lengths are how requests are smuggled.
            if length.replace(value).is_some_and(|before| before != value) {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

pub fn write(stream: &mut TcpStream, reply: &Reply) -> io::Result<()> {
    stream.set_write_timeout(Some(DEADLINE))?;
    let Reply { status, kind, body } = reply;
    let head = format!(
        "HTTP/1.1 {status} {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        reply.reason(),
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    stream.flush()
}

/// Why nothing was answered.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    #[error("`{0}` is not http://HOST[:PORT][/PATH]")]
    Url(String),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the answer is not HTTP")]
    NotHttp,
}

/// Posts `body` to `url` and `path`; the status and the body of the answer.
pub fn post(url: &str, path: &str, body: &[u8]) -> Result<(u16, String), PostError> {
    let wrong = || PostError::Url(url.to_owned());
    let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
    let (host, prefix) = rest.split_once('/').map_or((rest, String::new()), |(host, path)| (host, format!("/{path}")));
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
    if host.is_empty() || !plain(host) || !plain(&prefix) {
        return Err(wrong());
    }
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
    let target = if has_port { host.to_owned() } else { format!("{host}:80") };
    let mut failed = io::Error::from(io::ErrorKind::NotFound);
    let mut stream = None;
    for address in target.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, DEADLINE) {
            Ok(open) => {
                stream = Some(open);
                break;
            }
            Err(e) => failed = e,
        }
    }
    let mut stream = stream.ok_or(failed)?;
    stream.set_write_timeout(Some(DEADLINE))?;
    let prefix = prefix.trim_end_matches('/');
    let head = format!(
        "POST {prefix}{path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: sealdrop\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut reader = BufReader::new(Until { stream: &stream, end: Instant::now() + DEADLINE });
    let (first, length) = self::head(&mut reader)?;
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(PostError::NotHttp)?;
    let mut answer = Vec::new();
    let most = length.unwrap_or(BODY_MAX).min(BODY_MAX);
    reader.take(most as u64).read_to_end(&mut answer)?;
    Ok((status, String::from_utf8_lossy(&answer).into_owned()))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn asked(bytes: &'static [u8]) -> Result<Request, Reply> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(bytes).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
        });
        let read = read(&mut listener.accept().unwrap().0);
        client.join().unwrap();
        read
    }

    #[test]
    fn a_request_is_read_and_what_is_none_is_answered() {
        let read = asked(b"POST /add-checkpoint HTTP/1.1\r\ncontent-length: 3\r\nX: y\r\n\r\nabcdef").unwrap();
        assert_eq!(
            (read.method.as_str(), read.path.as_str(), &read.body[..]),
            ("POST", "/add-checkpoint", &b"abc"[..])
        );
        for (bytes, status) in [
            (&b"\x16\x03\x01"[..], 400),
            (b"POST / HTTP/1.1\r\n\r\n", 411),
            (b"POST / HTTP/2\r\nContent-Length: 0\r\n\r\n", 400),
            (b"POST / HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n", 413),
            (b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab", 400),
            (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        ] {
            assert_eq!(asked(bytes).unwrap_err().status, status);
        }
    }

    #[test]
    fn only_what_can_be_posted_to_is_a_url() {
        for url in ["https://a", "http://", "a", "http://a b/"] {
            assert!(matches!(post(url, "/x", b""), Err(PostError::Url(_))), "{url}");
        }
    }
}
